"""What every fine-tuning task shares: an encoder, a label set, and how they are saved and loaded."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from bert import hub
from bert.config import ModelConfig
from bert.flops import training_flops
from bert.model import BertModel
from bert.packed import PackedBatch
from bert.tokenizer import Tokenizer
from bert.training.objective import Objective, Row
from finetune.features import Feature
from finetune.metrics import Counts

if TYPE_CHECKING:
    from finetune.config import FinetuneConfig, TaskConfig  # which read the table of tasks


@dataclass(frozen=True)
class Baseline:
    """A constant answer: a model that does no better has learned nothing.

    Attributes:
        answer: in words.
        scores: some of those of `score`, by name.
    """

    answer: str
    scores: dict[str, float]

    def in_words(self) -> str:
        """The answer, and its scores."""
        return f"{self.answer} has {', '.join(f'{name} {value:.4f}' for name, value in self.scores.items())}"


@dataclass(frozen=True)
class Mistake:
    """An example that was predicted wrongly.

    Attributes:
        place: where to find it in its file, as `Task.found_by` says.
        texts: what it is made of, a column each of `Task.text_columns`.
        gold, predicted: in readable form.
        confidence: the higher, the surer the model was; comparable only within a task.
    """

    place: int | str
    texts: tuple[str, ...]
    gold: str
    predicted: str
    confidence: float


@dataclass(frozen=True)
class Findings:
    """What an evaluation finds besides scores.

    Attributes:
        table: each class's counts; empty where there are no classes.
        mistakes: the examples that were predicted wrongly.
        draw: writes a picture of gold and predicted labels to a path.
    """

    table: dict[str, Counts]
    mistakes: list[Mistake]
    draw: Callable[[Path], None]


class Task(Objective):
    """An encoder with a head for labelled data.

    Attributes:
        kind: the kind of its examples, one of example_kinds.KINDS.
        options: those of config.TaskConfig that belong to it, and maybe to other tasks too; what no task names belongs
            to all.
        head_options: those of them that its head's parameters depend on.
        pair_segments: how many segments a pair of texts has in a sequence; 1 where each text is read on its own.
        metrics: the scores by which the best weights may be chosen; bert/training/metric.py has their endings.
        best: the one by which they are chosen unless another is named.
        architecture: the transformers class that opens the exported folder.
        beside: prefixes of the names of parameters that this class has no place for.
        described: what else it needs in config.json.
        picture: the name of the file for the picture in `Findings`.
        sureness: what a mistake's confidence measures.
        found_by: what a mistake's place in its file is.
        text_columns: what its texts are.
        labels: the label set of the training data; a label's id is its index.
        precision: training's option, which also holds for evaluation and prediction; auto depends on the device.
        read_as: how its training data was read (finetune.reading.reading); empty where unknown.
    """

    kind: str
    options: tuple[str, ...] = ()
    head_options: tuple[str, ...] = ()
    pair_segments: int = 2
    metrics: tuple[str, ...]
    best: str
    architecture: str
    beside: tuple[str, ...] = ()
    described: ClassVar[dict[str, str]] = {}
    pooler: bool
    picture = "confusion_matrix.png"
    sureness = "probability"
    found_by = "line"
    text_columns: tuple[str, ...] = ("text",)

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: Tokenizer,
        labels: list[str],
        task: "TaskConfig",
        max_length: int,
        attention: str = "sdpa",
        overlap: int | None = None,
    ) -> None:
        super().__init__()
        self.bert = BertModel(config, pooler=self.pooler, attention=attention)
        self.tokenizer, self.labels, self.task = tokenizer, labels, task
        self.max_length, self.overlap = max_length, overlap
        self.label_ids = {label: number for number, label in enumerate(labels)}
        self.weights = {"loss": 1.0}
        self.precision = "auto"
        self.read_as: dict[str, str | None] = {}

    @classmethod
    def check(cls, config: "FinetuneConfig") -> list[str]:
        """What is wrong with a run's options for this task, a line each; nothing is read from disk."""
        return []

    @classmethod
    def check_labels(cls, config: "FinetuneConfig", labels: list[str]) -> list[str]:
        """What is wrong with a run's options for the label set of its training data, a line each."""
        return []

    @classmethod
    def scores(cls, task: "TaskConfig", labels: list[str], examples: list) -> list[str]:
        """The names of all scores that an evaluation on these examples gives; `labels` are the training data's."""
        return ["loss", *cls.metrics]

    @classmethod
    def refuse_unfit(cls, task: "TaskConfig", folder: hub.ModelFolder) -> None:
        """Check that a pretrained folder has what the options need, before a model is made from it.

        Raises:
            UserError: it does not.
        """

    @property
    def outputs(self) -> list[str]:
        """What the head's outputs stand for, in their order."""
        return self.labels

    @abstractmethod
    def features(self, examples: list) -> list[Feature]:
        """The sequences of examples; each has its example's index in the list.

        They are shuffled individually: what must stay together is one feature, from which `pack` may make several
        sequences.
        """

    @abstractmethod
    def pack(self, features: list[Feature], examples: list) -> PackedBatch:
        """A batch of features, with the targets of their examples if these have labels."""

    @abstractmethod
    def compute(self, batch: PackedBatch) -> Tensor:
        """One forward pass: what both losses and predictions are computed from."""

    @abstractmethod
    def sums(self, computed: Tensor, batch: PackedBatch) -> dict[str, Tensor]:
        """The sums of `forward`, from `compute`'s result."""

    @abstractmethod
    def rows(self, computed: Tensor, batch: PackedBatch) -> list[Row]:
        """The rows of `predict`, likewise."""

    def forward(self, batch: PackedBatch) -> dict[str, Tensor]:
        """Sums over the batch's labels."""
        return self.sums(self.compute(batch), batch)

    def predict(self, batch: PackedBatch) -> list[Row]:
        """What scores and predictions need from each sequence; no labels are needed."""
        return self.rows(self.compute(batch), batch)

    def judge(self, batch: PackedBatch) -> tuple[dict[str, Tensor], list[Row]]:
        """Both, from one forward pass."""
        computed = self.compute(batch)
        return self.sums(computed, batch), self.rows(computed, batch)

    @abstractmethod
    def score(self, examples: list, features: list[Feature], rows: list[Row]) -> tuple[dict[str, float], Findings]:
        """Metrics over a whole split, and what else it shows, from the rows of `judge`, one for each feature."""

    @abstractmethod
    def predictions(self, examples: list, features: list[Feature], rows: list[Row]) -> list[dict]:
        """What the verb predict writes for each example, from the rows of `predict`, one for each feature."""

    @abstractmethod
    def in_words(self, prediction: dict) -> str:
        """A prediction as a readable line."""

    def learn_from(self, examples: list) -> None:
        """Take from the training data what the loss, or a fresh head, needs; what predictions need must be saved."""

    def in_short(self, examples: list, features: list[Feature]) -> str:
        """What the user should know before training; empty for most tasks."""
        return ""

    @abstractmethod
    def baseline(self, learned: list, judged: list) -> Baseline:
        """The scores of a constant answer, the best one on the training examples.

        Args:
            learned: the training examples.
            judged: those to score.
        """

    def depth(self, name: str) -> int:
        """0 for the head, 1 for the top layer and the pooler, one more for each layer below."""
        return self.bert.depth(name)

    def flops(self, batch: PackedBatch) -> float:
        """Operations of the encoder's matrix products, beside which a head's are negligible. Where parts are frozen
        nothing is counted."""
        if self.bert.frozen:
            return 0.0
        return training_flops(self.bert.config, batch, pooler=self.pooler)

    def export(self, folder: Path) -> None:
        """Write a Hugging Face folder, with what its class has no place for beside it (`beside`)."""
        ours = {"task": vars(self.task), "labels": self.labels, "max_length": self.max_length, "overlap": self.overlap}
        ours |= {"data": self.read_as, "precision": self.precision}
        extra = {**self.described, "id2label": dict(enumerate(self.outputs)), "bert_research": ours}
        extra["label2id"] = {name: number for number, name in enumerate(self.outputs)}
        hub.save_config(folder, self.bert.config, self.architecture, **extra)
        hub.save_weights(folder, self, beside=self.beside)
        self.tokenizer.save(folder, self.max_length)

    def restore(self, folder: Path) -> None:
        """Load the weights that `export` wrote there."""
        hub.load_weights(folder, self, beside=self.beside)

    def start_from(self, folder: Path) -> str:
        """Load a pretrained encoder; returns a line on what is new and what was not needed."""
        names = (name.partition(".") for name in self.state_dict() if not name.startswith("bert."))
        own = tuple(dict.fromkeys(f"{part}{dot}" for part, dot, _ in names))
        return hub.load_weights(folder, self, ("bert.pooler.",), own).in_words()


def label_smoothing_faults(task: "TaskConfig") -> list[str]:
    """What is wrong with task.label_smoothing, for the tasks that have it."""
    if 0 <= task.label_smoothing < 1:
        return []
    return [f"task.label_smoothing: {task.label_smoothing}, but it must be at least 0 and below 1."]
