"""One label for a text or a pair (Devlin et al. 2019, section 4.1).

Letters: N sequences, H width, C classes.
"""

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert.dropout import Dropout
from bert.packed import PackedBatch
from bert.targets import PerSequence
from bert.training.objective import Row
from finetune import metrics, pictures
from finetune.example_kinds import Labelled
from finetune.features import Feature, of_labelled, pack
from finetune.heads.precise import PreciseLinear
from finetune.tasks.task import Baseline, Findings, Mistake, Task, label_smoothing_faults

if TYPE_CHECKING:
    from finetune.config import FinetuneConfig


class Classification(Task):
    """A linear layer on the pooled first token, with dropout before it as on every other layer's output."""

    kind = "labels"
    options = ("class_weights", "label_smoothing")
    metrics = ("accuracy", "micro_f1", "macro_f1")
    best = "macro_f1"
    targets: ClassVar = {"example": PerSequence(), "class_labels": PerSequence()}
    architecture = "BertForSequenceClassification"
    pooler = True

    def __init__(self, config, *rest, **named) -> None:
        super().__init__(config, *rest, **named)
        self.dropout = Dropout(config.hidden_dropout_prob)
        linear = PreciseLinear(config.hidden_size, len(self.labels), config.initializer_range)
        self.head = nn.ModuleDict({"classifier": linear})
        self.class_weights: Tensor | None = None

    @classmethod
    def check(cls, config: "FinetuneConfig") -> list[str]:
        """The share of smoothing."""
        return label_smoothing_faults(config.task)

    def features(self, examples: list[Labelled]) -> list[Feature]:
        """One sequence for each example; a long text is truncated."""
        return of_labelled(examples, self.tokenizer, self.max_length)

    def pack(self, features: list[Feature], examples: list[Labelled]) -> PackedBatch:
        """Targets: class_labels (N,)."""
        batch = pack(features)
        labels = [examples[feature.example].label for feature in features]
        if None not in labels:
            batch.targets["class_labels"] = torch.tensor([self.label_ids[label] for label in labels])
        return batch

    def learn_from(self, examples: list[Labelled]) -> None:
        """Set each class's weight: rows / (classes x rows of the class), 1 on average (King and Zeng 2001).

        The weights are on the head's current device.
        """
        if self.task.class_weights == "balanced":
            counts = Counter(example.label for example in examples)
            rows = [len(examples) / (len(counts) * counts[label]) for label in self.labels]
            self.class_weights = torch.tensor(rows, device=self.head["classifier"].weight.device)

    def counts(self, batch: PackedBatch) -> dict[str, float]:
        """N."""
        return {"loss": batch.num_sequences, "accuracy": batch.num_sequences}

    def compute(self, batch: PackedBatch) -> Tensor:
        """(N, C)."""
        return self.head["classifier"](self.dropout(self.bert.pool(batch)))

    def sums(self, logits: Tensor, batch: PackedBatch) -> dict[str, Tensor]:
        """Summed cross-entropy in nats, in training weighted and smoothed as set, and the number correct."""
        gold = batch.targets["class_labels"]
        right = (logits.detach().argmax(-1) == gold).sum()
        weights = None if self.class_weights is None or not self.training else self.class_weights
        smoothing = self.task.label_smoothing if self.training else 0.0
        loss = F.cross_entropy(logits, gold, weights, reduction="sum", label_smoothing=smoothing)
        return {"loss": loss, "accuracy": right}

    def rows(self, logits: Tensor, batch: PackedBatch) -> list[Row]:
        """Each example's probabilities, (C,)."""
        probabilities = logits.softmax(-1).cpu()
        return [
            {"example": example, "probabilities": row}
            for example, row in zip(batch.targets["example"].tolist(), probabilities.tolist(), strict=True)
        ]

    def score(
        self, examples: list[Labelled], features: list[Feature], rows: list[Row]
    ) -> tuple[dict[str, float], Findings]:
        """Accuracy, and F1 over all classes of the training data: micro (the same number) and macro."""
        gold = [examples[row["example"]].label for row in rows]
        predicted = [self._best(row) for row in rows]
        mistakes = [
            Mistake(e.line, (e.shown,), g, p, max(row["probabilities"]))
            for e, g, p, row in zip((examples[row["example"]] for row in rows), gold, predicted, rows, strict=True)
            if g != p
        ]
        table = metrics.label_counts(gold, predicted, self.labels)
        draw = partial(pictures.confusion, metrics.confusion(gold, predicted, self.labels), self.labels)
        return _scores(gold, predicted, self.labels), Findings(table, mistakes, draw)

    def predictions(self, examples: list[Labelled], features: list[Feature], rows: list[Row]) -> list[dict]:
        """The label, and every label's probability."""
        return [
            {
                "text": example.text,
                **({} if example.text_pair is None else {"text_pair": example.text_pair}),
                "label": self._best(row),
                "probabilities": dict(zip(self.labels, row["probabilities"], strict=True)),
            }
            for example, row in zip(examples, rows, strict=True)
        ]

    def baseline(self, learned: list[Labelled], judged: list[Labelled]) -> Baseline:
        """Always predicting the most frequent label."""
        label = Counter(example.label for example in learned).most_common(1)[0][0]
        said = f"always {label!r}, the most frequent label of data.train,"
        return Baseline(said, _scores([example.label for example in judged], [label] * len(judged), self.labels))

    def in_words(self, prediction: dict) -> str:
        """The label and its probability, then the text."""
        label, texts = prediction["label"], [prediction["text"], prediction.get("text_pair")]
        return f"{label} ({prediction['probabilities'][label]:.2f}): {' | '.join(text for text in texts if text)}"

    def _best(self, row: Row) -> str:
        probabilities = row["probabilities"]
        return self.labels[probabilities.index(max(probabilities))]


def _scores(gold: list[str], predicted: list[str], labels: list[str]) -> dict[str, float]:
    table = metrics.label_counts(gold, predicted, labels)
    return {
        "accuracy": metrics.accuracy(gold, predicted),
        "micro_f1": metrics.micro_f1(table),
        "macro_f1": metrics.macro_f1(table),
    }
