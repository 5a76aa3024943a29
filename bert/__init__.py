"""What pretraining and fine-tuning share: the encoder, its batches, its files and the training loop."""
