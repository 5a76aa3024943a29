"""Pretraining: python run.py [VERB] [options]; python run.py --help lists the verbs."""

import sys

from bert.cli import Verb, main
from bert.inspection.attention import AttentionConfig, show_attention
from bert.inspection.embed import EmbedConfig, embed
from bert.inspection.fill_mask import FillMaskConfig, print_filled
from bert.serving.export import ExportServedConfig, export_served
from bert.training.config import BATCH_OPTIONS, BUDGET_OPTIONS
from bert.training.tracking import SyncConfig, print_synced
from pretrain.ablation.ablate import ablate
from pretrain.ablation.grid import AblateConfig
from pretrain.config import PretrainConfig
from pretrain.launch import audit_only, pretrain
from pretrain.options import BROUGHT_BY_INIT, TOKENIZER_OPTIONS

REPLACING = {
    "alternatives": (BUDGET_OPTIONS, BATCH_OPTIONS, TOKENIZER_OPTIONS),
    "replaces": {"init": BROUGHT_BY_INIT},
}

VERBS = {
    "pretrain": Verb(PretrainConfig, pretrain, **REPLACING, ranks=True),
    "audit": Verb(PretrainConfig, audit_only, **REPLACING, about="See what the sampler really does."),
    "ablate": Verb(AblateConfig, ablate, trees=("base",)),
    "fill-mask": Verb(FillMaskConfig, print_filled, positional="text"),
    "embed": Verb(EmbedConfig, embed),
    "attention": Verb(AttentionConfig, show_attention, positional="text"),
    "export-served": Verb(ExportServedConfig, export_served),
    "sync": Verb(SyncConfig, print_synced),
}

if __name__ == "__main__":
    sys.exit(
        main(
            "run.py",
            "Pretrain a BERT from scratch, and look at what it learned.",
            VERBS,
            "pretrain",
            sys.argv[1:],
        )
    )
