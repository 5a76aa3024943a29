"""AdamW, which parameters decay, and which learn more slowly."""

from collections.abc import Callable

import torch
from torch import nn

from bert.training.config import TrainingConfig


def parameter_groups(
    model: nn.Module, weight_decay: float, layer_decay: float = 1.0, depth: Callable[[str], int] = lambda name: 0
) -> list[dict]:
    """Matrices decay; biases and the norms' scales, all vectors, do not (Devlin et al. 2019, code).

    Args:
        model: whose parameters are grouped, without those that are frozen.
        weight_decay: of matrices.
        layer_decay: a factor of the learning rate for each step of depth (Sun et al. 2019, section 5.3.3).
        depth: of a parameter, by its name.

    Returns:
        The top's groups first, each with its factor of the learning rate, `lr_scale`.
    """
    groups: dict[tuple[int, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = weight_decay if parameter.ndim >= 2 else 0.0
            groups.setdefault((depth(name) if layer_decay < 1 else 0, decay), []).append(parameter)
    return [
        {"params": groups[below, decay], "weight_decay": decay, "lr_scale": layer_decay**below}
        for below, decay in sorted(groups, key=lambda group: (group[0], -group[1]))
    ]


def build_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.AdamW:
    """AdamW with decoupled decay (Loshchilov and Hutter 2019, algorithm 2), in PyTorch's fused kernel."""
    depth = {} if config.layer_decay == 1 else {"layer_decay": config.layer_decay, "depth": model.depth}
    return torch.optim.AdamW(
        parameter_groups(model, config.weight_decay, **depth),
        lr=config.lr,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        fused=True,
    )
