"""What every fine-tuning task shares: an encoder, a label set, and how they are written and read."""

from abc import abstractmethod
from pathlib import Path

from safetensors.torch import load_file, save_file

from bert import hub
from bert.config import ModelConfig
from bert.errors import UserError
from bert.model import Bert
from bert.packed import PackedBatch
from bert.tokenizer import Tokenizer
from bert.training.objective import Objective
from finetune.config import TaskConfig
from finetune.examples import Labelled, Tagged
from finetune.features import Feature

_EXTRA = "heads.safetensors"


class Task(Objective):
    """An encoder with a head for labelled data.

    Attributes:
        labels: the label set of the training data; a label's id is its place.
        judged: the examples whose rows `score` is given; set before an evaluation.
        best: the metric that decides which weights are the best, unless another is named.
    """

    architecture: str
    best: str
    pooler: bool

    def __init__(
        self,
        config: ModelConfig,
        tokenizer: Tokenizer,
        labels: list[str],
        task: TaskConfig,
        max_length: int,
        attention: str = "sdpa",
    ) -> None:
        super().__init__()
        self.bert = Bert(config, pooler=self.pooler, attention=attention)
        self.tokenizer, self.labels, self.task, self.max_length = tokenizer, labels, task, max_length
        self.label_ids = {label: number for number, label in enumerate(labels)}
        self.judged: list[Labelled | Tagged] = []

    @abstractmethod
    def features(self, examples: list, first: int = 0) -> list[Feature]:
        """The sequences of examples, numbered from `first`."""

    @abstractmethod
    def pack(self, features: list[Feature], examples: list) -> PackedBatch:
        """A batch of features with the targets of their examples, where these have labels."""

    @abstractmethod
    def predictions(self, examples: list, rows: list) -> list[dict]:
        """What prediction writes for each example, from its rows of `predict`."""

    def report(self) -> tuple[str, dict[str, list]]:
        """The last evaluation's classes as text, and as columns for a table."""
        return "", {}

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
        hub.load_weights(folder, self, absent_allowed=beside)
        if beside:
            if not (folder / _EXTRA).is_file():
                raise UserError(f"'{folder}' has no {_EXTRA}, where the CRF's transitions lie.")
            self.load_state_dict(load_file(folder / _EXTRA), strict=False)

    def start_from(self, folder: Path) -> str:
        """Take up a pretrained encoder; says what is new and what was not needed."""
        head = tuple(name for name in self.state_dict() if name.startswith(("head.", "bert.pooler.")))
        unused = hub.load_weights(folder, self, absent_allowed=head)
        left = sorted({name.rpartition(".")[0] if name.startswith("bert.") else name.split(".")[0] for name in unused})
        return f"{folder}: encoder taken; new: the head; not needed: {', '.join(left) or 'nothing'}"


def _is_extra(name: str) -> bool:
    return ".crf." in name
