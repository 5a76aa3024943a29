"""The objectives a pretraining run may train on."""

from pretrain.objectives import masked_lm

OBJECTIVES = {"masked_lm": masked_lm.MaskedLM}
