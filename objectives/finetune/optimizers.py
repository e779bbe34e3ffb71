"""The optimizers, and what their state weighs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch

_MOMENTUM = 0.9
_BYTES = 4  # fp32


def build_optimizer(name: str, groups: Sequence[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
    """An optimizer over parameter groups.

    Args:
        name: ``adamw`` (Loshchilov and Hutter, arXiv:1711.05101), ``adafactor`` (Shazeer and Stern, arXiv:1804.04235:
            its rate is a share of the size of each weight), ``sgd`` with a momentum of 0.9, or ``lion`` (Chen et al.,
            arXiv:2302.06675: best at a third to a tenth of AdamW's rate).
        groups: See :func:`~objectives.finetune.regularisation.decay_groups`.
        learning_rate: The peak; above 0.
    """
    if name == "sgd":
        return torch.optim.SGD(groups, lr=learning_rate, momentum=_MOMENTUM)
    if name == "adafactor":
        return torch.optim.Adafactor(groups, lr=learning_rate)
    if name == "lion":
        from lion_pytorch import Lion

        lion: torch.optim.Optimizer = Lion(groups, lr=learning_rate)
        return lion
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


def state_bytes(name: str, parameters: Iterable[torch.nn.Parameter]) -> int:
    """What an optimizer keeps of the parameters it trains, to the size of a few numbers each."""
    return _BYTES * sum(_numbers(name, p.shape) for p in parameters)


def _numbers(name: str, shape: torch.Size) -> int:
    if name == "adafactor" and len(shape) > 1:  # a mean for each row and each column
        return math.prod(shape[:-1]) + math.prod(shape[:-2]) * shape[-1]
    return (2 if name == "adamw" else 1) * math.prod(shape)
