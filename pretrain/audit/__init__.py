"""What the sampler really does: measured on its blocks, and compared with what was asked for, before training."""
