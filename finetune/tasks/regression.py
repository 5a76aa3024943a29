"""A number for a text or a pair, such as the similarity of two sentences (Devlin et al. 2019, section 4.1: STS-B).

Letters: N sequences, H width.
"""

from pathlib import Path
from statistics import fmean
from typing import ClassVar

import torch
from torch import Tensor, nn

from bert.dropout import Dropout
from bert.packed import PackedBatch
from bert.training.objective import Row
from finetune import metrics, pictures
from finetune.example_kinds import Labelled
from finetune.features import Feature, of_labelled, pack
from finetune.heads.precise import PreciseLinear
from finetune.tasks.task import Baseline, Mistake, Task


class Regression(Task):
    """A linear layer with one output on the pooled first token, trained on the squared error."""

    metrics = ("pearson", "spearman", "mse")
    best = "spearman"
    runs_over: ClassVar = {"example": "sequences", "scores": "sequences"}
    architecture = "BertForSequenceClassification"
    pooler = True
    picture = "predicted_and_gold.png"
    sureness = "difference"

    def __init__(self, config, *rest, **named) -> None:
        super().__init__(config, *rest, **named)
        self.dropout = Dropout(config.hidden_dropout_prob)
        linear = PreciseLinear(config.hidden_size, 1, config.initializer_range)
        self.head = nn.ModuleDict({"classifier": linear})
        self.pairs: list[tuple[float, float]] = []

    @torch.no_grad()
    def learn_from(self, examples: list[Labelled]) -> None:
        """Start a fresh head at the mean of the numbers: to get there from 0 can take longer than the run lasts."""
        bias = self.head["classifier"].bias
        if not bias.any():
            bias.fill_(fmean(float(example.label) for example in examples))

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
        """(N,)."""
        return self.head["classifier"](self.dropout(self.bert.pool(batch))).squeeze(-1)

    def sums(self, scores: Tensor, batch: PackedBatch) -> dict[str, Tensor]:
        """Summed squared error, in the square of the labels' unit."""
        return {"loss": (scores - batch.targets["scores"]).square().sum()}

    def rows(self, scores: Tensor, batch: PackedBatch) -> list[Row]:
        """Each example's number."""
        found = scores.tolist()
        return [{"example": e, "score": s} for e, s in zip(batch.targets["example"].tolist(), found, strict=True)]

    def score(self, rows: list[Row]) -> dict[str, float]:
        """Correlations with the gold numbers over the whole split, and the mean squared error."""
        examples = [self.judged[0][row["example"]] for row in rows]
        self.pairs = [(float(e.label), row["score"]) for e, row in zip(examples, rows, strict=True)]
        self.mistakes = [
            Mistake(e.line, e.shown, f"{g:.3f}", f"{p:.3f}", abs(g - p))
            for e, (g, p) in zip(examples, self.pairs, strict=True)
        ]
        gold, predicted = zip(*self.pairs, strict=True)
        return {
            "pearson": metrics.pearson(gold, predicted),
            "spearman": metrics.spearman(gold, predicted),
            "mse": metrics.mean_squared_error(gold, predicted),
        }

    def baseline(self, learned: list[Labelled], judged: list[Labelled]) -> Baseline:
        """Always predicting the mean, which correlates with nothing."""
        mean, gold = fmean(float(example.label) for example in learned), [float(example.label) for example in judged]
        error = metrics.mean_squared_error(gold, [mean] * len(gold))
        return Baseline(f"always {mean:.3f}, the mean of data.train,", {"mse": error, "pearson": 0.0, "spearman": 0.0})

    def draw(self, path: Path) -> None:
        """Predicted against gold numbers."""
        pictures.scatter(*zip(*self.pairs, strict=True), path)

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
