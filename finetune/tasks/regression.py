"""A number for a text or a pair, such as the similarity of two sentences (Devlin et al. 2019, section 4.1: STS-B).

Letters: N sequences, H width.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from bert.dropout import Dropout
from bert.packed import PackedBatch
from bert.targets import PerSequence
from bert.training.objective import Row
from finetune import metrics, pictures
from finetune.example_kinds import Labelled
from finetune.features import Feature, of_labelled, pack
from finetune.heads.precise import PreciseLinear
from finetune.tasks.task import Baseline, Findings, Mistake, Task


class Regression(Task):
    """A linear layer with one output on the pooled first token, trained on the squared error.

    Attributes:
        scale: in memory the head predicts label / scale, a saved one the label.
    """

    kind = "numbers"
    metrics = ("pearson", "spearman", "mse")
    best = "spearman"
    targets: ClassVar = {"example": PerSequence(), "scores": PerSequence()}
    architecture = "BertForSequenceClassification"
    described: ClassVar = {"problem_type": "regression"}  # else pipelines of transformers would apply a sigmoid
    pooler = True
    picture = "predicted_and_gold.png"
    sureness = "difference"

    def __init__(self, config, *rest, **named) -> None:
        super().__init__(config, *rest, **named)
        self.dropout = Dropout(config.hidden_dropout_prob)
        linear = PreciseLinear(config.hidden_size, 1, config.initializer_range)
        self.head = nn.ModuleDict({"classifier": linear})
        self.scale = 1.0

    @torch.no_grad()
    def learn_from(self, examples: list[Labelled]) -> None:
        """Start a fresh head at the mean of the numbers, and learn in units of about their deviation.

        AdamW's steps are as large as the learning rate, whatever the gradient: from 0 to a distant mean, or from one
        number to another far away, they could take longer than the run lasts.
        """
        numbers = np.array([float(example.label) for example in examples])
        deviation = float(numbers.std())
        scale = 2.0 ** round(math.log2(deviation)) if deviation else 1.0
        head = self.head["classifier"]
        if head.bias.any():
            for parameter in head.parameters():
                parameter.mul_(self.scale / scale)
        else:
            head.bias.fill_(float(numbers.mean()) / scale)
        self.scale, self.weights = scale, {"loss": scale**-2}

    @contextmanager
    def _in_units_of_labels(self) -> Iterator[None]:
        """While others read or write the head's weights; nothing is rounded, since the scale is a power of two."""
        with torch.no_grad():
            for parameter in self.head.parameters():
                parameter.mul_(self.scale)
            try:
                yield
            finally:
                for parameter in self.head.parameters():
                    parameter.div_(self.scale)

    def export(self, folder: Path) -> None:
        """As every task; the head's output is in the labels' unit."""
        with self._in_units_of_labels():
            super().export(folder)

    def restore(self, folder: Path) -> None:
        """As every task."""
        with self._in_units_of_labels():
            super().restore(folder)

    @property
    def outputs(self) -> list[str]:
        """One number; transformers, too, takes a single output for a regression."""
        return ["score"]

    def features(self, examples: list[Labelled]) -> list[Feature]:
        """One sequence for each example; a long text is truncated."""
        return of_labelled(examples, self.tokenizer, self.max_length)

    def pack(self, features: list[Feature], examples: list[Labelled]) -> PackedBatch:
        """Targets: scores (N,)."""
        batch = pack(features)
        labels = [examples[feature.example].label for feature in features]
        if None not in labels:
            batch.targets["scores"] = torch.tensor([float(label) for label in labels])
        return batch

    def counts(self, batch: PackedBatch) -> dict[str, float]:
        """N."""
        return {"loss": batch.num_sequences}

    def compute(self, batch: PackedBatch) -> Tensor:
        """(N,), in the labels' unit."""
        return self.head["classifier"](self.dropout(self.bert.pool(batch))).squeeze(-1) * self.scale

    def sums(self, scores: Tensor, batch: PackedBatch) -> dict[str, Tensor]:
        """Summed squared error, in the square of the labels' unit."""
        return {"loss": (scores - batch.targets["scores"]).square().sum()}

    def rows(self, scores: Tensor, batch: PackedBatch) -> list[Row]:
        """Each example's number."""
        found = scores.tolist()
        return [{"example": e, "score": s} for e, s in zip(batch.targets["example"].tolist(), found, strict=True)]

    def score(
        self, examples: list[Labelled], features: list[Feature], rows: list[Row]
    ) -> tuple[dict[str, float], Findings]:
        """Correlations with the gold numbers over the whole split, and the mean squared error."""
        examples = [examples[row["example"]] for row in rows]
        gold, predicted = [float(example.label) for example in examples], [row["score"] for row in rows]
        mistakes = [
            Mistake(e.line, (e.shown,), f"{g:.3f}", f"{p:.3f}", abs(g - p))
            for e, g, p in zip(examples, gold, predicted, strict=True)
        ]
        scores = {
            "pearson": metrics.pearson(gold, predicted),
            "spearman": metrics.spearman(gold, predicted),
            "mse": metrics.mean_squared_error(gold, predicted),
        }
        return scores, Findings({}, mistakes, partial(pictures.scatter, gold, predicted))

    def baseline(self, learned: list[Labelled], judged: list[Labelled]) -> Baseline:
        """Always predicting the mean, which correlates with nothing."""
        mean, gold = fmean(float(example.label) for example in learned), [float(example.label) for example in judged]
        error = metrics.mean_squared_error(gold, [mean] * len(gold))
        return Baseline(f"always {mean:.3f}, the mean of data.train,", {"mse": error, "pearson": 0.0, "spearman": 0.0})

    def predictions(self, examples: list[Labelled], features: list[Feature], rows: list[Row]) -> list[dict]:
        """The number."""
        return [
            {
                "text": example.text,
                **({} if example.text_pair is None else {"text_pair": example.text_pair}),
                "score": row["score"],
            }
            for example, row in zip(examples, rows, strict=True)
        ]

    def in_words(self, prediction: dict) -> str:
        """The number, then the text."""
        texts = [prediction["text"], prediction.get("text_pair")]
        return f"{prediction['score']:.2f}: {' | '.join(text for text in texts if text)}"
