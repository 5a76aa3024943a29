"""The tensors in a folder's weight files, read piece by piece, so that no file is ever in memory whole."""

import json
import math
import pickle
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from bert.errors import UserError

BESIDE = "heads.safetensors"
"""What lies beside model.safetensors: parameters that the transformers class of a folder has no place for."""

_ROWS_AT_ONCE = 1 << 22
"""Numbers read at once."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file.

    Attributes:
        shape: its sizes.
        rows: reads the rows [first, last), or, of a vector, the numbers; of a single number, that.
    """

    shape: tuple[int, ...]
    rows: Callable[[int, int], Tensor]

    def copy_to(self, target: Tensor) -> None:
        """Fill a tensor of the same shape, some rows at a time."""
        if not self.shape:
            target.copy_(self.rows(0, 1))
            return
        step = max(1, _ROWS_AT_ONCE // max(1, math.prod(self.shape[1:])))
        for first in range(0, self.shape[0], step):
            target[first : first + step].copy_(self.rows(first, min(first + step, self.shape[0])))

    def without_rows(self, count: int) -> "StoredTensor":
        """The tensor without its first `count` rows."""
        rows = max(0, self.shape[0] - count)
        return StoredTensor((rows, *self.shape[1:]), lambda first, last: self.rows(first + count, last + count))

    def row_twice(self) -> "StoredTensor":
        """Its only row, twice."""
        return StoredTensor(
            (2, *self.shape[1:]), lambda first, last: self.rows(0, 1).expand(last - first, *self.shape[1:])
        )


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """All tensors of model.safetensors, or else of pytorch_model.bin; either may be sharded, with an index.

    Raises:
        UserError: there is neither, or one cannot be read.
    """
    return {
        name: tensor
        for file in _model_files(folder)
        for name, tensor in (_safetensors if file.suffix == ".safetensors" else _pickled)(file).items()
    }


def weight_files(folder: Path) -> list[Path]:
    """All files with a model's weights, heads.safetensors last if there is one; raises as `stored_tensors` does."""
    beside = folder / BESIDE
    return [*_model_files(folder), *([beside] if beside.is_file() else [])]


def _model_files(folder: Path) -> list[Path]:
    """Those of model.safetensors, or else of pytorch_model.bin."""
    for single in ("model.safetensors", "pytorch_model.bin"):
        files = [folder / single] if (folder / single).is_file() else _parts(folder / f"{single}.index.json")
        if files:
            return files
    raise UserError(f"{str(folder)!r} is not a model folder: it has no model.safetensors.")


def tensors_beside(folder: Path) -> dict[str, StoredTensor]:
    """All tensors of heads.safetensors; none where there is no such file.

    Raises:
        UserError: it cannot be read.
    """
    file = folder / BESIDE
    return _safetensors(file) if file.is_file() else {}


def _parts(index: Path) -> list[Path]:
    if not index.is_file():
        return []
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{index}: not an index of weight files: {type(error).__name__}: {error}.") from error
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise UserError(f"{index}: names {', '.join(missing)}, which the folder does not have.")
    return [index.parent / name for name in names]


def _safetensors(file: Path) -> dict[str, StoredTensor]:
    def rows_of(name: str) -> Callable[[int, int], Tensor]:
        def rows(first: int, last: int) -> Tensor:
            # Opened for each piece: what was read through a memory map stays resident until the file is closed.
            with safe_open(file, "pt") as opened:
                return opened.get_slice(name)[first:last] if shapes[name] else opened.get_tensor(name)

        return rows

    try:
        with safe_open(file, "pt") as opened:
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(f"{file}: not readable as weights: {error}.") from error
    return {name: StoredTensor(shape, rows_of(name)) for name, shape in shapes.items()}


def _pickled(file: Path) -> dict[str, StoredTensor]:
    """The tensors of a torch.save file; nothing that could run code is loaded."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol", UserWarning)
            found = torch.load(file, map_location="cpu", weights_only=True, mmap=_is_zip(file))
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        why = str(error).split("\n")[0]
        raise UserError(
            f"{file}: not readable as weights: {why} Only tensors are read from such a file; "
            f"whoever made it can save it as model.safetensors."
        ) from error
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{file}: holds a {type(found).__name__} of things other than tensors, not a model's weights.")
    return {
        name: StoredTensor(tuple(t.shape), lambda first, last, t=t: t[first:last] if t.ndim else t)
        for name, t in found.items()
    }


def _is_zip(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(2) == b"PK"
