"""How long training is, when it is evaluated, and the learning rate on the way."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Length of a run, in optimizer steps.

    Attributes:
        steps_per_epoch: Optimizer steps in a pass over the training rows.
        total_steps: Optimizer steps of a full run.
        unit: Unit of fidelities.
        evaluate_at: Steps to evaluate at, ascending; ends with ``total_steps``.
    """

    steps_per_epoch: int
    total_steps: int
    unit: Literal["epochs", "steps"]
    evaluate_at: tuple[int, ...]

    def fidelity(self, step: int) -> float:
        """Training done at a step, in the unit."""
        return step / self.steps_per_epoch if self.unit == "epochs" else float(step)


def plan_run(
    *,
    batches_per_epoch: int,
    accumulation: int,
    epochs: float | None,
    steps: int | None,
    unit: Literal["epochs", "steps"],
    evaluate_at: Sequence[float],
) -> Plan:
    """Turn epochs and fidelities into optimizer steps.

    A fidelity becomes the first step that reaches it; those at or beyond the end fall away, the end joins.

    Args:
        batches_per_epoch: Micro-batches in a pass over the training rows.
        accumulation: Micro-batches for each optimizer step.
        epochs: Length of the run; used if ``steps`` is None.
        steps: Length of the run in optimizer steps.
        unit: Unit of ``evaluate_at``.
        evaluate_at: Fidelities.
    """
    per_epoch = math.ceil(batches_per_epoch / accumulation)
    total = steps if steps is not None else _first_step((epochs or 1.0) * per_epoch)
    scale = per_epoch if unit == "epochs" else 1
    points = {_first_step(fidelity * scale) for fidelity in evaluate_at}
    kept = sorted(point for point in points if point < total)
    return Plan(steps_per_epoch=per_epoch, total_steps=total, unit=unit, evaluate_at=(*kept, total))


def learning_rate_factor(
    step: int, total_steps: int, warmup: float, shape: str, *, warmup_steps: int | None = None, cooldown: float = 0.2
) -> float:
    """Share of the peak learning rate at which an optimizer step is taken.

    Args:
        step: 0-based step about to be taken.
        total_steps: Steps of the full run.
        warmup: Share of the steps with a linearly rising rate.
        shape: ``linear`` falls to 0 at ``total_steps``, ``cosine`` by half a wave (Loshchilov and Hutter,
            arXiv:1608.03983); ``constant`` stays; ``wsd`` stays, then falls linearly (warm-up, stable, decay: Hu et
            al., arXiv:2404.06395).
        warmup_steps: In the place of ``warmup``, unless None.
        cooldown: Share of the steps in which ``wsd`` falls; the warm-up goes before.

    Returns:
        Above 0 (warm-up begins at its first step's share), at most 1.
    """
    warm = _steps_in(warmup, total_steps) if warmup_steps is None else warmup_steps
    if step < warm:
        return (step + 1) / warm
    after = max(1, total_steps - warm)
    left = (total_steps - step) / after
    if shape == "constant":
        return 1.0
    if shape == "cosine":
        return (1 - math.cos(math.pi * left)) / 2
    if shape == "wsd":
        return min(1.0, (total_steps - step) / max(1, min(after, _steps_in(cooldown, total_steps))))
    return left


def _steps_in(share: float, total_steps: int) -> int:
    # Rounding adds no step: 0.07 * 300 is 21.000000000000004.
    return math.ceil(share * total_steps - 1e-9)


def _first_step(steps: float) -> int:
    # So many epochs that their steps overflow are a run without end, not an error.
    return max(1, math.ceil(min(steps - 1e-6, sys.float_info.max)))
