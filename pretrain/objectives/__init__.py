"""What a pretraining run learns from its batches."""

from pretrain.objectives import masked_lm

OBJECTIVES = {"masked_lm": masked_lm.MaskedLM}
