"""Fine-tuning a pretrained encoder: labelled files, tasks, heads, metrics, predictions."""
