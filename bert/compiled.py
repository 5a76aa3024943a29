"""Modules that are compiled for training only."""

from abc import ABC, abstractmethod

import torch
from torch import nn


class CompiledForTraining(nn.Module, ABC):
    """A module that can be compiled, and then runs compiled only where gradients are enabled.

    Evaluation stays uncompiled: its batches have other shapes, each of which would be compiled anew.
    """

    compiled = False

    @abstractmethod
    def forward(self, *given, **named):
        """What it computes."""

    def compile_for_training(self) -> None:
        """Compile it on its first call, as one graph for one shape; parameters keep their names."""
        self.compiled = True
        torch._dynamo.config.optimize_ddp = False  # it would split the graph at the size of what DDP sends at once
        self.compile(fullgraph=True, dynamic=False)

    def __call__(self, *given, **named):
        """Run it, uncompiled where gradients are disabled."""
        plainly = self.compiled and not torch.is_grad_enabled()
        return self.forward(*given, **named) if plainly else super().__call__(*given, **named)
