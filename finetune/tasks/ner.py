"""Entities in a text: a tag for each unit, read as character ranges (Devlin et al. 2019, section 5.3).

Letters: N sequences, K units that carry a tag, H width, L tags.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from bert import hub
from bert.dropout import Dropout
from bert.errors import UserError
from bert.packed import PackedBatch
from bert.targets import PerPosition, PerSequence, Positions, Starts
from bert.training.objective import Row
from finetune import metrics, pictures
from finetune.decoding import forbidding
from finetune.example_kinds import Tagged
from finetune.features import Feature, of_tagged, pack, tag_at, tags_of_units
from finetune.heads import AS_TRANSFORMERS, HEADS, SMOOTHED
from finetune.layer_mix import LayerMix
from finetune.metrics import Span
from finetune.schemes import TAGGINGS, Tagging
from finetune.tasks.ner_scores import Found, character_scores, klue_scores, unit_scores
from finetune.tasks.task import Baseline, Findings, Mistake, Task, label_smoothing_faults
from finetune.units import Unit

if TYPE_CHECKING:
    from finetune.config import FinetuneConfig, TaskConfig


class Ner(Task):
    """A tagging head on the tokens that stand for units."""

    kind = "tags"
    options = (
        "label_smoothing",
        "head",
        "layers",
        "combine",
        "unit",
        "scheme",
        "tagging",
        "constrained",
        "original_compat",
    )
    head_options = ("head", "layers", "combine")
    metrics = (
        "entity_micro_f1",
        "entity_macro_f1",
        "char_macro_f1",
        "klue_entity_macro_f1",
        "klue_char_macro_f1",
        "klue_char_macro_f1_without_o",
        "token_micro_f1",
        "token_macro_f1",
        "token_accuracy",
    )
    best = "entity_macro_f1"
    targets: ClassVar = {
        "example": PerSequence(),
        "begins": PerSequence(),
        "ends": PerSequence(),
        "cu_units": Starts(),
        "tag_index": Positions(),
        "tag_labels": PerPosition("tag_index"),
    }

    def __init__(self, config, tokenizer, labels, task, *rest, **named) -> None:
        # BertForTokenClassification cannot hold an LSTM or several layers. Such a folder is a BertModel's, which has a
        # pooler: it is kept unchanged.
        self.as_transformers = task.head in AS_TRANSFORMERS and task.layers == [-1]
        self.architecture = "BertForTokenClassification" if self.as_transformers else "BertModel"
        self.beside = ("head.crf.",) if self.as_transformers else ("head.", "layer_mix.")
        self.pooler = not self.as_transformers
        _refuse_layers(task.layers, config.num_hidden_layers)
        super().__init__(config, tokenizer, labels, task, *rest, **named)
        if self.bert.pooler is not None:
            self.bert.pooler.requires_grad_(False)
        highest = max(layer % (config.num_hidden_layers + 1) for layer in task.layers)
        self.bert.encoder.layers[highest:].requires_grad_(False)  # their output is not used
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.layer_mix = LayerMix(task.layers, task.combine, config.hidden_size)
        self.head = HEADS[task.head](self.layer_mix.width, len(labels))
        self.tagging = TAGGINGS[task.tagging]
        self.legal = forbidding(labels, self.tagging.follows) if task.constrained else None
        self.types = sorted({label[2:] for label in labels if label != "O"})

    @classmethod
    def check(cls, config: "FinetuneConfig") -> list[str]:
        """Layers that are combined, and a share of smoothing, which not every head has."""
        faults, task = [], config.task
        if task.combine != type(task).combine and len(task.layers) == 1:
            given = f"task.combine: {task.combine!r} was given"
            faults.append(f"{given}, but task.layers={task.layers} is a single layer.")
        faults += label_smoothing_faults(task)
        if task.label_smoothing and task.head not in SMOOTHED:
            given = f"task.label_smoothing: {task.label_smoothing} was given, but task.head={task.head} has none"
            faults.append(f"{given}; it belongs to task.head={' or '.join(SMOOTHED)}.")
        return faults

    @classmethod
    def refuse_unfit(cls, task: "TaskConfig", folder: hub.ModelFolder) -> None:
        """Refuse character units without a WordPiece vocabulary, in which characters are looked up as pieces."""
        if task.unit == "character" and not folder.tokenizer.is_wordpiece:
            raise UserError(
                f"task.unit: 'character' needs a WordPiece vocabulary, and that of '{folder.path}' is not one."
            )

    def features(self, examples: list[Tagged]) -> list[Feature]:
        """One sequence for each example, or several windows of a long one."""
        return of_tagged(examples, self.tokenizer, self.max_length, self.task.unit, self.overlap)

    def pack(self, features: list[Feature], examples: list[Tagged]) -> PackedBatch:
        """Targets: tag_index, tag_labels (K,), cu_units (N + 1,), and begins and ends of texts (N,)."""
        batch = pack(features)
        edges = ((feature.begins, feature.ends) for feature in features)
        batch.targets.update(zip(("begins", "ends"), map(torch.tensor, zip(*edges, strict=True)), strict=True))
        if all(examples[feature.example].tags is not None for feature in features):
            tags = [tag for feature in features for tag in self._gold(examples[feature.example], feature.units)]
            batch.targets["tag_labels"] = torch.tensor([self.label_ids[tag] for tag in tags])
        return batch

    def counts(self, batch: PackedBatch) -> dict[str, float]:
        """K: the CRF's loss, too, is averaged over units, so that sequences are weighted by their length."""
        return {"loss": batch.targets["tag_index"].shape[0]}

    def compute(self, batch: PackedBatch) -> Tensor:
        """(K, H)."""
        index = batch.targets["tag_index"]
        return self.dropout(self.layer_mix(self.bert(batch, read=index).hidden_states, index))

    def sums(self, units: Tensor, batch: PackedBatch) -> dict[str, Tensor]:
        """Summed loss of the tags, in nats; in training smoothed as set."""
        targets, smoothing = batch.targets, self.task.label_smoothing if self.training else 0.0
        return {"loss": self.head.loss(units, targets["tag_labels"], targets["cu_units"], smoothing)}

    def rows(self, units: Tensor, batch: PackedBatch) -> list[Row]:
        """The tag ids of each sequence's units, their log-probability, and whether the row begins a batch."""
        targets = batch.targets
        legal = None if self.legal is None else self.legal.for_windows(targets["begins"], targets["ends"])
        cu_units = targets["cu_units"]
        tags = self.head.decode(units, cu_units, legal)
        logarithms = self.head.log_probability(units, tags, cu_units)
        tags, cuts = tags.tolist(), cu_units.tolist()
        found = zip(targets["example"].tolist(), cuts[:-1], cuts[1:], logarithms.tolist(), strict=True)
        return [
            {"example": example, "tags": tags[start:end], "log_probability": logarithm, "begins_batch": number == 0}
            for number, (example, start, end, logarithm) in enumerate(found)
        ]

    @classmethod
    def scores(cls, task: "TaskConfig", labels: list[str], examples: list) -> list[str]:
        """Also the ceiling that the units allow, and the original's formula if asked for."""
        original = ["original_micro_f1", "original_macro_f1"] if task.original_compat else []
        return [*super().scores(task, labels, examples), "entity_micro_f1_ceiling", *original]

    def baseline(self, learned: list[Tagged], judged: list[Tagged]) -> Baseline:
        """Never predicting an entity."""
        return Baseline("never an entity", {"entity_micro_f1": 0.0, "entity_macro_f1": 0.0})

    def score(
        self, examples: list[Tagged], features: list[Feature], rows: list[Row]
    ) -> tuple[dict[str, float], Findings]:
        """Entities (strict), characters and units, each over the whole split."""
        found = self._found(examples, features, rows)
        gold = [self._gold(example, of.units) for example, of in zip(examples, found, strict=True)]
        table = metrics.span_counts([e.entities for e in examples], [of.entities for of in found], self.types)
        char_macro_f1, confusion = character_scores(examples, found, self.types)
        scores = {
            "entity_micro_f1": metrics.micro_f1(table),
            "entity_macro_f1": metrics.macro_f1(table),
            "char_macro_f1": char_macro_f1,
            **klue_scores(examples, found, self.types),
            **unit_scores(gold, found, self.labels),
            "entity_micro_f1_ceiling": self.ceiling(examples, features),
        }
        if self.task.original_compat:
            scores |= self._original_scores(examples, features, rows)
        draw = partial(pictures.confusion, confusion, ["O", *self.types])
        return scores, Findings(table, self._mistakes(examples, found), draw)

    def _original_scores(self, examples: list[Tagged], features: list[Feature], rows: list[Row]) -> dict[str, float]:
        batches: list[tuple[list[str], list[str]]] = []
        for feature, row in zip(features, rows, strict=True):
            if row["begins_batch"]:
                batches.append(([], []))
            batches[-1][0].extend(self._gold(examples[feature.example], feature.units))
            batches[-1][1].extend(self.labels[number] for number in row["tags"])
        micro, macro = metrics.batch_averaged_f1(batches)
        return {"original_micro_f1": micro, "original_macro_f1": macro}

    def _mistakes(self, examples: list[Tagged], found: list[Found]) -> list[Mistake]:
        """Texts with a wrong or missed entity; confidence is the geometric mean of the units' tag probabilities."""
        return [
            Mistake(
                example.line,
                (example.text,),
                marked(example.text, example.entities),
                marked(example.text, of.entities),
                math.exp(of.log_probability / max(1, len(of.tags))),
            )
            for example, of in zip(examples, found, strict=True)
            if example.entities != of.entities
        ]

    def in_short(self, examples: list[Tagged], features: list[Feature]) -> str:
        """The ceiling that the units allow."""
        ceiling = self.ceiling(examples, features)
        return f"tagging every {self.task.unit} right would reach entity_micro_f1 {ceiling:.3f}"

    def ceiling(self, examples: list[Tagged], features: list[Feature]) -> float:
        """Entity micro F1 of tagging every unit correctly: below 1 where units straddle entity boundaries."""
        gold, units = [example.entities for example in examples], _units(examples, features)
        reached = [entities_of(u, self._gold(e, u), self.tagging) for e, u in zip(examples, units, strict=True)]
        return metrics.micro_f1(metrics.span_counts(gold, reached, self.types))

    def predictions(self, examples: list[Tagged], features: list[Feature], rows: list[Row]) -> list[dict]:
        """The text, and its entities as character ranges."""
        return [
            {
                "text": example.text,
                "entities": [
                    {"start": start, "end": end, "type": kind, "text": example.text[start:end]}
                    for start, end, kind in sorted(of.entities)
                ],
            }
            for example, of in zip(examples, self._found(examples, features, rows), strict=True)
        ]

    def in_words(self, prediction: dict) -> str:
        """The text with each entity and its type in brackets."""
        return marked(prediction["text"], {(e["start"], e["end"], e["type"]) for e in prediction["entities"]})

    def _gold(self, example: Tagged, units: Sequence[Unit]) -> list[str]:
        """The units' tags in the model's scheme; a unit carries that of its first character."""
        if not units:
            return []
        behind = example.text[units[-1][2] :]
        # A window may end inside an entity: the tag of the next character tells.
        after = units[-1][2] + len(behind) - len(behind.lstrip())
        tags = tags_of_units(example.in_order, units) + ([tag_at(after, example.in_order)] if behind.strip() else [])
        return self.tagging.from_iob2(tags)[: len(units)]

    def _found(self, examples: list[Tagged], features: list[Feature], rows: list[Row]) -> list[Found]:
        """The prediction for each example, a long one's windows joined."""
        tags: list[list[str]] = [[] for _ in examples]
        logarithms = [0.0] * len(examples)
        for feature, row in zip(features, rows, strict=True):
            tags[feature.example] += [self.labels[number] for number in row["tags"]]
            logarithms[feature.example] += row["log_probability"]
        return [
            Found(units, of, self.tagging.with_strays(of), entities_of(units, of, self.tagging), logarithm)
            for units, of, logarithm in zip(_units(examples, features), tags, logarithms, strict=True)
        ]


def entities_of(units: list[Unit], tags: list[str], tagging: Tagging = TAGGINGS["iob2"]) -> set[Span]:
    """The entities in units' tags, as character ranges; a stray tag begins one, so that no prediction is lost."""
    return {(units[a][1], units[b - 1][2], kind) for a, b, kind in metrics.spans_of(tagging.to_iob2(tags))}


def marked(text: str, entities: set[Span]) -> str:
    """The text with each entity and its type in brackets."""
    end, said = 0, ""
    for start, until, kind in sorted(entities):
        said += f"{text[end:start]}[{text[start:until]} {kind}]"
        end = until
    return said + text[end:]


def _units(examples: list[Tagged], features: list[Feature]) -> list[list[Unit]]:
    """Those of each example, over all its windows."""
    units: list[list[Unit]] = [[] for _ in examples]
    for feature in features:
        units[feature.example] += feature.units
    return units


def _refuse_layers(layers: list[int], there: int) -> None:
    wrong = [layer for layer in layers if not -there - 1 <= layer <= there]
    if wrong or not layers:
        raise UserError(f"task.layers: {layers}, but the model has the hidden states {-there - 1} to {there}.")
