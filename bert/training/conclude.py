"""The end of a run: what it leaves beside its model, in an order that a crash cannot harm."""

from pathlib import Path

from bert.serving.served import Served
from bert.training import identity
from bert.training.tracking import Tracker


def conclude(
    output: Path, result: dict[str, float], served: Served | None, step: int, files: tuple[str, ...], tracker: Tracker
) -> None:
    """Write served.json and metrics.json, and queue the files and the model for MLflow; on rank 0 only.

    metrics.json comes last: with it the run is finished, and is not started again, so all else must be on its way.

    Args:
        output: the run's folder, with its model.
        result: what the run reached.
        served: how the model is served; None if it is not.
        step: that of the model.
        files: those of the run's own files that are there go to MLflow, besides its options and its result.
        tracker: the run's.
    """
    if served is not None:
        served.write(output)
    for name in (identity.OPTIONS, *files):
        if (output / name).is_file():
            tracker.artifact(output / name)
    if served is not None:
        tracker.model(step)
    identity.finish(output, result)
    tracker.artifact(output / identity.RESULT)
