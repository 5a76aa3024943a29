"""The names of a grid's metrics, PLACE/NAME: valid/NAME of pretraining, and TASK/NAME of a fine-tuning task.

A task's NAME is a score on its data.eval (ner/entity_macro_f1), or on a file of its data.test
(ner/test/hard/entity_macro_f1). Its run writes the former as valid/NAME, and what can be had without reading as
baseline/NAME.
"""

VALID = "valid"
"""The place of the metrics of pretraining, whose runs write them under these names already."""


def prefix_of(place: str) -> str:
    """What the full names of a place's metrics begin with."""
    return f"{place}/"


def full_name(place: str, name: str) -> str:
    """The full name of a metric of pretraining or of a task."""
    return prefix_of(place) + name


def place_of(metric: str) -> str:
    """VALID, or the task that a metric is of."""
    return metric.partition("/")[0]


def name_in_place(metric: str) -> str:
    """A metric's name without its place."""
    return metric.partition("/")[2]


def is_of_pretraining(metric: str) -> bool:
    """Whether a metric is one of pretraining, and of no task."""
    return place_of(metric) == VALID


def is_loss(metric: str) -> bool:
    """Whether a metric is a loss, which tells finer differences than any score of predictions."""
    return metric.endswith("loss")


def scores_of(task: str, written: dict[str, float]) -> dict[str, float]:
    """A task's metrics in the metrics.json of its run, by their full names."""
    on_eval = _beginning_with("valid/", written)
    on_tests = {f"test/{name}": value for name, value in _beginning_with("test/", written).items()}
    return {full_name(task, name): value for name, value in (on_eval | on_tests).items()}


def floors_of(task: str, written: dict[str, float]) -> dict[str, float]:
    """What a constant answer would score, in the metrics.json of a task's run: by the full names of the metrics."""
    return {full_name(task, name): value for name, value in _beginning_with("baseline/", written).items()}


def _beginning_with(prefix: str, metrics: dict[str, float]) -> dict[str, float]:
    """Those that begin so, without this beginning."""
    return {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}
