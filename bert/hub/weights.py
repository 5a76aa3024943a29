"""A model's parameters, written to model.safetensors and read from a folder's weight files."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bert.errors import UserError
from bert.hub import roberta
from bert.hub.description import load_config
from bert.hub.files import StoredTensor, stored_tensors
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


def save_weights(folder: Path, model: nn.Module, leave_out: tuple[str, ...] = ()) -> None:
    """Write model.safetensors with transformers' names; tied matrices are one parameter here, so saved once."""
    state = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items() if name not in leave_out}
    file = folder / "model.safetensors"
    save_file(to_transformers(state), file, metadata={"format": "pt"})
    shutil.copymode(folder / "config.json", file)  # the library lets only the owner read it


@torch.no_grad()
def load_weights(
    folder: Path, model: nn.Module, may_be_new: tuple[str, ...] = (), not_taken: tuple[str, ...] = ()
) -> LoadReport:
    """Fill the model from the folder's weight files, some rows at a time.

    Args:
        folder: a model's, of this project or of transformers.
        model: a module whose parameter names are those of the objectives (`bert.`, `masked_lm_head.`, `head.`, ...).
        may_be_new: prefixes of names that the file may lack altogether; lacking only some of them is an error.
        not_taken: prefixes of names that keep their values whatever the file has.

    Raises:
        UserError: no weights, unreadable ones, or a parameter that is missing or has another shape.
    """
    stored = _stored(folder)
    wanted = {
        name: (tensor, list(pieces_of(name, tensor)))
        for name, tensor in model.state_dict().items()
        if not name.startswith(not_taken)
    }
    there = {our_name(name) for name in stored}
    new = [prefix for prefix in may_be_new if _any(wanted, prefix) and not _any(there, prefix)]
    wanted = {name: value for name, value in wanted.items() if not name.startswith(tuple(new))}
    _refuse_what_does_not_fit(folder, stored, wanted)
    for tensor, parts in wanted.values():
        for part, piece in zip(parts, tensor.chunk(len(parts)), strict=True):
            stored[part].copy_to(piece)
    return LoadReport([*new, *not_taken], sorted(there - set(wanted)))


def parameter_names(folder: Path) -> set[str]:
    """The parameters in a folder's weight files, by our names."""
    return {our_name(name) for name in _stored(folder)}


def _any(names: Iterable[str], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _stored(folder: Path) -> dict[str, StoredTensor]:
    """The folder's tensors under transformers' current names for a BERT, each once."""
    config, described = load_config(folder)
    found = stored_tensors(folder)
    if described.get("model_type") in roberta.MODEL_TYPES:
        found = roberta.tensors_as_bert(found, config.pad_token_id)
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


def _refuse_what_does_not_fit(
    folder: Path, stored: dict[str, StoredTensor], wanted: dict[str, tuple[Tensor, list[str]]]
) -> None:
    faults = []
    for tensor, parts in wanted.values():
        expected = (tensor.shape[0] // len(parts), *tensor.shape[1:])
        faults += [f"{folder}: no {part!r} among its weights." for part in parts if part not in stored]
        faults += [
            f"{folder}: {part!r} is {stored[part].shape}, but the model's is {expected}."
            for part in parts
            if part in stored and stored[part].shape != expected
        ]
    if faults:
        raise UserError(*faults)
