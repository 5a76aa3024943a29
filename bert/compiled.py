"""Modules that are compiled for training alone."""

from abc import ABC, abstractmethod

import torch
from torch import nn


class CompiledForTraining(nn.Module, ABC):
    """A module that runs as it is, until it is compiled, and then as compiled where gradients are wanted.

    Judging goes on uncompiled: its batches have other shapes, each of which would be compiled anew.
    """

    compiled = False

    @abstractmethod
    def forward(self, *given, **named):
        """What it computes."""

    def compile_for_training(self) -> None:
        """Have it compiled, as one graph for one shape, when it is first called; parameters keep their names."""
        self.compiled = True
        self.compile(fullgraph=True, dynamic=False)

    def __call__(self, *given, **named):
        """As it is compiled, or, where nothing is learned, as it is."""
        plainly = self.compiled and not torch.is_grad_enabled()
        return self.forward(*given, **named) if plainly else super().__call__(*given, **named)
