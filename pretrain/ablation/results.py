"""The results of a grid's cells, read from their folders."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bert.counting import count_of
from bert.training.identity import FACTS, is_finished
from bert.training.ledger import LEDGER
from bert.training.metric import higher_is_better, meaning
from bert.training.metrics_file import METRICS
from bert.training.provenance import INIT_WEIGHTS
from pretrain.ablation.cell_runs import (
    PRETRAINING,
    CellRun,
    cell_folder,
    checkpoint_runs,
    metrics_of,
    record_of,
    runs_of,
    text_of,
)
from pretrain.ablation.grid import AblateConfig, Cell, cells
from pretrain.ablation.metric_names import floors_of, full_name, is_loss, place_of, scores_of
from pretrain.options import TEXT_OPTIONS
from pretrain.validation import JUDGED_ON, LEARNED, below_unigram

_CLASSES = "classes.json"
"""Where a fine-tuning run lists the classes it tells apart, a row for each."""

_RUN_BY = {"git_commit": "commit ", "torch": "torch ", "device": ""}
"""The tags of a run that say how it was run, and the prefix each is shown with."""


@dataclass(frozen=True)
class Result:
    """A finished cell.

    Attributes:
        metrics: of pretraining by their full names (valid/...), of tasks as TASK/METRIC, means over their seeds.
        floors: what can be had without reading, for some TASK/METRIC: a constant answer's score, or that of guessing.
        examples: how many examples each TASK is scored on.
        below_unigram: nats by which its masked-LM loss is below the unigram cross-entropy.
        curve: (tokens, masked-LM loss) at each evaluation.
        by_tokens: for each TASK/METRIC, the (tokens, score) of each checkpoint scored, by its step; that of the last by
            "last", since with a budget in tokens each seed ends at a step of its own.
        judged_on: the fingerprints of its frozen validation sets, by name.
        facts: the fingerprints of what each of its runs read, by the run's name.
        run_by: commit, PyTorch and device of its runs.
        seconds, tokens_per_second: of its pretraining, without the time between a stop and a resume.
        seconds_in_all: including its fine-tuning runs.
    """

    metrics: dict[str, float]
    floors: dict[str, float]
    examples: dict[str, int]
    below_unigram: float
    curve: list[tuple[float, float]]
    by_tokens: dict[str, dict[int | str, tuple[float, float]]]
    judged_on: dict[str, str]
    facts: dict[str, dict[str, str]]
    run_by: list[str]
    seconds: float
    tokens_per_second: float
    seconds_in_all: float

    @property
    def learned(self) -> bool:
        """Whether the model learned enough to be compared."""
        return self.below_unigram >= LEARNED

    def at_floor(self, metric: str) -> list[str]:
        """The scores by which the model has not learned a metric's task, not being clearly above their floors.

        The metric itself; or all the scores of the task that have a floor. The latter rules out every score of the
        task, but no loss, which is finer than they are.
        """
        if metric in self.floors and self._no_better(metric):
            return [metric]
        known = [name for name in self.floors if place_of(name) == place_of(metric)]
        return known if not is_loss(metric) and all(map(self._no_better, known)) else []

    def _no_better(self, metric: str) -> bool:
        above = self.metrics[metric] - self.floors[metric]
        return (above if higher_is_better(metric) else -above) < max(1e-9, self._margin(metric))

    def _margin(self, metric: str) -> float:
        """Two standard errors of a score at its floor, or where it is if that is 0; 0 for what is lower where better.

        Those of a share of n are sqrt(p (1 - p) / n), near enough for an F1 too; those of no correlation 1 / sqrt(n).
        """
        if not higher_is_better(metric):
            return 0.0
        share = self.floors[metric] or self.metrics[metric]
        variance = share * (1 - share) if meaning(metric).unit == "points" else 1.0
        return 2 * (variance / self.examples[place_of(metric)]) ** 0.5


def read_results(config: AblateConfig) -> dict[Cell, Result]:
    """Every finished cell's result."""
    found = {}
    for cell in cells(config):
        folder = cell_folder(config, cell)
        if all(run.is_finished(folder) for run in runs_of(config)):
            found[cell] = _read(config, folder)
    return found


def mixed(config: AblateConfig, results: dict[Cell, Result]) -> list[str]:
    """Faults of finished cells whose texts, tokenizers or starts differ, and the grid's options do not say why."""
    reasons = {
        "corpus": TEXT_OPTIONS,
        "mixture": ("data.",),
        "tokenizer": ("data.", "tokenizer.", "init"),
        "negatives": ("sentence.",),
        INIT_WEIGHTS: ("init",),
    }
    found: dict[tuple, dict[str, str]] = {}
    for cell, result in results.items():
        for fact, reason in reasons.items():
            alike = tuple(str(value) for axis, value in cell.values.items() if axis.startswith(reason))
            value = result.facts[PRETRAINING.name].get(fact, "none")
            if fact == INIT_WEIGHTS and value == "none":  # from before it was recorded
                continue
            found.setdefault((fact, *alike), {}).setdefault(value, cell.name)
        for run in runs_of(config):
            for fact, value in result.facts[run.name].items() if run != PRETRAINING else ():
                if fact == INIT_WEIGHTS:  # the cell's own model
                    continue
                of_task = f"the {fact} data of finetune.{run.task}"
                found.setdefault((of_task,), {}).setdefault(value, f"{cell.name}/{run.name}")
    return [
        f"output: finished cells differ in {what}, though their options are alike: "
        + " and ".join(f"{value[:12]} ('{name}' for one)" for value, name in values.items())
        + ". Remove the folders of all but one."
        for (what, *_), values in found.items()
        if len(values) > 1
    ]


