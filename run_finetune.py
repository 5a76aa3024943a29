"""Fine-tuning: python run_finetune.py [VERB] [options]; python run_finetune.py --help lists the verbs."""

import sys

from bert.cli import Verb, main
from finetune.config import FinetuneConfig
from finetune.launch import train
from finetune.predict import EvaluateConfig, PredictConfig, evaluate_file, predict_file

VERBS = {
    "train": Verb(FinetuneConfig, train),
    "evaluate": Verb(EvaluateConfig, evaluate_file),
    "predict": Verb(PredictConfig, predict_file),
}

if __name__ == "__main__":
    sys.exit(main("run_finetune.py", "Teach a pretrained BERT a task.", VERBS, "train", sys.argv[1:]))
