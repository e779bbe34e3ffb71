"""Distributions of the search space, as values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from sweep.domain import HyperparameterValue
from sweep.spec.problems import BrokenRule

MOST_VALUES = 2**53
"""Of a grid; beyond it neighbours cannot be told apart as floating-point numbers."""


def range_fault(
    low: float, high: float, log: bool, step: float | None, show: Callable[[str], str] | None = None
) -> BrokenRule | None:
    """The first rule that a range breaks, or None.

    Args:
        low: Lowest value.
        high: Highest value.
        log: Uniform in the logarithm.
        step: Grid from ``low``, or None for none.
        show: The text of ``low``, ``high`` or ``step``, as it was written.
    """
    values = {"low": low, "high": high, "step": step}
    as_text = show or (lambda key: repr(values[key]))
    if low > high:
        return BrokenRule(f"is above high={as_text('high')}", "Swap them", "low")
    if low == high:
        remedy = "Widen the range, or fix the value under objective.training"
        return BrokenRule("equals high, which leaves nothing to search", remedy, "low")
    if log and low <= 0:
        return BrokenRule("is not above 0, as a log range needs", "Raise it, or leave log out", "low")
    width = high - low
    if math.isinf(width) or (isinstance(width, int) and width >= MOST_VALUES):
        return BrokenRule(f"is too far from low={as_text('low')} to draw from", "Bring them closer together", "high")
    if step is None:
        return None
    if log:
        return BrokenRule("cannot go with log", "Leave one of them out", "step")
    if step <= 0:
        return BrokenRule("is not above 0", "Use a positive step", "step")
    if step > width and not math.isclose(step, width):
        return BrokenRule("is longer than the range", "Use a smaller one", "step")
    if width / step >= MOST_VALUES:
        return BrokenRule("makes more values than can be told apart", "Use a larger one, or leave it out", "step")
    # Decimal: 0.1 has to divide 1, as people read it.
    count, start, stride = (
        (Decimal(repr(high)) - Decimal(repr(low))) / Decimal(repr(step)),
        Decimal(repr(low)),
        Decimal(repr(step)),
    )
    if count != int(count):
        below, above = start + int(count) * stride, start + (int(count) + 1) * stride
        rule = f"is not on the grid of step {as_text('step')} from {as_text('low')}"
        return BrokenRule(rule, f"Use {below.normalize():f} or {above.normalize():f}", "high")
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatRange:
    """Real values in [low, high].

    Attributes:
        log: Uniform in the logarithm; needs low > 0 and no step.
        step: Grid from ``low`` that ends at ``high``, or None.

    Raises:
        ValueError: If the range is not finite, reversed, empty, or its step does not fit.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None

    def __post_init__(self) -> None:
        for key, value in (("low", self.low), ("high", self.high), ("step", self.step)):
            if value is not None and not math.isfinite(value):
                raise BrokenRule("is not a finite number", "Use a finite number", key)
        fault = range_fault(self.low, self.high, self.log, self.step)
        if fault:
            raise fault


@dataclass(frozen=True, slots=True, kw_only=True)
class IntRange:
    """Whole numbers in [low, high].

    Attributes:
        log: Uniform in the logarithm; needs low >= 1 and step 1.
        step: Distance between neighbours; ``high`` is one of them.

    Raises:
        ValueError: If the range is reversed, empty, or its step does not fit.
    """

    low: int
    high: int
    log: bool = False
    step: int = 1

    def __post_init__(self) -> None:
        step = None if self.log and self.step == 1 else self.step
        fault = range_fault(self.low, self.high, self.log, step)
        if fault:
            raise fault


@dataclass(frozen=True, slots=True)
class Choices:
    """One of a few values, without an order; lists are held as tuples.

    Raises:
        ValueError: If there are fewer than two, or one of them twice.
    """

    values: tuple[HyperparameterValue, ...]

    def __post_init__(self) -> None:
        fault = choices_fault(self.values)
        if fault:
            raise fault


def choices_fault(values: tuple[HyperparameterValue, ...]) -> BrokenRule | None:
    """The first rule that a list of choices breaks, or None."""
    if not values:
        return BrokenRule("has no choices", "Give two or more")
    if len(values) == 1:
        return BrokenRule("has one choice, which leaves nothing to search", "Fix it under objective.training instead")
    for index, value in enumerate(values):
        if value in values[:index]:
            text = list(value) if isinstance(value, tuple) else value
            return BrokenRule(f"holds {'null' if text is None else text} twice", "Remove one")
    return None


Distribution = FloatRange | IntRange | Choices

AUTO = "auto"
"""In the place of a range of learning rates: a range test finds it when the study begins."""

WIDEST_RATES = FloatRange(low=1e-6, high=1e-2, log=True)
"""What stands for it until then."""


def within(distribution: Distribution, value: HyperparameterValue) -> HyperparameterValue:
    """The value of the distribution that is nearest to ``value``; its first choice where there is no nearness."""
    if isinstance(distribution, Choices):
        return value if value in distribution.values else distribution.values[0]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _middle(distribution)
    clipped = min(max(value, distribution.low), distribution.high)
    if isinstance(distribution, IntRange):
        return distribution.low + round((clipped - distribution.low) / distribution.step) * distribution.step
    if distribution.step is None:
        return float(clipped)
    low, step = Decimal(repr(distribution.low)), Decimal(repr(distribution.step))
    return float(low + round((clipped - distribution.low) / distribution.step) * step)


def _middle(distribution: FloatRange | IntRange) -> HyperparameterValue:
    if distribution.log:
        return within(distribution, math.sqrt(distribution.low) * math.sqrt(distribution.high))
    return within(distribution, distribution.low / 2 + distribution.high / 2)


def top(distribution: Distribution) -> float:
    """The largest number that can be drawn."""
    if isinstance(distribution, Choices):
        return max(float(value) for value in distribution.values if isinstance(value, int | float))
    return float(distribution.high)


def bounds(distribution: Distribution) -> dict[str, HyperparameterValue]:
    """What an objective may know of a distribution, JSON-able: the extremes, or the choices."""
    if isinstance(distribution, Choices):
        return {"choices": listed(distribution.values)}  # type: ignore[dict-item]
    return {"low": distribution.low, "high": distribution.high}


def listed(value: object) -> object:
    """``value`` with lists in the place of tuples, JSON-able."""
    return [listed(item) for item in value] if isinstance(value, tuple) else value
