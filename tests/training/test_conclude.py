"""The end of a run."""

import json

import pytest

from bert.serving.served import Served
from bert.training.conclude import conclude


class Recorded:
    """Notes what is queued, and whether the run was finished by then."""

    def __init__(self, output) -> None:
        self.output, self.queued = output, []

    def artifact(self, path) -> None:
        self.queued.append((path.name, (self.output / "metrics.json").is_file()))

    def model(self, step) -> None:
        assert (self.output / "served.json").is_file()
        self.queued.append((step, (self.output / "metrics.json").is_file()))


@pytest.mark.parametrize("served", [Served("fill_mask", {"text": "a"}, {}), None])
def test_a_run_is_finished_once_all_else_is_on_its_way(tmp_path, served):
    for name in ("run.yaml", "audit.json"):
        (tmp_path / name).write_text("")
    tracker = Recorded(tmp_path)
    conclude(tmp_path, {"loss": 1.0}, served, 7, ("audit.json", "audit.png"), tracker)
    model = [(7, False)] if served else []
    assert tracker.queued == [("run.yaml", False), ("audit.json", False), *model, ("metrics.json", True)]
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"loss": 1.0}
