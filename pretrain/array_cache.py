"""Arrays made once from a file and cached on disk, as memory maps for every process."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pretrain import cached_folder

VERSION = 4
"""Incremented when the cached content changes, so that older arrays are rebuilt."""

Kept = tuple[dict[str, Any], dict[str, np.ndarray]]
"""The facts, and the arrays as read-only memory maps by name."""


def keep(
    cache: Path,
    kind: str,
    identity: dict[str, Any],
    fingerprint: Sequence[int],
    make: Callable[[Path], dict[str, Any]],
) -> Kept:
    """The arrays that `make` makes, made once: cached in the folder `cache` while the fingerprint stays the same.

    Several processes may do this at once.

    Args:
        cache: the folder of cached arrays; created if missing.
        kind: of array, the first part of the name of the folder that theirs is in.
        identity: what the arrays are of, and all settings they depend on, JSON-serialisable.
        fingerprint: of the file they are made from; if it changes, they are made again.
        make: writes .npy files into the folder it is given and returns facts to keep with them, JSON-serialisable.
    """
    folder = cache / f"{kind}-{_digest(identity)}" / _digest([VERSION, *fingerprint])
    if found := _load(folder):
        return found
    if folder.is_dir() and _load(folder) is None:  # damaged, and not that of a process that was faster
        cached_folder.remove(folder)
    with cached_folder.building(folder) as unfinished:
        facts = make(unfinished)
        manifest = {
            "version": VERSION,
            "fingerprint": list(fingerprint),
            "identity": identity,
            "facts": facts,
        }
        manifest["lengths"] = {path.stem: len(np.load(path, mmap_mode="r")) for path in unfinished.glob("*.npy")}
        (unfinished / "manifest.json").write_text(json.dumps(manifest, indent=2, ensure_ascii=False), "utf-8")
    for older in folder.parent.glob("[!.]*"):
        if older != folder:
            shutil.rmtree(older, ignore_errors=True)
    found = _load(folder)
    if found is None:
        raise OSError(f"the arrays kept in {folder} cannot be read back")
    return found


def _digest(value: Any) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


def _load(folder: Path) -> Kept | None:
    """What the folder holds; None if it is missing or damaged. Raises OSError where that cannot be told."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in manifest["lengths"]}
        whole = all(len(array) == manifest["lengths"][name] for name, array in arrays.items())
        return (manifest["facts"], arrays) if whole else None
    except (FileNotFoundError, NotADirectoryError, EOFError, ValueError, KeyError):
        return None


class GrowingArray:
    """An .npy file written in pieces, so that it is never in memory as a whole.

    The header is written first for zero rows and at the end for all: numpy pads it to the same length for any number.
    """

    def __init__(self, path: Path, dtype: type, row_shape: tuple[int, ...] = ()) -> None:
        self._dtype = np.dtype(dtype)
        self._row_shape = row_shape
        self._rows = 0
        self._file = path.open("wb")
        self._write_header()

    def extend(self, rows: Sequence | np.ndarray) -> None:
        """Append rows, (R, *row_shape)."""
        self._file.write(np.asarray(rows, self._dtype).tobytes())
        self._rows += len(rows)

    def __enter__(self) -> "GrowingArray":
        return self

    def __exit__(self, *exception: object) -> None:
        with self._file:
            self._file.seek(0)
            self._write_header()
            self._file.flush()
            os.fsync(self._file.fileno())

    def _write_header(self) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._rows, *self._row_shape),
        }
        np.lib.format.write_array_header_1_0(self._file, header)
