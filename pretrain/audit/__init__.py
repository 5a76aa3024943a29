"""What the sampler really does: measured from its blocks, and held against what was asked, before an hour is spent."""
