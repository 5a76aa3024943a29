"""Where in a text the answer to a question is, or that there is none (Devlin et al. 2019, sections 4.2 and 4.3).

Letters: T tokens in the batch, N sequences, S longest sequence.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bert.counting import count_of
from bert.packed import PackedBatch
from bert.targets import PerSequence, PerToken
from bert.training.objective import Row
from finetune import metrics, pictures
from finetune.example_kinds import Question
from finetune.example_kinds.asked import NO_ANSWER
from finetune.features import Feature, of_questions, pack
from finetune.heads.precise import PreciseLinear
from finetune.tasks.task import Baseline, Findings, Mistake, Task

if TYPE_CHECKING:
    from finetune.config import FinetuneConfig, TaskConfig

_AT_BEST, _BEST_THRESHOLD = "best_f1", "best_f1_threshold"
"""The scores of a model that may give no answer, which others lack."""


class QuestionAnswering(Task):
    """Two logits for each token: that the answer starts there, and that it ends there.

    The answer is [CLS] for a question without one, and in a window of a long text that lacks part of it.
    """

    kind = "questions"
    options = ("no_answer_threshold", "max_answer_length")
    metrics = (
        "exact_match",
        "f1",
        "korquad_exact_match",
        "korquad_f1",
        "has_answer_exact_match",
        "has_answer_f1",
        _AT_BEST,
    )
    best = "f1"
    targets: ClassVar = {
        "example": PerSequence(),
        "starts": PerSequence(),
        "ends": PerSequence(),
        "may_answer": PerToken(),
    }
    architecture = "BertForQuestionAnswering"
    pooler = False
    found_by = "id"  # a whole file may be one line
    text_columns = ("question", "context")

    def __init__(self, config, *rest, **named) -> None:
        super().__init__(config, *rest, **named)
        linear = PreciseLinear(config.hidden_size, 2, config.initializer_range)
        self.head = nn.ModuleDict({"qa_outputs": linear})

    @classmethod
    def check(cls, config: "FinetuneConfig") -> list[str]:
        """The length of an answer."""
        if config.task.max_answer_length >= 1:
            return []
        return [f"task.max_answer_length: {config.task.max_answer_length}, but it must be at least 1."]

    @classmethod
    def check_labels(cls, config: "FinetuneConfig", labels: list[str]) -> list[str]:
        """What depends on a threshold for no answer, where no question of data.train lacks one."""
        if NO_ANSWER in labels:
            return []
        why = "every question of data.train has an answer, so the model always gives one"
        threshold, faults = config.task.no_answer_threshold, []
        if threshold != type(config.task).no_answer_threshold:
            faults.append(f"task.no_answer_threshold: {threshold} was given, but {why}.")
        if config.best == _AT_BEST:
            faults.append(f"best: {config.best!r} is f1 at the best threshold for no answer, but {why}.")
        return faults

    @classmethod
    def scores(cls, task: "TaskConfig", labels: list[str], examples: list) -> list[str]:
        """Also the best threshold, if the model has one, and the accuracy on questions without an answer, if any."""
        silent = [] if all(example.answers for example in examples) else ["no_answer_accuracy"]
        known = [*super().scores(task, labels, examples), _BEST_THRESHOLD, *silent]
        return [name for name in known if NO_ANSWER in labels or name not in (_AT_BEST, _BEST_THRESHOLD)]

    @property
    def outputs(self) -> list[str]:
        """The two logits."""
        return ["start", "end"]

    @property
    def may_be_silent(self) -> bool:
        """Whether the training data has questions without an answer."""
        return NO_ANSWER in self.labels

    def features(self, examples: list[Question]) -> list[Feature]:
        """One sequence for each example, or several windows of a long text."""
        return of_questions(examples, self.tokenizer, self.max_length, self.overlap)

    def pack(self, features: list[Feature], examples: list[Question]) -> PackedBatch:
        """Targets: may_answer (T,), true for the text's pieces; starts and ends (N,), as positions in the sequence."""
        batch = pack([Feature(f.example, f.token_ids, f.segment_ids) for f in features])
        batch.targets["may_answer"] = torch.cat([_may_answer(feature) for feature in features])
        if all(examples[feature.example].answers is not None for feature in features):
            places = [answer_tokens(feature, examples[feature.example].answers) for feature in features]
            starts, ends = zip(*places, strict=True)
            batch.targets.update(starts=torch.tensor(starts), ends=torch.tensor(ends))
        return batch

    def counts(self, batch: PackedBatch) -> dict[str, float]:
        """N."""
        return {"loss": batch.num_sequences}

    def compute(self, batch: PackedBatch) -> Tensor:
        """(N, S, 2); minus infinity where a sequence has no token."""
        return batch.to_padded(self.head["qa_outputs"](self.bert(batch).last_hidden_state), -torch.inf)

    def sums(self, logits: Tensor, batch: PackedBatch) -> dict[str, Tensor]:
        """Summed cross-entropy over each sequence's tokens, in nats: the mean of the starts' and the ends'."""
        targets = batch.targets
        starts = F.cross_entropy(logits[..., 0], targets["starts"], reduction="sum")
        ends = F.cross_entropy(logits[..., 1], targets["ends"], reduction="sum")
        return {"loss": (starts + ends) / 2}

    def rows(self, logits: Tensor, batch: PackedBatch) -> list[Row]:
        """Each sequence's best answer, its score and probability, and the score and probability of no answer.

        A score is the sum of two logits, by which a text's windows are compared (Devlin et al. 2019, code).
        """
        may_answer = batch.to_padded(batch.targets["may_answer"])  # (N, S)
        in_text = logits.masked_fill(~may_answer[..., None], -torch.inf)
        scores, starts, ends = best_ranges(in_text, self.task.max_answer_length)
        logarithms, rows = logits.log_softmax(1), torch.arange(len(logits), device=logits.device)
        columns = {
            "example": batch.targets["example"],
            "start": starts,
            "end": ends,
            "score": scores,
            "probability": (logarithms[rows, starts, 0] + logarithms[rows, ends, 1]).exp(),
            "none": logits[:, 0].sum(-1),  # [CLS] as start and end
            "none_probability": logarithms[:, 0].sum(-1).exp(),
        }
        values = zip(*(column.tolist() for column in columns.values()), strict=True)
        return [dict(zip(columns, row, strict=True)) for row in values]

    def score(
        self, examples: list[Question], features: list[Feature], rows: list[Row]
    ) -> tuple[dict[str, float], Findings]:
        """Exact match and F1 by SQuAD's and KorQuAD's official scripts, and with and without an answer."""
        found = self._answers(examples, features, rows)
        said = [self._said(answer) for answer in found]
        gold = [[example.text_pair[start:end] for start, end in example.answers] for example in examples]
        names = ["answer", NO_ANSWER]
        which = [[names[not texts] for texts in gold], [names[not text] for text in said]]
        table = metrics.label_counts(*which, names if not all(gold) else names[:1])
        draw = partial(pictures.confusion, metrics.confusion(*which, names), names)
        exact = [metrics.exact_match(*pair) for pair in zip(said, gold, strict=True)]
        mistakes = [
            Mistake(
                e.id,
                (e.text, e.text_pair),
                " / ".join(sorted(set(g))) or NO_ANSWER,
                s or NO_ANSWER,
                a.probability if s else a.none_probability,
            )
            for e, g, s, a, right in zip(examples, gold, said, found, exact, strict=True)
            if not right
        ]
        f1 = [metrics.answer_f1(*pair) for pair in zip(said, gold, strict=True)]
        korean = [metrics.korean_answer_f1(*pair) for pair in zip(said, gold, strict=True)]
        strict = [metrics.exact_match(*pair, metrics.normalised_korean_answer) for pair in zip(said, gold, strict=True)]
        scores = {"exact_match": _mean(exact), "f1": _mean(f1)}
        scores |= {"korquad_exact_match": _mean(strict), "korquad_f1": _mean(korean)}
        scores |= _with_and_without(gold, exact, f1)
        if self.may_be_silent:
            scores |= _at_best(gold, found)
        return scores, Findings(table, mistakes, draw)

    def in_short(self, examples: list[Question], features: list[Feature]) -> str:
        """How many questions have a first answer that cannot be predicted."""
        reached = set()
        for feature in features:
            start, end = answer_tokens(feature, examples[feature.example].answers)
            if 0 < start <= end < start + self.task.max_answer_length:
                reached.add(feature.example)
        lost = sum(bool(example.answers) and number not in reached for number, example in enumerate(examples))
        why = f"no window holds it whole, or it is longer than task.max_answer_length={self.task.max_answer_length}"
        return f"the first answer of {count_of(lost, 'question')} is out of reach: {why}" if lost else ""

    def predictions(self, examples: list[Question], features: list[Feature], rows: list[Row]) -> list[dict]:
        """The answer and its start; an empty one where no answer is predicted."""
        found = self._answers(examples, features, rows)
        return [
            {
                "id": example.id,
                "question": example.text,
                "context": example.text_pair,
                "answer": self._said(answer),
                "start": answer.start if self._said(answer) else None,
                "probability": answer.probability if self._said(answer) else answer.none_probability,
                **({"no_answer_margin": _finite(answer.margin)} if self.may_be_silent else {}),
            }
            for example, answer in zip(examples, found, strict=True)
        ]

    def baseline(self, learned: list[Question], judged: list[Question]) -> Baseline:
        """Always predicting no answer."""
        share = sum(not example.answers for example in judged) / len(judged)
        return Baseline("never an answer", {"exact_match": share, "f1": share})

    def in_words(self, prediction: dict) -> str:
        """The answer, then the question."""
        return f"{prediction['answer'] or NO_ANSWER} ({prediction['probability']:.2f}): {prediction['question']}"

    def _answers(self, examples: list[Question], features: list[Feature], rows: list[Row]) -> list["Answer"]:
        """The best answer over each example's windows; no answer scores as in the window where it scores lowest."""
        found: list[Answer] = [Answer("", 0, -torch.inf, 0.0, torch.inf, 1.0)] * len(examples)
        for feature, row in zip(features, rows, strict=True):
            before, text = found[feature.example], examples[feature.example].text_pair
            none, silence = min(before.none, row["none"]), min(before.none_probability, row["none_probability"])
            if row["score"] > before.score:
                where = {place: (start, end) for place, start, end in feature.units}
                start, end = where[row["start"]][0], where[row["end"]][1]
                best = (text[start:end], start, row["score"], row["probability"])
                found[feature.example] = Answer(*best, none, silence)
            else:
                found[feature.example] = replace(before, none=none, none_probability=silence)
        return found

    def _said(self, answer: "Answer") -> str:
        """An answer's text, or nothing where no answer scores higher by more than the threshold."""
        silent = self.may_be_silent and answer.margin > self.task.no_answer_threshold
        return "" if silent else answer.text


