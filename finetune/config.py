"""Everything a fine-tuning run is told."""

from dataclasses import dataclass, field
from typing import Literal

from bert.training.config import TrainingConfig
from bert.training.tracking import TrackingConfig
from finetune.formats import FORMATS
from finetune.heads import HEADS
from finetune.schemes import SCHEMES
from finetune.units import UNITS

TASK_NAMES = ("classification", "ner")


@dataclass(frozen=True)
class TaskConfig:
    """What is learned."""

    name: Literal[*TASK_NAMES] = "classification"
    """classification: one label for a text or a pair of texts. ner: entities in a text."""

    head: Literal[*HEADS] = "linear"
    """ner: linear tags each unit on its own, crf the whole sequence."""

    unit: Literal[*UNITS] = "wordpiece"
    """ner: what carries a tag: the tokenizer's pieces; single characters, each a token of its own; or words between
    spaces, by their first piece, as CoNLL files have them. Where entities end inside words, as in Korean, pieces and
    words straddle their ends; the run prints how much that costs at best."""

    scheme: Literal[*SCHEMES] = "iob2"
    """ner: how the file's tags are meant."""


@dataclass(frozen=True)
class DataConfig:
    """Labelled files."""

    train: str = "builtin"
    """What is learned from. `builtin` is a demonstration made from the documentation inside the Python interpreter."""

    eval: str | None = None
    """What the model is judged by after each epoch. Not needed with builtin."""

    format: Literal["auto", *FORMATS] = "auto"
    """What the files hold. auto: by the file's ending; for ner, nemo where the name begins with `text` and a file with
    `labels` for it lies beside, klue where lines begin with ##, else conll."""

    text: str | None = None
    """Tables: the column with the text, by name; by number from 1 where the file has no header line. By default `text`.
    conll: the word's column, by number; by default the first."""

    text_pair: str | None = None
    """Tables: the column with the second text, for pairs."""

    label: str | None = None
    """Tables: the column with the label, by default `label`. conll: the tag's, by number; by default the last."""

    quoting: Literal["auto", "on", "off"] = "auto"
    """tsv and csv: whether quotation marks enclose fields (on), or are text like any other (off). auto: on for csv, off
    for tsv."""

    max_length: int = 128
    """Tokens in a sequence at most, special ones included. A longer text is cut (classification) or read in several
    sequences (ner)."""

    on_bad_row: Literal["error", "skip"] = "error"
    """error: a row that is not what it should be stops the run, before training. skip: it is left out and counted."""


def _training() -> TrainingConfig:
    return TrainingConfig(batch_size=32, lr=None, save_every=1000)


@dataclass(frozen=True)
class FinetuneConfig:
    """Fine-tune a pretrained BERT."""

    task: TaskConfig = field(default_factory=TaskConfig)
    data: DataConfig = field(default_factory=DataConfig)

    init: str = "runs/pretrain"
    """The folder to start from: a run's output, its best/, or one of its checkpoints/, also while it goes on. none
    starts from random weights, for comparison, with the tokenizer and sizes of `like`."""

    like: str | None = None
    """With init=none: the folder whose tokenizer and model sizes are used."""

    best: str | None = None
    """The metric that decides which epoch's weights are kept as the result; by default macro_f1 (classification) or
    entity_macro_f1 (ner)."""

    training: TrainingConfig = field(default_factory=_training)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    accept_changes: list[str] = field(default_factory=list)
    """Go on with a run although these differ from how it began: options, or corpus, tokenizer and the like, by the
    names that the refusal gives. What it reaches is then no longer what either configuration says."""

    output: str = "runs/finetune"
    """The run's folder: the best model in the Hugging Face format, checkpoints, metrics."""
