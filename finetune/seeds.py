"""One run, or one for each of several seeds, with mean and standard deviation."""

import math
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean, stdev

from bert import hub
from bert.counting import count_of
from bert.errors import UserError, refuse_if
from bert.training import distributed, identity, lock, provenance
from bert.training.device import choose_device
from bert.training.stopping import Stopped, note_last_step, stop_requests
from bert.training.tracking import track
from finetune import launch
from finetune.config import FinetuneConfig
from finetune.options import check, with_defaults


def train(config: FinetuneConfig) -> dict[str, float] | None:
    """Run, resume or decline; with `seeds`, one run after another in folders of their own, and a summary.

    Returns:
        What metrics.json holds; for several runs each score's mean under its name, and its standard deviation as
        NAME_std. None if the output was finished before.

    Raises:
        UserError: anything the user can fix.
        Stopped: a signal asked to stop; the same command resumes.
    """
    if not config.seeds:
        return launch.train(config)
    config = with_defaults(config)
    refuse_if(check(config))
    output, device = Path(config.output), choose_device(config.training)
    with lock.hold(output):
        if identity.has_begun(output) and not identity.started_with(output, "seeds"):
            raise UserError(f"output: '{output}' holds a single run, without seeds. Use another folder.")
        free, defaults = (*identity.FREE, "seeds"), asdict(FinetuneConfig())
        # Both read on the first rank in one go, since it then writes the files that they are read from.
        state, asked = distributed.from_first(
            lambda: (
                identity.state_of(output, asdict(config), {}, free, None, defaults),
                identity.started_with(output, "seeds") or [],
            )
        )
        _refuse_fewer(config, output, asked)
        if state == "finished" and {*asked} == {*config.seeds}:
            if there := [seed for seed in config.seeds if identity.is_finished(output / f"seed-{seed}")]:
                _one(config, there[0], output, None)  # refuses data other than it began with
            identity.say_finished(output)
            return None
        if distributed.is_first():
            identity.reopen(output)
            identity.claim(output, asdict(config), {})
        tags = provenance.tags("finetune", device) | {"task": config.task.name}
        with track(output, config.tracking, asdict(config), tags, resume=state != "new") as tracker, stop_requests():
            parent = tracker.awaited_run_id()
            runs = [_one(config, seed, output, parent) for seed in config.seeds]
            result = summary(runs)
            tracker.log(len(runs), launch.of_the_best(result))
            if distributed.is_first():
                identity.finish(output, result)
            for name in (identity.OPTIONS, identity.RESULT):
                tracker.artifact(output / name)
    print("\n" + in_words(runs))
    return result


def summary(runs: list[dict[str, float]]) -> dict[str, float]:
    """Each score's mean over the runs and, for several, its sample standard deviation as NAME_std."""
    found = {"runs": len(runs)}
    for name in (name for name in runs[0] if name.startswith(("valid/", "test/")) and all(name in run for run in runs)):
        values = [run[name] for run in runs]
        found |= {name: fmean(values)} | ({f"{name}_std": _deviation(values)} if len(values) > 1 else {})
    return found


def _deviation(values: list[float]) -> float:
    """The sample standard deviation; NaN where a value is, as a score on questions that a file does not have."""
    return stdev(values) if all(map(math.isfinite, values)) else math.nan


def in_words(runs: list[dict[str, float]]) -> str:
    """A line for each score: mean, standard deviation and each run's value."""
    found = summary(runs)
    names = [name for name in runs[0] if name in found]
    width = max(map(len, names))
    lines = [f"  {'':<{width}}    mean ± deviation   of {count_of(len(runs), 'seed')}"]
    for name in names:
        each = "  ".join(f"{run[name]:.4f}" for run in runs)
        lines.append(f"  {name:<{width}}  {found[name]:.4f} ± {found.get(f'{name}_std', math.nan):.4f}   {each}")
    return "\n".join(lines)


def _refuse_fewer(config: FinetuneConfig, output: Path, asked: list[int]) -> None:
    """A folder may be given further seeds, but none left out: its mean would be over selected runs."""
    begun = [seed for seed in asked if identity.has_begun(output / f"seed-{seed}")]
    if left_out := [seed for seed in begun if seed not in config.seeds]:
        raise UserError(
            f"seeds: {config.seeds}, but '{output}' holds runs of {begun}. Keep {left_out} among the seeds, or use "
            f"another folder."
        )


def _changed_start(config: FinetuneConfig, output: Path) -> list[str]:
    """The fault of a start that is not what it was for the seeds that have begun."""
    begun = [seed for seed in config.seeds if identity.has_begun(output / f"seed-{seed}")]
    known = [identity.started_with(output / f"seed-{seed}", provenance.INIT_WEIGHTS) for seed in begun]
    if config.init == "none" or not any(known):
        return []
    if hub.weights_fingerprint(config.init, "init") in known:
        return []
    return [
        f"init: the weights of '{config.init}' are not those that seed {begun[0]} started from. Put them back, or use "
        f"another folder; of a run that is still going, a folder of checkpoints/ stays as it is."
    ]


def _one(config: FinetuneConfig, seed: int, folder: Path, parent: str | None) -> dict[str, float]:
    """Run one seed, if it is not finished; its metrics.

    Raises:
        Stopped: it is not, and a signal has asked to stop.
    """
    output = folder / f"seed-{seed}"
    # It may have changed since the last one began.
    refuse_if(distributed.from_first(lambda: [] if identity.has_begun(output) else _changed_start(config, folder)))
    with stop_requests() as stop_asked:
        if distributed.any_of(stop_asked()) and not identity.is_finished(output):
            raise Stopped(f"stopped before seed {seed}; the same command continues from there.")
    note_last_step(False)
    print(f"\n--- seed {seed} ---")
    tags = {**config.tracking.tags, "seed": str(seed)} | ({"mlflow.parentRunId": parent} if parent else {})
    name = f"{config.tracking.run_name or Path(config.output).name} seed {seed}"
    launch.train(
        replace(
            config,
            seeds=[],
            training=replace(config.training, seed=seed),
            tracking=replace(config.tracking, tags=tags, run_name=name),
            output=str(output),
        ),
        alone=False,
    )
    return distributed.from_first(lambda: _reached(output / identity.RESULT))


def _reached(file: Path) -> dict[str, float]:
    try:
        return identity.metrics_in(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"output: {file} is damaged: {error}.") from error
