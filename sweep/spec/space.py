"""Distributions of the search space, as values."""

from __future__ import annotations

from dataclasses import dataclass

from sweep.domain import HyperparameterValue


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatRange:
    """Real values in [low, high].

    Attributes:
        log: Uniform in the logarithm; needs low > 0 and no step.
        step: Grid from ``low``, or None.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IntRange:
    """Whole numbers in [low, high].

    Attributes:
        log: Uniform in the logarithm; needs low >= 1 and step 1.
        step: Distance between neighbours.
    """

    low: int
    high: int
    log: bool = False
    step: int = 1


@dataclass(frozen=True, slots=True)
class Choices:
    """One of a few values, without an order; lists are held as tuples."""

    values: tuple[HyperparameterValue, ...]


Distribution = FloatRange | IntRange | Choices
