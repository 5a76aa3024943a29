"""Which documents are trained on and which are held out: decided by the text itself."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bert import whole_file


@dataclass(frozen=True)
class Split:
    """Document numbers.

    Attributes:
        train: (documents trained on,), ascending; sent to loader workers.
        valid: (documents held out,), ascending, mapped from disk.
    """

    train: "OnDisk"
    valid: np.ndarray


class OnDisk:
    """The numbers in a file, memory-mapped; when pickled, only its path, so that every process maps the same file."""

    def __init__(self, file: Path) -> None:
        self.file, self._numbers = file, np.load(file, mmap_mode="r")

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, which: np.ndarray | slice) -> np.ndarray:
        return self._numbers[which]

    def __array__(self, dtype: type | None = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self._numbers, dtype) if copy else np.asarray(self._numbers, dtype)

    def __reduce__(self) -> tuple:
        return type(self), (self.file,)


def open_split(hashes: np.ndarray, share: float, cache: Path, name: str) -> Split:
    """Hold out the documents with the lowest hashes: `share` of them, at least one (none where share is 0).

    Copies of a document have the same hash, so they fall on the same side, and more text never moves a document across
    except at the threshold. The split does not depend on the seed or the corpus' order: every run validates on the
    same text.

    Args:
        hashes: of each document's text, (documents,), uint64.
        share: of the documents to hold out, in [0, 1).
        cache: where the two arrays are written.
        name: of this corpus, for the files' names.
    """
    prefix = cache / f"split-{name[:16]}-{share:g}"
    files = [prefix.with_name(f"{prefix.name}-{part}.npy") for part in ("train", "valid")]
    if not all(file.is_file() for file in files):
        held_out = _held_out(np.asarray(hashes), share)
        for file, array in zip(files, (np.flatnonzero(~held_out), np.flatnonzero(held_out)), strict=True):
            with whole_file.replacing(file, shared=True) as unfinished, unfinished.open("wb") as handle:
                np.save(handle, array)
    return Split(OnDisk(files[0]), np.load(files[1], mmap_mode="r"))


def _held_out(hashes: np.ndarray, share: float) -> np.ndarray:
    if share == 0:
        return np.zeros(len(hashes), bool)
    wanted = max(1, round(share * len(hashes)))
    return hashes <= np.partition(hashes, wanted - 1)[wanted - 1]
