"""A run's whole state on disk: written under another name, checksummed, then renamed; verified before it is read.

checkpoints/step-00000500/
    config.json, model.safetensors, tokenizer.json, ...     a Hugging Face folder
    optimizer.safetensors                                   AdamW's moments, by parameter
    state.json                                              step, position, budget, best so far, sums not yet logged
    manifest.json                                           SHA-256 of each file; written last
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from bert import whole_file
from bert.errors import UserError
from bert.training import distributed
from bert.training.objective import Objective

_MANIFEST, _REACHED = "manifest.json", "reached.json"

NAMES = "step-*"
"""What the folders of checkpoints are called."""


def name_of(step: int) -> str:
    """The name of a step's checkpoint; names are in the order of steps."""
    return NAMES.replace("*", f"{step:08d}")


def step_of(name: str) -> int:
    """The step of a checkpoint, by its name."""
    return int(name.removeprefix(NAMES.rstrip("*")))


def folders(output: Path) -> list[Path]:
    """The checkpoints of a run, damaged or not, in the order of steps."""
    return sorted((output / "checkpoints").glob(NAMES))


def save(output: Path, objective: Objective, optimizer: torch.optim.Optimizer, state: dict, keep: int) -> Path:
    """Write the checkpoint of state["step"], and remove earlier ones, so that `keep` are left.

    Later ones can only be damaged, or the run would have resumed from them; they do not count, and are rewritten in
    their turn.
    """
    folder = output / "checkpoints" / name_of(state["step"])
    if folder.is_dir() and _damage(folder) is not None:
        shutil.rmtree(folder)
    if not folder.is_dir():
        with _Unfinished(folder) as unfinished:
            objective.export(unfinished)
            save_file(_moments(objective, optimizer), unfinished / "optimizer.safetensors")
            (unfinished / "state.json").write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
            _write_manifest(unfinished)
    for left in folder.parent.glob(".step-*.unfinished"):  # by killed processes
        shutil.rmtree(left, ignore_errors=True)
    earlier = [old for old in folders(output) if old.name < folder.name]
    for old in earlier[: max(0, len(earlier) - (keep - 1))]:
        shutil.rmtree(old)
    return folder


def export(objective: Objective, folder: Path, reached: dict) -> None:
    """Write only the model and what it reached, replacing what is there; whole or not at all."""
    with _Unfinished(folder) as unfinished:
        objective.export(unfinished)
        (unfinished / _REACHED).write_text(json.dumps(reached, indent=2) + "\n", encoding="utf-8")


def recover_export(folder: Path) -> dict | None:
    """What the model that `export` wrote here reached: {} where that is not recorded, None where there is no model.

    If a process died between the two renames, the previous model gets its name back.
    """
    if not folder.is_dir() and _aside(folder).is_dir():
        _aside(folder).rename(folder)
    shutil.rmtree(_aside(folder), ignore_errors=True)
    if not folder.is_dir():
        return None
    file = folder / _REACHED
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def remove_export(folder: Path) -> None:
    """Remove what `export` wrote here, if anything; no other folder of that name."""
    for left in (folder, _aside(folder)):
        if (left / _REACHED).is_file():
            shutil.rmtree(left)


def newest(output: Path) -> Path | None:
    """The newest checkpoint whose files match its manifest, or None where there are no checkpoints at all.

    Raises:
        UserError: there are checkpoints, and every one of them is damaged.
    """
    found = folders(output)
    for folder in reversed(found):
        damaged = _damage(folder)
        if damaged is None:
            return folder
        print(f"{folder}: damaged ({damaged}); looking for an older checkpoint.", file=sys.stderr)
    if found:
        raise UserError(
            f"output: every checkpoint in '{output / 'checkpoints'}' is damaged; remove them to start anew."
        )
    return None


def change_course(output: Path, objective: Objective, judged_alike: bool) -> int:
    """Prepare to continue with other options: the step to continue from, or 0 without a checkpoint.

    The newest weights are loaded, to check that they fit the model; the best ones are removed if they are of a later
    step, which is not on this course, or were judged on other data.

    Args:
        output: the run's folder.
        objective: with the other options.
        judged_alike: whether it is evaluated on the same data as before.

    Raises:
        UserError: the weights do not fit.
    """
    folder = distributed.from_first(lambda: newest(output))
    step = 0 if folder is None else json.loads((folder / "state.json").read_text(encoding="utf-8"))["step"]
    if folder is not None:
        objective.restore(folder)
    best = output / "best"
    if distributed.is_first() and (reached := recover_export(best)) is not None:
        later = (reached.get("best_step") or 0) > step
        if later or not judged_alike:
            why = f"it is of a later step than {step}" if later else "it was judged on other data"
            print(f"{best}: removed, since {why}; the next evaluation is the best")
            shutil.rmtree(best)
    distributed.wait()
    return step


def restore(folder: Path, objective: Objective, optimizer: torch.optim.Optimizer) -> dict:
    """Load weights and moments, and return the state that was saved with them."""
    objective.restore(folder)
    moments = load_file(folder / "optimizer.safetensors")
    for name, parameter in objective.named_parameters():
        if f"{name}/step" not in moments:  # frozen, or never reached by a gradient
            continue
        of_parameter = {key: moments[f"{name}/{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
        # Copied even on a CPU, where they would stay mapped from a file that is soon removed.
        optimizer.state[parameter] = {key: value.to(parameter.device, copy=True) for key, value in of_parameter.items()}
    return json.loads((folder / "state.json").read_text(encoding="utf-8"))


def _moments(objective: Objective, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{key}": value.detach().cpu().contiguous()
        for name, parameter in objective.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }


class _Unfinished:
    """A folder that gets its name once its files are on disk, replacing one of that name; removed on failure."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.unfinished = _unfinished(folder)

    def __enter__(self) -> Path:
        shutil.rmtree(self.unfinished, ignore_errors=True)
        self.unfinished.mkdir(parents=True)
        return self.unfinished

    def __exit__(self, kind, error, trace) -> None:
        if kind is not None:
            shutil.rmtree(self.unfinished, ignore_errors=True)
            return
        for file in self.unfinished.iterdir():
            whole_file.sync(file)
        whole_file.sync(self.unfinished)
        if self.folder.is_dir():
            shutil.rmtree(_aside(self.folder), ignore_errors=True)
            self.folder.rename(_aside(self.folder))
        self.unfinished.rename(self.folder)
        whole_file.sync(self.folder.parent)
        shutil.rmtree(_aside(self.folder), ignore_errors=True)


def _unfinished(folder: Path) -> Path:
    """Where a folder is written before it gets its name."""
    return folder.with_name(f".{folder.name}.unfinished")


def _aside(folder: Path) -> Path:
    """Where a folder's previous content is kept until its replacement is there."""
    return folder.with_name(f".{folder.name}.before")


def _write_manifest(folder: Path) -> None:
    sums = {file.name: whole_file.sha256(file) for file in sorted(folder.iterdir())}
    (folder / _MANIFEST).write_text(json.dumps(sums, indent=2) + "\n", encoding="utf-8")


def _damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None."""
    try:
        sums = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        wrong = [name for name, expected in sums.items() if whole_file.sha256(folder / name) != expected]
    except (OSError, ValueError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"
    return f"not what was written: {', '.join(wrong)}" if wrong else None
