"""The verb ablate: plan, run, report; by one process or by several on one folder."""

import json
import shlex
import sys
from pathlib import Path

import yaml

from bert import whole_file
from bert.errors import UserError, refuse_if
from bert.training.stopping import Stopped, stop_requests
from bert.training.tracking import DESCRIPTION, Tracker
from pretrain.ablation.cell_runs import any_is_pretrained
from pretrain.ablation.checks import changed_inputs, refuse_wrong, refuse_wrong_tasks, unreadable_files
from pretrain.ablation.commands import ROOT, differences
from pretrain.ablation.grid import AblateConfig, Cell, cells, grid_as_yaml
from pretrain.ablation.grid_run import grid_run, parent_of_cells
from pretrain.ablation.plan import plan
from pretrain.ablation.report import FILES, write_report
from pretrain.ablation.results import lacking, mixed, read_results
from pretrain.ablation.run import failures, run_cells

_GRID = "grid.yaml"

_DECLARED = "declared.yaml"
"""The grid as it was before any of its cells was finished: what was chosen without knowing results."""


def ablate(config: AblateConfig) -> None:
    """Run the unfinished cells of a grid, and write its report.

    Raises:
        UserError: the grid is wrong, its folder holds runs of another, or cells failed.
        Stopped: a signal asked to stop; the same command resumes from there.
    """
    refuse_wrong(config)
    refuse_if(unreadable_files(config))
    refuse_wrong_tasks(config)
    refuse_if(_undeclared(config))
    there = read_results(config)
    refuse_if(differences(config, cells(config)) + lacking(config, there) + mixed(config, there))
    wanted = _only(config)
    refuse_if(changed_inputs(config, wanted))
    print(plan(config, wanted, there), file=sys.stderr if config.print_cells else sys.stdout)
    if config.dry_run:
        return
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    if config.only is None:  # a single cell is given this file, perhaps while others run
        whole_file.write(output / _GRID, grid_as_yaml(config))
    if not any_is_pretrained(output):
        whole_file.write(output / _DECLARED, grid_as_yaml(config))
    if config.print_cells:
        with grid_run(config) as tracker:  # so that cells find their parent in MLflow wherever they run
            parent_of_cells(config, tracker)
        print("\n".join(_cell_command(config, cell) for cell in wanted))
        return
    with stop_requests() as stop_asked, grid_run(config) as tracker:
        run_cells(config, wanted, parent_of_cells(config, tracker), stop_asked)
        failed = failures(config, wanted)
        if tracker is not None:
            _report(config, failed, tracker)
        if stop_asked():
            raise Stopped("stopped; the same command continues from there.")
    if tracker is None and config.only is None:
        with grid_run(config) as late:  # the process that held the grid may be gone by now
            if late is None:
                print(f"another process is working on '{output}', and will write the report.")
            else:
                _report(config, failed, late)
    refuse_if([f"{cell.name}: {fault}" for cell, fault in failed.items()] + mixed(config, read_results(config)))


def _report(config: AblateConfig, failed: dict[Cell, str], tracker: Tracker) -> None:
    output = Path(config.output)
    results = read_results(config)
    if mixed(config, results):
        return  # nothing to compare; `ablate` ends with the reason
    text = write_report(config, results, failed, changed_since(config), output)
    in_short = text.partition("## Effects")[0]
    print(f"\n{in_short}all of it:  {output / FILES[0]}")
    tracker.tag(DESCRIPTION, in_short.partition("![")[0])  # MLflow would look for the picture elsewhere
    for name in (*FILES, _GRID, _DECLARED):
        if (output / name).is_file():
            tracker.artifact(output / name)


def _undeclared(config: AblateConfig) -> list[str]:
    """The fault of a grid with finished cells whose declaration is gone."""
    output = Path(config.output)
    if (output / _DECLARED).is_file() or not any_is_pretrained(output):
        return []
    return [
        f"output: '{output / _DECLARED}' is missing, which says what was chosen before the first cell was finished. "
        f"Put it back; if nothing has been chosen since, a copy of {_GRID} is the same."
    ]


def changed_since(config: AblateConfig) -> list[str]:
    """What affects p values and differs from the declaration before the first cell was finished, in words."""
    file = Path(config.output) / _DECLARED
    declared, now = (yaml.safe_load(text) for text in (file.read_text(encoding="utf-8"), grid_as_yaml(config)))
    names = ("axes", "baseline", "effects", "metrics", "seeds")
    found = [f"{name} {now[name]}, declared as {declared[name]}" for name in names if now[name] != declared[name]]
    seeds = [{name: task["seeds"] for name, task in grid["finetune"].items()} for grid in (now, declared)]
    both = [name for name in seeds[0] if name in seeds[1] and seeds[0][name] != seeds[1][name]]
    return found + [f"finetune.{name}.seeds {seeds[0][name]}, declared as {seeds[1][name]}" for name in both]


def _only(config: AblateConfig) -> list[Cell]:
    every = cells(config)
    if config.only is None:
        return every
    found = [cell for cell in every if cell.name == config.only]
    if not found:
        raise UserError(f"only: no cell {config.only!r}; --print_cells true lists them.")
    return found


def _cell_command(config: AblateConfig, cell: Cell) -> str:
    grid = Path(config.output) / _GRID
    words = [sys.executable, str(ROOT / "run.py"), "ablate", "--config", str(grid), "--output", config.output]
    words += ["--tracking.uri", config.tracking.uri, "--tracking.experiment", config.tracking.experiment]
    if config.tracking.tags:
        words += ["--tracking.tags", json.dumps(config.tracking.tags, ensure_ascii=False)]
    return shlex.join([*words, "--only", cell.name])