def lacking(config: AblateConfig, results: dict[Cell, Result]) -> list[str]:
    """Metrics of the grid that finished cells lack: those that the code measures only since it ran them."""
    found: dict[str, list[str]] = {}
    for cell, result in results.items():
        for metric in (metric for metric in config.metrics if metric not in result.metrics):
            found.setdefault(metric, []).append(cell.name)
    return [
        f"metrics: no {metric!r} in {count_of(len(names), 'finished cell')} ('{names[0]}' for one). Leave it out, or "
        f"remove what lacks it."
        for metric, names in found.items()
    ]


def task_scores(config: AblateConfig, folder: Path) -> dict[str, float]:
    """Each score of the tasks in a finished cell's folder, by its full name: means over a task's seeds."""
    of_tasks = ([_scores(folder, CellRun(name, seed)) for seed in task.seeds] for name, task in config.finetune.items())
    return {metric: score for of_seeds in of_tasks for metric, score in _means(of_seeds).items()}


def _read(config: AblateConfig, folder: Path) -> Result:
    pretrained = PRETRAINING.output(folder)
    metrics, lines = metrics_of(pretrained) | task_scores(config, folder), _lines(pretrained)
    steps, tokens = _column(lines, "train/tokens")
    steps, tokens = [0, *steps], [0.0, *tokens]  # np.interp would give what is before the first line its tokens
    at, losses = _column(lines, "valid/masked_lm_loss")
    _, speeds = _column(lines, "speed/tokens_per_second")
    by_tokens: dict[str, dict[int | str, tuple[float, float]]] = {}
    floors: dict[str, float] = {}
    examples: dict[str, int] = {}
    for name, task in config.finetune.items():
        runs = [CellRun(name, seed) for seed in task.seeds]
        first = runs[0].output(folder)
        floors |= _floors(name, first)
        examples[name] = _judged_examples(first)
        for step, of_step in _by_step(folder, runs).items():
            when = "last" if step == steps[-1] else step
            for metric, score in of_step.items():
                by_tokens.setdefault(metric, {})[when] = (float(np.interp(step, steps, tokens)), score)
    return Result(
        metrics=metrics,
        floors=floors,
        examples=examples,
        below_unigram=below_unigram(metrics),
        curve=list(zip(np.interp(at, steps, tokens).tolist(), losses, strict=True)),
        by_tokens=by_tokens,
        judged_on=record_of(pretrained, JUDGED_ON),
        facts={run.name: record_of(run.output(folder), FACTS) for run in runs_of(config)},
        run_by=sorted({_run_by(run.output(folder)) for run in runs_of(config)}),
        seconds=_seconds(pretrained),
        tokens_per_second=float(np.median(speeds)),
        seconds_in_all=sum(_seconds(file.parent) for file in folder.glob(f"*/{METRICS}") if is_finished(file.parent)),
    )


def _floors(task: str, run: Path) -> dict[str, float]:
    """What each metric of a task would be without reading, where its run tells.

    A class that is guessed at rate q and occurs at rate p has F1 2pq / (p + q), at most (p + q) / 2: over C classes the
    mean is at most 1 / C, which guessing each as often as it occurs reaches, and a constant answer does not.
    """
    floors, macro_f1 = floors_of(task, metrics_of(run)), full_name(task, "macro_f1")
    if macro_f1 in floors:
        floors[macro_f1] = 1 / len(record_of(run, _CLASSES)["data"])
    return floors


def _judged_examples(run: Path) -> int:
    """How many examples a fine-tuning run is scored on."""
    datasets = record_of(run, LEDGER)["datasets"]
    return next(of["profile"]["used"] for of in datasets if of["context"] == "evaluation")


def _run_by(run: Path) -> str:
    tags = record_of(run, LEDGER)["tags"]
    return ", ".join(f"{what}{tags[name]}" for name, what in _RUN_BY.items())


def _lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in text_of(run, METRICS).splitlines()]


def _seconds(run: Path) -> float:
    """A run's time, in training and evaluation."""
    lines = _lines(run)
    return sum(sum(_column(lines, f"speed/{name}")[1]) for name in ("seconds", "evaluation_seconds"))


def _means(of_runs: list[dict[str, float]]) -> dict[str, float]:
    """The means over runs, of the metrics that all have."""
    shared = [metric for metric in of_runs[0] if all(metric in of_run for of_run in of_runs)]
    return {metric: float(np.mean([of_run[metric] for of_run in of_runs])) for metric in shared}


def _column(lines: list[dict], name: str) -> tuple[list[int], list[float]]:
    """Steps and values of one metric."""
    points = [(line["step"], float(line["metrics"][name])) for line in lines if name in line["metrics"]]
    return [step for step, _ in points], [value for _, value in points]


def _scores(folder: Path, run: CellRun) -> dict[str, float]:
    """The metrics of a task's run in a cell's folder, by their full names."""
    return scores_of(run.task, metrics_of(run.output(folder)))


def _by_step(folder: Path, runs: list[CellRun]) -> dict[int, dict[str, float]]:
    """A task's metrics by the step of the checkpoint scored, where each of `runs` has been run: means over them."""
    found: dict[int, list[dict[str, float]]] = {}
    for run in runs:
        for of_checkpoint in checkpoint_runs(folder, run):
            found.setdefault(of_checkpoint.step, []).append(_scores(folder, of_checkpoint))
    return {step: _means(of_runs) for step, of_runs in found.items() if len(of_runs) == len(runs)}
