"""The demonstration: NER with a CRF, and classification, on rule-made labels from the built-in corpus."""

from dataclasses import dataclass
from pathlib import Path

from bert.training.config import TrainingConfig
from finetune.config import FinetuneConfig, TaskConfig
from finetune.launch import train

TASKS_SHOWN = {
    "ner": TaskConfig(name="ner", head="crf", unit="word"),
    "classification": TaskConfig(name="classification"),
}


@dataclass(frozen=True)
class DemoConfig:
    """Fine-tune the demo's BERT: NER with a CRF, then a classification (also without any argument)."""

    init: str = "runs/pretrain"
    """The folder to start from; `python run.py` leaves it there."""

    output: str = "runs"
    """Where the folders ner/ and classification/ go."""


def demo(config: DemoConfig) -> None:
    """Train both, one after the other; a finished one is left alone."""
    for name, task in TASKS_SHOWN.items():
        print(f"\n--- {name} on labels made from the built-in corpus ---")
        output = str(Path(config.output) / name)
        # The demo's BERT is small: a base model needs a fifth of this learning rate, and fewer epochs.
        training = TrainingConfig(epochs=10 if name == "ner" else 4, batch_size=32, lr=5e-4, save_every=1000)
        train(FinetuneConfig(task=task, init=config.init, training=training, output=output))
