"""The grid's own run in MLflow, of which its cells are children; one process at a time holds it. And a cell's."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from bert.errors import UserError
from bert.training import provenance
from bert.training.ledger import LEDGER, warn
from bert.training.lock import taken
from bert.training.mlflow_feed import FIRST_CONTACT
from bert.training.tracking import Tracker, log_afterwards, track
from pretrain.ablation.cell_runs import PRETRAINING, cell_folder
from pretrain.ablation.grid import AblateConfig, Cell, grid_as_yaml
from pretrain.ablation.plan import device_of
from pretrain.ablation.results import task_scores

_MAY_GROW = ("seeds", "effects", "metrics")


@contextmanager
def grid_run(config: AblateConfig) -> Iterator[Tracker | None]:
    """The grid's own run in MLflow; None if another process holds it, or only one cell is run."""
    output = Path(config.output)
    if config.only is not None:
        yield None
        return
    with taken(output / ".grid") as lock:
        if lock is None:
            yield None
            return
        resume = (output / LEDGER).is_file()
        described = yaml.safe_load(grid_as_yaml(config))
        params = {name: value for name, value in described.items() if name not in _MAY_GROW}
        with track(output, config.tracking, params, _tags(config), resume) as tracker:
            yield tracker


def _tags(config: AblateConfig) -> dict[str, str]:
    """Where the cells will run, and what may be added to the grid later: parameters stay as they were at first."""
    now = {name: ", ".join(map(str, getattr(config, name))) for name in _MAY_GROW}
    return provenance.tags("ablation", device_of(config)) | now


def note_scores(config: AblateConfig, cell: Cell) -> None:
    """Log what the tasks of a finished cell reached, means over their seeds, as metrics of its pretraining too: one row
    of MLflow's table then has all of a model."""
    folder = cell_folder(config, cell)
    if scores := task_scores(config, folder):
        try:
            log_afterwards(PRETRAINING.output(folder), scores)
        except (UserError, OSError) as error:
            warn(f"the scores of {cell.name} are not among its own metrics: {error}")


def parent_of_cells(config: AblateConfig, tracker: Tracker | None) -> str | None:
    """MLflow's id of the grid's run, as the cells' parent, once the process that holds the grid has it; None where
    there is no store, or it fails."""
    if tracker is not None:
        return tracker.awaited_run_id()
    ledger, began = Path(config.output) / LEDGER, time.monotonic()
    while time.monotonic() - began < FIRST_CONTACT and config.tracking.uri != "none":
        known = json.loads(ledger.read_text(encoding="utf-8"))["run_id"] if ledger.is_file() else None
        if known or config.only is not None:
            return known
        time.sleep(0.1)
    return None
