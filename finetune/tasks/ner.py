"""Entities in a text: a tag for each unit, read as ranges of characters (Devlin et al. 2019, section 5.3).

Letters: N sequences, K units that carry a tag, H width, L tags.
"""

import torch
from torch import Tensor, nn

from bert.packed import PackedBatch
from bert.training.objective import Row
from finetune import metrics
from finetune.examples import Tagged
from finetune.features import Feature, character_tags, of_tagged, pack, spans_in_text, tags_of_units
from finetune.heads import HEADS
from finetune.tasks.task import Task


class Ner(Task):
    """A tagging head on the tokens that stand for units."""

    architecture = "BertForTokenClassification"
    best = "entity_macro_f1"
    pooler = False

    def __init__(self, config, *rest, **named) -> None:
        super().__init__(config, *rest, **named)
        self.weights = {"loss": 1.0}
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.head = HEADS[self.task.head](config.hidden_size, len(self.labels))
        self._table: dict[str, metrics.Counts] = {}
        self.confusion: list[list[int]] = []

    def features(self, examples: list[Tagged], first: int = 0) -> list[Feature]:
        """One sequence for each example, or several for a long one."""
        return of_tagged(examples, self.tokenizer, self.max_length, self.task.unit, first)

    def pack(self, features: list[Feature], examples: list[Tagged]) -> PackedBatch:
        """Targets: tag_index, tag_labels (K,) and cu_units (N + 1,)."""
        batch = pack(features, self.max_length)
        if all(examples[feature.example].tags is not None for feature in features):
            tags = [tag for f in features for tag in tags_of_units(examples[f.example], list(f.units))]
            batch.targets["tag_labels"] = torch.tensor([self.label_ids[tag] for tag in tags])
        return batch

    def counts(self, batch: PackedBatch) -> dict[str, float]:
        """K: the CRF's likelihood is counted by the unit too, so that sequences weigh by their length."""
        return {"loss": batch.targets["tag_index"].shape[0]}

    def forward(self, batch: PackedBatch) -> dict[str, Tensor]:
        """Summed loss of the tags, in nats."""
        targets = batch.targets
        return {"loss": self.head.loss(self._units(batch), targets["tag_labels"], targets["cu_units"])}

    def predict(self, batch: PackedBatch) -> list[Row]:
        """The tag ids of each sequence's units."""
        tags = self.head.decode(self._units(batch), batch.targets["cu_units"]).tolist()
        cuts, examples = batch.targets["cu_units"].tolist(), batch.targets["example"].tolist()
        return [
            {"example": example, "tags": tags[start:end]}
            for example, start, end in zip(examples, cuts[:-1], cuts[1:], strict=True)
        ]

    def score(self, rows: list[Row]) -> dict[str, float]:
        """Entities (strict), characters and units, each over the whole split."""
        tags = self._tags_by_example(rows, len(self.judged))
        gold_units, predicted_units, gold_characters, predicted_characters = [], [], [], []
        gold_spans, predicted_spans = [], []
        for example, predicted in zip(self.judged, tags, strict=True):
            units = self._units_of(example)
            spans = self._spans(units, predicted)
            gold_spans.append(spans_in_text(example))
            predicted_spans.append(spans)
            gold_units += tags_of_units(example, units)
            predicted_units += predicted
            gold_characters += character_tags(example)
            predicted_characters += _paint(len(example.text), spans)
        types = sorted({label[2:] for label in self.labels if label != "O"})
        self._table = metrics.span_counts(gold_spans, predicted_spans, types)
        self.confusion = metrics.confusion(gold_characters, predicted_characters, self.labels)
        units = metrics.label_counts(gold_units, predicted_units, self.labels)
        characters = metrics.label_counts(gold_characters, predicted_characters, self.labels)
        return {
            "entity_micro_f1": metrics.micro_f1(self._table),
            "entity_macro_f1": metrics.macro_f1(self._table),
            "char_macro_f1": metrics.macro_f1(_without_o(characters)),
            "klue_char_macro_f1": metrics.klue_macro_f1(characters),
            "token_micro_f1": metrics.micro_f1(_without_o(units)),
            "token_macro_f1": metrics.macro_f1(_without_o(units)),
            "token_accuracy": metrics.accuracy(gold_units, predicted_units),
        }

    def ceiling(self, examples: list[Tagged]) -> float:
        """Entity micro F1 of tagging every unit right: what units that straddle entities' ends cost at best."""
        gold = [spans_in_text(example) for example in examples]
        reached = []
        for example in examples:
            units = self._units_of(example)
            reached.append(self._spans(units, tags_of_units(example, units)))
        types = sorted({span[2] for spans in gold for span in spans})
        return metrics.micro_f1(metrics.span_counts(gold, reached, types))

    def report(self) -> tuple[str, dict[str, metrics.Counts]]:
        """Each entity type of the last evaluation."""
        return metrics.class_table(self._table), self._table

    def predictions(self, examples: list[Tagged], rows: list[Row]) -> list[dict]:
        """The text, and its entities as ranges of characters."""
        first = rows[0]["example"] if rows else 0
        tags = self._tags_by_example([{**row, "example": row["example"] - first} for row in rows], len(examples))
        return [
            {
                "text": example.text,
                "entities": [
                    {"start": start, "end": end, "type": kind, "text": example.text[start:end]}
                    for start, end, kind in sorted(self._spans(self._units_of(example), predicted))
                ],
            }
            for example, predicted in zip(examples, tags, strict=True)
        ]

    def _units(self, batch: PackedBatch) -> Tensor:
        """(K, H)."""
        hidden = self.bert(batch).last_hidden_state
        return self.dropout(hidden.index_select(0, batch.targets["tag_index"]))

    def _units_of(self, example: Tagged) -> list[tuple[int, int]]:
        return [unit for feature in self.features([example]) for unit in feature.units]

    def _tags_by_example(self, rows: list[Row], examples: int) -> list[list[str]]:
        """The sequences of a long example, one after another."""
        tags: list[list[str]] = [[] for _ in range(examples)]
        for row in rows:
            tags[row["example"]] += [self.labels[number] for number in row["tags"]]
        return tags

    def _spans(self, units: list[tuple[int, int]], tags: list[str]) -> set[metrics.Span]:
        """Entities of unit tags as ranges of characters; a stray I- begins one, so that no prediction is lost."""
        begun, before = [], "O"
        for tag in tags:
            begun.append(f"B-{tag[2:]}" if tag.startswith("I-") and before[2:] != tag[2:] else tag)
            before = tag
        return {(units[a][0], units[b - 1][1], kind) for a, b, kind in metrics.spans_of(begun)}


def _paint(length: int, spans: set[metrics.Span]) -> list[str]:
    tags = ["O"] * length
    for start, end, kind in spans:
        tags[start:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - start - 1)]
    return tags


def _without_o(table: dict[str, metrics.Counts]) -> dict[str, metrics.Counts]:
    return {label: counts for label, counts in table.items() if label != "O"}