def _finite(value: float) -> float | None:
    """None for what JSON cannot express: in a text without tokens no answer has a score."""
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class Answer:
    """The best answer in a text.

    Attributes:
        text, start: its text, and the offset of its first character.
        score: the sum of its two logits.
        probability: of start and end together, in its window.
        none, none_probability: the lowest score, and the lowest probability, of no answer in any window.
    """

    text: str
    start: int
    score: float
    probability: float
    none: float
    none_probability: float

    @property
    def margin(self) -> float:
        """How much higher no answer scores."""
        return self.none - self.score


def best_ranges(logits: Tensor, longest: int) -> tuple[Tensor, Tensor, Tensor]:
    """The range of tokens whose two logits have the highest sum, among those of 1 to `longest` tokens.

    Args:
        logits: of starting and of ending at each token, (N, S, 2).
        longest: maximum tokens of a range.

    Returns:
        The sum, the first and the last token, (N,) each.
    """
    start, end = logits.unbind(-1)
    sums = start[:, :, None] + end[:, None, :]  # (N, S, S): from each token to each
    every = torch.ones(sums.shape[1:], dtype=torch.bool, device=sums.device)
    allowed = every.triu() & every.tril(longest - 1)  # ends no earlier than it starts, and not too late
    best, place = sums.masked_fill(~allowed, -torch.inf).flatten(1).max(1)
    return best, place // sums.shape[1], place % sums.shape[1]


