"""Fine-tuning: python run_finetune.py [VERB] [options]; python run_finetune.py --help lists the verbs."""

import sys

from bert.cli import Verb, main
from bert.training.config import BUDGET_OPTIONS
from finetune.config import EvaluateConfig, FinetuneConfig, PredictConfig
from finetune.demo import DemoConfig, demo
from finetune.launch import check_only
from finetune.options import OF_PRETRAINING
from finetune.predict import OF_TRAINING, evaluate_file, predict_file
from finetune.seeds import train

CHECKING = "Read a run's options, files and model (not with --init later), say what is in them, and train nothing."

VERBS = {
    "train": Verb(FinetuneConfig, train, alternatives=(BUDGET_OPTIONS,), unused=OF_PRETRAINING, ranks=True),
    "check": Verb(FinetuneConfig, check_only, alternatives=(BUDGET_OPTIONS,), about=CHECKING, unused=OF_PRETRAINING),
    "evaluate": Verb(EvaluateConfig, evaluate_file, unused=OF_TRAINING),
    "predict": Verb(PredictConfig, predict_file),
    "demo": Verb(DemoConfig, demo),
}

if __name__ == "__main__":
    arguments = sys.argv[1:] or ["demo"]
    sys.exit(main("run_finetune.py", "Teach a pretrained BERT a task.", VERBS, "train", arguments))
