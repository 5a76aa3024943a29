"""What every fine-tuning task shares: an encoder, a label set, and how they are written and read."""

from abc import abstractmethod
from pathlib import Path

from safetensors.torch import load_file, save_file

from bert import hub
from bert.config import ModelConfig
from bert.errors import UserError
from bert.flops import training_flops
from bert.model import BertModel
from bert.packed import PackedBatch
from bert.tokenizer import Tokenizer
from bert.training.objective import Objective, Row
from finetune.config import TaskConfig
from finetune.examples import Labelled, Tagged
from finetune.features import Feature
from finetune.metrics import Counts

_EXTRA = "heads.safetensors"


class Task(Objective):
    """An encoder with a head for labelled data.

    Attributes:
        metrics: the names that `score` gives.
        best: the one that decides which weights are the best, unless another is named.
        architecture: the transformers class that opens the exported folder.
        labels: the label set of the training data; a label's id is its place.
        judged: examples and features whose rows `score` is given; set before an evaluation.
        table: each class's counts in the last evaluation.
        confusion: how often what stood in the gold (rows) was predicted as what (columns), and their names.
    """

    metrics: tuple[str, ...]
    best: str
    architecture: str
    pooler: bool

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: Tokenizer,
        labels: list[str],
        task: TaskConfig,
        max_length: int,
        attention: str = "sdpa",
        gradient_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.bert = BertModel(config, self.pooler, attention, gradient_checkpointing)
        self.tokenizer, self.labels, self.task, self.max_length = tokenizer, labels, task, max_length
        self.label_ids = {label: number for number, label in enumerate(labels)}
        self.weights = {"loss": 1.0}
        self.judged: tuple[list[Labelled | Tagged], list[Feature]] = ([], [])
        self.table: dict[str, Counts] = {}
        self.confusion: tuple[list[list[int]], list[str]] = ([], [])

    @abstractmethod
    def features(self, examples: list) -> list[Feature]:
        """The sequences of examples; each knows its example's place in the list."""

    @abstractmethod
    def pack(self, features: list[Feature], examples: list) -> PackedBatch:
        """A batch of features with the targets of their examples, where these have labels."""

    @abstractmethod
    def predictions(self, examples: list, features: list[Feature], rows: list[Row]) -> list[dict]:
        """What prediction writes for each example, from the rows of `predict`, one for each feature."""

    @abstractmethod
    def in_words(self, prediction: dict) -> str:
        """A prediction as a line to read."""

    def flops(self, batch: PackedBatch) -> float:
        """Operations of the encoder's matrix products; a head is next to nothing beside them."""
        return training_flops(self.bert.config, batch, pooler=self.pooler)

    def export(self, folder: Path) -> None:
        """Write a Hugging Face folder; what its class has no place for lies in heads.safetensors."""
        names = dict(enumerate(self.labels))
        extra = {"id2label": names, "label2id": self.label_ids, "bert_research": {"task": vars(self.task)}}
        extra["bert_research"]["max_length"] = self.max_length
        hub.save_config(folder, self.bert.config, self.architecture, **extra)
        beside = {name: tensor.contiguous() for name, tensor in self.state_dict().items() if _is_extra(name)}
        hub.save_weights(folder, self, leave_out=tuple(beside))
        if beside:
            save_file({name: tensor.detach().cpu() for name, tensor in beside.items()}, folder / _EXTRA)
        self.tokenizer.save(folder, self.bert.config.max_position_embeddings)

    def restore(self, folder: Path) -> None:
        """Take up the weights that `export` wrote there."""
        beside = tuple(name for name in self.state_dict() if _is_extra(name))
        hub.load_weights(folder, self, not_taken=beside)
        if beside:
            if not (folder / _EXTRA).is_file():
                raise UserError(f"'{folder}' has no {_EXTRA}, where the CRF's transitions lie.")
            self.load_state_dict(load_file(folder / _EXTRA), strict=False)

    def start_from(self, folder: Path) -> str:
        """Take up a pretrained encoder; says what is new and what was not needed."""
        return hub.load_weights(folder, self, ("bert.pooler.",), ("head.",)).in_words()


def _is_extra(name: str) -> bool:
    return ".crf." in name
