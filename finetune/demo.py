"""The demonstration: NER with a CRF and a classification, on labels that rules made from the built-in corpus."""

from dataclasses import dataclass, replace
from pathlib import Path

from bert.training.tracking import TrackingConfig
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
    """Train both, one after the other; what is finished is left alone."""
    for name, task in TASKS_SHOWN.items():
        print(f"\n--- {name} on labels made from the built-in corpus ---")
        output = str(Path(config.output) / name)
        defaults = FinetuneConfig()
        train(replace(defaults, task=task, init=config.init, output=output, tracking=TrackingConfig()))
