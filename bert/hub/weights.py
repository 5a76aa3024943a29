"""A model's parameters, written to model.safetensors and read from a folder's weight files.

What the transformers class of a folder has no place for lies beside them in heads.safetensors, under our names.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bert.errors import UserError, refuse_if
from bert.hub.description import load_config
from bert.hub.families import FAMILIES
from bert.hub.files import BESIDE, StoredTensor, stored_tensors, tensors_beside, weight_files
from bert.hub.names import modern_name, our_name, pieces_of, to_transformers

_TABLE = "bert.embeddings.word_embeddings.weight"
_DECODER, _DECODER_BIAS, _BIAS = (
    "cls.predictions.decoder.weight",
    "cls.predictions.decoder.bias",
    "cls.predictions.bias",
)


@dataclass(frozen=True)
class LoadReport:
    """The outcome of loading weights into a model.

    Attributes:
        new: parts of the model that the file lacks, as prefixes of names; they keep their values.
        unused: parameters in the file that the model has no place for; by our names where we have one.
    """

    new: list[str]
    unused: list[str]

    def in_words(self) -> str:
        """What is new and what was not needed, by parts."""
        new = ", ".join(name.strip(".").removeprefix("bert.") for name in self.new)
        parts = sorted({n.rpartition(".")[0] if n.startswith("bert.") else n.split(".")[0] for n in self.unused})
        return f"encoder loaded; new: {new or 'nothing'}; not used: {', '.join(parts) or 'nothing'}"


def save_weights(folder: Path, model: nn.Module, leave_out: tuple[str, ...] = (), beside: tuple[str, ...] = ()) -> None:
    """Write model.safetensors with transformers' names; tied matrices are one parameter here, so saved once.

    Args:
        folder: where its config.json is.
        model: a module whose parameter names are those of the objectives (`bert.`, `masked_lm_head.`, `head.`, ...).
        leave_out: prefixes of names that are not saved.
        beside: prefixes of names that the class in config.json has no place for: they go into heads.safetensors, as
            they are, so that transformers finds no unexpected name.
    """
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    state = {name: tensor for name, tensor in state.items() if not name.startswith(leave_out)}
    extra = {name: tensor.contiguous() for name, tensor in state.items() if name.startswith(beside)}
    rest = {name: tensor for name, tensor in state.items() if name not in extra}
    _save(to_transformers(rest), folder / "model.safetensors", metadata={"format": "pt"})
    if extra:
        _save(extra, folder / BESIDE)


def _save(tensors: dict[str, Tensor], file: Path, metadata: dict[str, str] | None = None) -> None:
    save_file(tensors, file, metadata)
    shutil.copymode(file.parent / "config.json", file)  # the library lets only the owner read it


@torch.no_grad()
def load_weights(
    folder: Path,
    model: nn.Module,
    may_be_new: tuple[str, ...] = (),
    not_taken: tuple[str, ...] = (),
    beside: tuple[str, ...] = (),
) -> LoadReport:
    """Fill the model from the folder's weight files, some rows at a time.

    Args:
        folder: a model's, of this project or of transformers.
        model: a module whose parameter names are those of the objectives (`bert.`, `masked_lm_head.`, `head.`, ...).
        may_be_new: prefixes of names that the folder, which may be another model's, may lack altogether; lacking only
            some of them is an error.
        not_taken: prefixes of names that keep their values whatever the file has.
        beside: prefixes of names that are in heads.safetensors, where `save_weights` put them.

    Raises:
        UserError: no weights, unreadable ones, a parameter that is missing, has another shape or is not finite, or,
            where nothing may be new, one in heads.safetensors that the model has no place for.
    """
    before = _state_of_files(folder)
    stored, extra = _stored(folder), tensors_beside(folder)
    renamed = {our_name(name) for name in stored}
    there = renamed | extra.keys()
    wanted = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(not_taken)}
    new = [
        prefix
        for prefix in may_be_new
        if (own := {name for name in wanted if name.startswith(prefix)})
        and own.isdisjoint(extra if prefix.startswith(beside) else renamed)
    ]
    wanted = {name: tensor for name, tensor in wanted.items() if not name.startswith(tuple(new))}
    of_extra = {name: tensor for name, tensor in wanted.items() if name.startswith(beside)}
    of_stored = {
        theirs: piece
        for name, tensor in wanted.items()
        if name not in of_extra
        for theirs, piece in pieces_of(name, tensor).items()
    }
    if of_extra and not (folder / BESIDE).is_file():
        raise UserError(f"'{folder}' has no {BESIDE}, which holds the rest of its weights.")
    strays = sorted(extra.keys() - of_extra.keys()) if beside and not may_be_new else []
    faults = _misfits(folder, stored, of_stored) + _misfits(folder / BESIDE, extra, of_extra)
    refuse_if(faults + [f"{folder / BESIDE}: {name!r} has no place in this model." for name in strays])
    for tensors, targets in ((stored, of_stored), (extra, of_extra)):
        for name, target in targets.items():
            tensors[name].copy_to(target)
    if _state_of_files(folder) != before:
        raise UserError(f"'{folder}': its weights were replaced while they were read; start again.")
    refuse_if(
        [
            f"'{folder}': {name!r} holds numbers that are not finite."
            for name, target in (of_stored | of_extra).items()
            if not target.isfinite().all()
        ]
    )
    return LoadReport([*new, *not_taken], sorted(there - wanted.keys()))


def parameter_names(folder: Path) -> set[str]:
    """The parameters in a folder's weight files, by our names."""
    return {our_name(name) for name in _stored(folder)}


def _state_of_files(folder: Path) -> list[tuple[int, int, int]]:
    """What tells the weight files from others by the same names."""
    found = [file.stat() for file in weight_files(folder)]
    return [(status.st_ino, status.st_size, status.st_mtime_ns) for status in found]


def _stored(folder: Path) -> dict[str, StoredTensor]:
    """The folder's tensors under transformers' current names for a BERT, each once."""
    config, described = load_config(folder)
    found = FAMILIES[described["model_type"]].tensors(stored_tensors(folder), config)
    found = {modern_name(name): tensor for name, tensor in found.items()}
    if _DECODER in found and _TABLE in found:
        _refuse_untied(folder, found)
    if _DECODER_BIAS in found:
        found.setdefault(_BIAS, found[_DECODER_BIAS])
    for name in (_DECODER, _DECODER_BIAS, "bert.embeddings.position_ids", "bert.embeddings.token_type_ids"):
        found.pop(name, None)
    return found


def _refuse_untied(folder: Path, found: dict[str, StoredTensor]) -> None:
    decoder, table = found[_DECODER], found[_TABLE]
    rows = decoder.shape[0]
    same = decoder.shape == table.shape and all(
        torch.equal(decoder.rows(first, min(first + 4096, rows)), table.rows(first, min(first + 4096, rows)))
        for first in range(0, rows, 4096)
    )
    if not same:
        raise UserError(
            f"{folder}: the output matrix ({_DECODER}) is not the token table; this masked-LM head ties the two."
        )


def _misfits(place: Path, stored: dict[str, StoredTensor], wanted: dict[str, Tensor]) -> list[str]:
    """The parameters that a place lacks or has in another shape, a line each."""
    return [
        f"{place}: {name!r} is {stored[name].shape}, but the model's is {tuple(tensor.shape)}."
        if name in stored
        else f"{place}: no {name!r} among its weights."
        for name, tensor in wanted.items()
        if name not in stored or stored[name].shape != tuple(tensor.shape)
    ]
