"""Entities in a text: a tag for each unit, read as ranges of characters (Devlin et al. 2019, section 5.3).

Letters: N sequences, K units that carry a tag, H width, L tags.
"""

import torch
from torch import Tensor

from bert.dropout import Dropout
from bert.packed import PackedBatch
from bert.training.objective import Row
from finetune import metrics
from finetune.examples import Tagged
from finetune.features import Feature, character_tags, of_tagged, pack, tags_of_units
from finetune.heads import HEADS
from finetune.metrics import Span
from finetune.tasks.task import Task
from finetune.units import Unit


class Ner(Task):
    """A tagging head on the tokens that stand for units."""

    metrics = (
        "entity_micro_f1",
        "entity_macro_f1",
        "char_macro_f1",
        "klue_char_macro_f1",
        "token_micro_f1",
        "token_macro_f1",
        "token_accuracy",
    )
    best = "entity_macro_f1"
    architecture = "BertForTokenClassification"
    pooler = False

    def __init__(self, config, *rest, **named) -> None:
        super().__init__(config, *rest, **named)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.head = HEADS[self.task.head](config.hidden_size, len(self.labels))
        self.types = sorted({label[2:] for label in self.labels if label != "O"})

    def features(self, examples: list[Tagged]) -> list[Feature]:
        """One sequence for each example, or several for a long one."""
        return of_tagged(examples, self.tokenizer, self.max_length, self.task.unit)

    def pack(self, features: list[Feature], examples: list[Tagged]) -> PackedBatch:
        """Targets: tag_index, tag_labels (K,) and cu_units (N + 1,)."""
        batch = pack(features, self.max_length)
        if all(examples[feature.example].tags is not None for feature in features):
            tags = [tag for f in features for tag in tags_of_units(_gold(examples[f.example]), f.units)]
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
        examples, features = self.judged
        gold_units, predicted_units, gold_characters, predicted_characters = [], [], [], []
        gold_spans, predicted_spans = [example.entities for example in examples], []
        for example, (units, predicted) in zip(examples, self._tagged_units(examples, features, rows), strict=True):
            spans = entities_of(units, predicted)
            predicted_spans.append(spans)
            gold_units += tags_of_units(_gold(example), units)
            predicted_units += predicted
            gold_characters += _gold(example)
            predicted_characters += character_tags(len(example.text), spans)
        self.table = metrics.span_counts(gold_spans, predicted_spans, self.types)
        types = ["O", *self.types]
        of_types = ([tag[2:] or "O" for tag in tags] for tags in (gold_characters, predicted_characters))
        self.confusion = (metrics.confusion(*of_types, types), types)
        units = metrics.label_counts(gold_units, predicted_units, self.labels)
        characters = metrics.label_counts(gold_characters, predicted_characters, self.labels)
        return {
            "entity_micro_f1": metrics.micro_f1(self.table),
            "entity_macro_f1": metrics.macro_f1(self.table),
            "char_macro_f1": metrics.macro_f1(_occurring(characters)),
            "klue_char_macro_f1": metrics.klue_macro_f1(characters),
            "token_micro_f1": metrics.micro_f1(_occurring(units)),
            "token_macro_f1": metrics.macro_f1(_occurring(units)),
            "token_accuracy": metrics.accuracy(gold_units, predicted_units),
        }

    def ceiling(self, examples: list[Tagged], features: list[Feature]) -> float:
        """Entity micro F1 of tagging every unit right: what units that straddle entities' ends cost at best."""
        units: list[list[Unit]] = [[] for _ in examples]
        for feature in features:
            units[feature.example] += feature.units
        gold = [example.entities for example in examples]
        reached = [entities_of(u, tags_of_units(_gold(e), u)) for e, u in zip(examples, units, strict=True)]
        return metrics.micro_f1(metrics.span_counts(gold, reached, self.types))

    def predictions(self, examples: list[Tagged], features: list[Feature], rows: list[Row]) -> list[dict]:
        """The text, and its entities as ranges of characters."""
        return [
            {
                "text": example.text,
                "entities": [
                    {"start": start, "end": end, "type": kind, "text": example.text[start:end]}
                    for start, end, kind in sorted(entities_of(units, tags))
                ],
            }
            for example, (units, tags) in zip(examples, self._tagged_units(examples, features, rows), strict=True)
        ]

    def in_words(self, prediction: dict) -> str:
        """The text with each entity in brackets, its type after it."""
        text, end, said = prediction["text"], 0, ""
        for entity in prediction["entities"]:
            said += f"{text[end : entity['start']]}[{entity['text']} {entity['type']}]"
            end = entity["end"]
        return said + text[end:]

    def _units(self, batch: PackedBatch) -> Tensor:
        """(K, H)."""
        hidden = self.bert(batch).last_hidden_state
        return self.dropout(hidden.index_select(0, batch.targets["tag_index"]))

    def _tagged_units(
        self, examples: list[Tagged], features: list[Feature], rows: list[Row]
    ) -> list[tuple[list[Unit], list[str]]]:
        """Units and predicted tags of each example, the sequences of a long one after another."""
        found: list[tuple[list[Unit], list[str]]] = [([], []) for _ in examples]
        for feature, row in zip(features, rows, strict=True):
            units, tags = found[feature.example]
            units += feature.units
            tags += [self.labels[number] for number in row["tags"]]
        return found


def entities_of(units: list[Unit], tags: list[str]) -> set[Span]:
    """Entities of unit tags as ranges of characters; a stray I- begins one, so that no prediction is lost."""
    begun, before = [], "O"
    for tag in tags:
        begun.append(f"B-{tag[2:]}" if tag.startswith("I-") and before[2:] != tag[2:] else tag)
        before = tag
    return {(units[a][1], units[b - 1][2], kind) for a, b, kind in metrics.spans_of(begun)}


def _gold(example: Tagged) -> list[str]:
    return character_tags(len(example.text), example.entities)


def _occurring(table: dict[str, metrics.Counts]) -> dict[str, metrics.Counts]:
    """Without `O`, and without tags that neither occur nor were predicted: not every type has an I-."""
    return {label: counts for label, counts in table.items() if label != "O" and counts != metrics.Counts()}
