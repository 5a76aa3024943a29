"""What a grid will run, and what that costs; only a few matrix products are run to tell."""

import math
from pathlib import Path

import torch

from bert.cli import read_options
from bert.counting import count_of
from bert.flops import matrix_rate
from bert.training.device import describe, is_on_gpu, product_type
from pretrain.ablation.cell_runs import PRETRAINING, cell_folder
from pretrain.ablation.commands import done
from pretrain.ablation.grid import AblateConfig, Cell, cells, combinations, models_are_alike, pretrain_options
from pretrain.ablation.metric_names import is_of_pretraining, name_in_place
from pretrain.ablation.results import Result
from pretrain.config import PretrainConfig
from pretrain.start import model_config, open_start
from pretrain.validation import is_on_pairs


def plan(config: AblateConfig, wanted: list[Cell], there: dict[Cell, Result]) -> str:
    """The plan of a grid in words.

    Args:
        config: the grid.
        wanted: the cells to finish.
        there: the results of those already finished.
    """
    pretrained = [cell for cell in wanted if PRETRAINING.is_finished(cell_folder(config, cell))]
    to_train = len(wanted) - len(pretrained)
    flops = _flops(config, to_train)
    of_grid = f"{count_of(len(combinations(config)), 'combination')} x {count_of(len(config.seeds), 'seed')}"
    lines = [
        (f"{of_grid} = {count_of(len(wanted), 'run')}" if config.only is None else f"1 run of {of_grid}")
        + f" of {config.tokens:,} tokens, {len(pretrained)} of them pretrained already",
        _finetuning(config),
        f"cost: {to_train * config.tokens:,} tokens of pretraining to go, at least {flops / 1e15:.2g} PFLOP",
        *_perhaps_not_compared(config),
        *(["one seed: no effect can be tested, or told from chance"] if len(config.seeds) == 1 else []),
    ]
    seconds = [result.seconds_in_all for result in there.values()]
    if seconds:
        rounds = math.ceil(sum(not done(config, cell) for cell in wanted) / config.jobs)
        left = rounds * sum(seconds) / len(seconds)
        lines.append(
            f"a finished cell took {sum(seconds) / len(seconds) / 60:.1f} min: about {left / 60:.1f} min to go, "
            f"plus the time that commands take to start"
        )
    elif config.dry_run and to_train and _is_here(config):
        lines.append(_least_time(config, flops))
    return "\n".join(lines)


def _finetuning(config: AblateConfig) -> str:
    """How often each model is fine-tuned."""
    runs = sum(len(task.seeds) for task in config.finetune.values())
    said = f"fine-tuning: {count_of(runs, 'run')} on each model ({', '.join(config.finetune) or 'none'})"
    on_checkpoints = [name for name, task in config.finetune.items() if task.checkpoints]
    if not on_checkpoints:
        return said
    more = sum(len(config.finetune[name].seeds) for name in on_checkpoints)
    return f"{said}, and {more} on each checkpoint that pretraining keeps ({', '.join(on_checkpoints)})"


def device_of(config: AblateConfig) -> torch.device:
    """The kind of device that the cells will run on, if they run on this machine."""
    return torch.device("cuda" if is_on_gpu(_training(config, "device")) else "cpu")


def _training(config: AblateConfig, option: str) -> str:
    return config.base.get("training", {}).get(option, "auto")


def _is_here(config: AblateConfig) -> bool:
    """Whether this machine has the device asked for; a grid may be planned where it will not run."""
    return _training(config, "device") != "cuda" or torch.cuda.is_available()


def _least_time(config: AblateConfig, flops: float) -> str:
    """The time that this machine needs for matrix products alone, as long as no finished cell tells more."""
    device = device_of(config)
    rate = matrix_rate(device, product_type(_training(config, "precision"), device))
    at_once = min(config.jobs, torch.cuda.device_count()) if device.type == "cuda" else 1
    return (
        f"time: {flops / rate / at_once / 60:.2g} min of pretraining if products ran at their full rate "
        f"({rate / 1e12:.2g} TFLOP/s on {describe(device)}); training runs at 30 to 90% of it (speed/mfu)"
    )


def _flops(config: AblateConfig, runs: int) -> float:
    """Six times the encoder's matrix parameters for each token; attention and heads are extra."""
    total, shown = 0.0, 1 if models_are_alike(config) else len(combinations(config))
    for cell in cells(config)[:shown]:
        options = read_options("run.py pretrain", PretrainConfig, pretrain_options(config, cell, Path(config.output)))
        model = model_config(options, open_start(options))
        matrices = 4 * model.hidden_size**2 + 2 * model.hidden_size * model.intermediate_size
        total += 6.0 * model.num_hidden_layers * matrices * config.tokens
    return total * runs / shown


_TEXT = ("train", "valid", "valid_share", "format", "text", "on_bad_row", "split_sentences", "max_length")
"""Options of data.* that determine the validation set."""


def _perhaps_not_compared(config: AblateConfig) -> list[str]:
    """Effects that change what pretraining metrics are measured on."""
    measured = [metric for metric in config.metrics if is_of_pretraining(metric)]
    on_pairs = [metric for metric in measured if is_on_pairs(name_in_place(metric))]
    text = ("tokenizer.", "init", "training.eval_sequences", *(f"data.{name}" for name in _TEXT))
    said = []
    for axis in config.effects:
        touched = measured if axis.startswith(text) else on_pairs if axis.startswith("sentence.") else []
        if touched:
            said.append(
                f"{axis}: no comparison on {', '.join(touched)} where it changes the text, tokens or pairs that these "
                f"are measured on; a task under `finetune` is compared all the same"
            )
    return said
