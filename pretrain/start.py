"""What a run starts from: random weights, or a model with its own tokenizer, and words added to it."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bert import hub, tokenizer_files
from bert.added_words import add_words, grow
from bert.config import ModelConfig, resolve
from bert.counting import count_of
from bert.encoder import encoders_in
from bert.errors import UserError, refuse_if
from bert.tokenizer import Tokenizer
from bert.training import checkpoint, identity, provenance
from bert.training.device import describe, seed_torch
from pretrain.config import PretrainConfig
from pretrain.inputs import INPUTS
from pretrain.objectives import OBJECTIVES
from pretrain.objectives.objective import PretrainObjective


@dataclass(frozen=True)
class Start:
    """A model to continue from.

    Attributes:
        folder: the one that `init` names, or the run's own newest weights once there are some.
        tokenizer: the model's own, with the words of tokenizer.add.
        added: for each added token the pieces it was before; empty where the folder has them already.
        own: whether it is the run's own checkpoint, whose weights the loop loads.
        facts: what else the run depends on: the model's weights, and the words that were added.
    """

    folder: hub.ModelFolder
    tokenizer: Tokenizer
    added: list[list[int]]
    own: bool
    facts: dict[str, str]


def open_start(config: PretrainConfig) -> Start | None:
    """The model that the run continues from; None if it starts from random weights.

    Raises:
        UserError: there is no such model, or it does not fit the options.
    """
    if config.init is None:
        return None
    output = Path(config.output)
    newest = _newest_weights(output) if identity.started_with(output, "init") == config.init else None
    folder = hub.open_folder(str(newest or config.init), "init")
    tokenizer, added = folder.tokenizer, []
    if config.tokenizer.add is not None and newest is None:
        tokenizer, added = add_words(tokenizer, Path(config.tokenizer.add), "tokenizer.add")
    sizes, segments, faults = folder.config, INPUTS[config.sentence.input].segments, []
    if config.data.max_length > sizes.max_position_embeddings:
        reads = f"the model of '{config.init}' reads {sizes.max_position_embeddings} tokens"
        faults.append(f"data.max_length: {config.data.max_length}, but {reads} at most.")
    if segments > sizes.type_vocab_size:
        has = f"the model of '{config.init}' knows {count_of(sizes.type_vocab_size, 'segment')}"
        faults.append(f"sentence.input: '{config.sentence.input}' has {count_of(segments, 'segment')}, but {has}.")
    refuse_if(faults)
    return Start(folder, tokenizer, added, newest is not None, _facts(config))


def own_tokenizer(config: PretrainConfig) -> Tokenizer | None:
    """The tokenizer that the output's run has trained, with the options asked for now; None where there is no such one.

    Another text would give another one, with other tokens for the rows of the embeddings.
    """
    output = Path(config.output)
    asked = {"init": config.init} | {f"tokenizer.{name}": value for name, value in vars(config.tokenizer).items()}
    trains = config.init is None and config.tokenizer.path is None
    if not trains or any(identity.started_with(output, name) != value for name, value in asked.items()):
        return None
    newest = _newest_weights(output)
    return newest and tokenizer_files.load(newest)


def _newest_weights(output: Path) -> Path | None:
    """The folder with the newest weights of a run; None where there are none yet."""
    return output if identity.is_finished(output) else checkpoint.newest(output)


def _facts(config: PretrainConfig) -> dict[str, str]:
    """Fingerprints of the weights and of the added words; of what is gone, those that the run began with."""
    output = Path(config.output)
    facts = provenance.of_init(output, config.init)
    if config.tokenizer.add is None:
        return facts
    file, began = Path(config.tokenizer.add), identity.started_with(output, "added_words")
    return facts | {"added_words": hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else began}


def build_objective(
    config: PretrainConfig, tokenizer: Tokenizer, start: Start | None, device: torch.device
) -> PretrainObjective:
    """The model that the run begins with; prints a line or two on it."""
    model = model_config(config, start, tokenizer)
    seed_torch(config.training.seed)
    objective = OBJECTIVES[config.objective].build(config, model, tokenizer)
    if start is not None and not start.own:
        print(f"init: {config.init}: {objective.start_from(start.folder.path)}")
        _refuse_replaced(config, start)
        if start.added:
            grow(objective, start.folder.tokenizer.vocab_size, start.added)
    objective.bert.freeze(config.training.freeze)
    for encoder in encoders_in(objective):
        encoder.gradient_checkpointing = config.training.gradient_checkpointing
    if config.training.compile:
        objective.compile_parts()
    size = sum(parameter.numel() for parameter in objective.parameters())
    shape = f"{count_of(model.num_hidden_layers, 'layer')}, width {model.hidden_size}, {size / 1e6:.1f} M parameters"
    print(f"model: {shape}, {describe(device)}")
    return objective.to(device)


def _refuse_replaced(config: PretrainConfig, start: Start) -> None:
    """Refuse weights that are not those whose fingerprint was taken when the run was started, perhaps hours ago."""
    known = start.facts.get(provenance.INIT_WEIGHTS)
    if known not in (None, hub.weights_fingerprint(str(start.folder.path), "init")):
        raise UserError(f"init: the weights of '{config.init}' were replaced since this run was started; start again.")


def model_config(config: PretrainConfig, start: Start | None, tokenizer: Tokenizer | None = None) -> ModelConfig:
    """The sizes and dropout of a run's model; before there is a tokenizer, with the vocabulary size asked for."""
    if start is not None:
        return _sizes(config, start)
    if tokenizer is None:
        return resolve(config.model, config.tokenizer.vocab_size)
    return resolve(config.model, tokenizer.vocab_size, tokenizer.pad_id)


def _sizes(config: PretrainConfig, start: Start) -> ModelConfig:
    """The folder's sizes, with the dropout asked for."""
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    given = {name: getattr(config.model, name) for name in names if getattr(config.model, name) is not None}
    return replace(start.folder.config, **given)
