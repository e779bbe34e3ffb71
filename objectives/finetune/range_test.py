"""The learning-rate range test: which rates are worth searching (Smith, arXiv:1506.01186, section 3.3)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from objectives.finetune.loop import Loop
from sweep.errors import UserError
from sweep.ports import DivergedError

LOWEST, HIGHEST = 1e-7, 10.0
STEPS_PER_DECADE = 20
STEPS = round(STEPS_PER_DECADE * math.log10(HIGHEST / LOWEST)) + 1

_WINDOW = 13  # steps; two thirds of a decade
_TAIL = 5  # steps whose mean tells that the loss has turned up for good
_GONE = 2.0  # times the lowest loss
_LEAST_FALL = 0.02  # share of the first loss
_BEGUN = 0.1  # share of the whole fall
_BELOW, _ABOVE = 10.0, 2.0


def rate_at(step: int) -> float:
    """Learning rate of a 0-based step: it rises by the same factor at each."""
    return LOWEST * 10 ** (step / STEPS_PER_DECADE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeTest:
    """How the training loss went while the rate rose.

    Attributes:
        rates: Learning rate of each step.
        losses: Training loss of each step.
        smoothed: Mean over 13 steps around each.
        low: Proposed lowest rate of a search.
        high: Proposed highest one.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]
    low: float
    high: float

    def as_json(self) -> dict[str, Any]:
        """By name, JSON-able."""
        return {name: getattr(self, name) for name in self.__slots__}


def run_range_test(loop: Loop) -> RangeTest:
    """Train with a rising rate until the loss has turned up for good, or is no number any more.

    Args:
        loop: At its beginning, with :func:`rate_at` as its rate.

    Raises:
        UserError: If the loss does not fall at any rate.
    """
    losses: list[float] = []
    try:
        while len(losses) < STEPS and not _has_turned(losses):
            loop.advance(len(losses) + 1)
            losses.append(loop.take_loss())
    except DivergedError:
        pass
    return judge(losses)


def judge(losses: Sequence[float]) -> RangeTest:
    """What the losses of a test say.

    The highest rate worth searching is twice the one at which the smoothed loss is lowest: beyond it training gets
    worse, but a schedule stays at its peak for a moment only. The lowest is a tenth of the rate at which the loss has
    begun to fall, that is, by a tenth of the whole fall: a run has many more steps than the test has at each rate.

    Raises:
        UserError: If they do not fall.
    """
    smoothed = _smoothed(losses) if losses else [math.inf]
    rates = [rate_at(step) for step in range(len(losses))]
    turn = int(np.argmin(smoothed))
    fall = smoothed[0] - smoothed[turn]
    if not fall > _LEAST_FALL * abs(smoothed[0]):
        raise UserError(
            f"learning_rate: the training loss of the defaults falls at no rate from {LOWEST:g} up, so no range can be "
            "found. Look at data and model, or write a range under search."
        )
    begun = smoothed[0] - _BEGUN * fall
    first = next(step for step, loss in enumerate(smoothed) if loss <= begun)
    return RangeTest(
        rates=tuple(rates),
        losses=tuple(losses),
        smoothed=tuple(smoothed),
        low=_shown(rates[first] / _BELOW),
        high=_shown(_ABOVE * rates[turn]),
    )


def _shown(rate: float) -> float:
    """A rate as people write it, to two digits."""
    return float(f"{rate:.1e}")


def _has_turned(losses: Sequence[float]) -> bool:
    if len(losses) < _WINDOW:
        return False
    recent = np.convolve(losses, np.ones(_TAIL) / _TAIL, "valid")
    return bool(recent[-1] > _GONE * recent.min())


def _smoothed(losses: Sequence[float]) -> list[float]:
    half = _WINDOW // 2
    wide = np.pad(np.asarray(losses), (half, half), mode="edge")
    return [float(value) for value in np.convolve(wide, np.ones(_WINDOW) / _WINDOW, "valid")]