def answer_tokens(feature: Feature, answers: tuple[tuple[int, int], ...]) -> tuple[int, int]:
    """The positions of the first answer's first and last token; [CLS], 0, if the window does not hold all of it."""
    if not answers or not feature.units:
        return 0, 0
    start, end = answers[0]
    inside = [place for place, begin, until in feature.units if begin < end and until > start]
    whole = feature.units[0][1] <= start and end <= feature.units[-1][2]
    return (inside[0], inside[-1]) if inside and whole else (0, 0)


def _may_answer(feature: Feature) -> Tensor:
    """True for the text's pieces, (S,)."""
    places = torch.zeros(len(feature.token_ids), dtype=torch.bool)
    places[[place for place, _, _ in feature.units]] = True
    return places


def _with_and_without(gold: list[list[str]], exact: list[float], f1: list[float]) -> dict[str, float]:
    """Scores on questions with an answer, and on those without, if any."""
    has = [bool(texts) for texts in gold]
    silent = [value for value, h in zip(exact, has, strict=True) if not h]
    return {
        "has_answer_exact_match": _mean([value for value, h in zip(exact, has, strict=True) if h]),
        "has_answer_f1": _mean([value for value, h in zip(f1, has, strict=True) if h]),
        **({"no_answer_accuracy": _mean(silent)} if silent else {}),
    }


def _at_best(gold: list[list[str]], found: list[Answer]) -> dict[str, float]:
    """F1 at the threshold between answers and silence that is best for these questions, and that threshold."""
    answered = [metrics.answer_f1(a.text, g) if g else 0.0 for a, g in zip(found, gold, strict=True)]
    silent = [float(not texts) for texts in gold]
    best, threshold = metrics.best_threshold([a.margin for a in found], answered, silent)
    return {_AT_BEST: best, _BEST_THRESHOLD: threshold}


def _mean(values: list[float]) -> float:
    """NaN of none: a score on no question would be no 0."""
    return sum(values) / len(values) if values else math.nan
