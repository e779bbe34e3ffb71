"""The search space: from the spec's distributions to Optuna's, and from the unit cube to values."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from sweep.domain import HyperparameterValue
from sweep.spec.space import Choices, Distribution, FloatRange, IntRange

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Key = tuple[HyperparameterValue, ...]
"""A configuration as something that can be compared and hashed."""


class SearchSpace:
    """All distributions of a study, in the order of their names.

    Args:
        distributions: Distribution by hyperparameter.
    """

    def __init__(self, distributions: Mapping[str, Distribution]) -> None:
        # By name, so that a reordered spec draws the same points.
        self.distributions: dict[str, Distribution] = dict(sorted(distributions.items()))
        self._names = list(distributions)
        self._optuna: dict[str, BaseDistribution] | None = None

    @property
    def size(self) -> int | None:
        """How many configurations there are, or None for a continuous space."""
        sizes = [_size(d) for d in self.distributions.values()]
        return None if None in sizes else math.prod(s for s in sizes if s is not None)

    @property
    def optuna(self) -> dict[str, BaseDistribution]:
        """The same space in Optuna's classes; a list-valued choice is its JSON text there."""
        if self._optuna is None:
            self._optuna = {name: _to_optuna(d) for name, d in self.distributions.items()}
        return self._optuna

    def at(self, point: Sequence[float]) -> dict[str, HyperparameterValue]:
        """Map a point of the unit cube, one coordinate in [0, 1) by hyperparameter, to values."""
        return {name: _at(d, u) for (name, d), u in zip(self.distributions.items(), point, strict=True)}

    def configurations(self) -> Iterator[dict[str, HyperparameterValue]]:
        """Every configuration of a finite space."""
        grids = [[_on_grid(d, i) for i in range(_size(d) or 0)] for d in self.distributions.values()]
        for values in itertools.product(*grids):
            yield dict(zip(self.distributions, values, strict=True))

    def contains(self, values: Mapping[str, HyperparameterValue]) -> bool:
        """Whether every value lies on its distribution, grid included."""
        return all(
            name in values and _same(_nearest(d, values[name]), values[name]) for name, d in self.distributions.items()
        )

    def nearest(self, values: Mapping[str, HyperparameterValue]) -> dict[str, HyperparameterValue]:
        """The closest values within the space; a choice that is not offered has none and is left out."""
        found = {name: _nearest(d, values[name]) for name, d in self.distributions.items() if name in values}
        return {name: value for name, value in found.items() if value is not None or self._offers(name, values[name])}

    def key(self, values: Mapping[str, HyperparameterValue]) -> Key:
        """What two equal configurations have in common."""
        return tuple(_plain(values.get(name)) for name in self.distributions)

    def encode(self, values: Mapping[str, HyperparameterValue]) -> dict[str, Any]:
        """Values as Optuna stores them."""
        return {name: _encode(value) for name, value in values.items()}

    def decode(self, params: Mapping[str, Any]) -> dict[str, HyperparameterValue]:
        """The inverse of :meth:`encode`, in the order of the spec."""
        decoded: dict[str, HyperparameterValue] = {}
        for name in sorted(params, key=lambda n: self._names.index(n) if n in self._names else len(self._names)):
            value, distribution = params[name], self.distributions.get(name)
            if isinstance(distribution, Choices):
                value = next((v for v in distribution.values if _same(_encode(v), value)), value)
            decoded[name] = _plain(value)
        return decoded

    def _offers(self, name: str, value: HyperparameterValue) -> bool:
        distribution = self.distributions[name]
        return isinstance(distribution, Choices) and any(_same(v, value) for v in distribution.values)


def _to_optuna(distribution: Distribution) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    match distribution:
        case FloatRange(low=low, high=high, log=log, step=step):
            if step is not None:  # Optuna warns of a top that is not on the grid
                high = float(_on_grid_float(low, step, _steps(low, high, step)))
            return FloatDistribution(low, high, log=log, step=step)
        case IntRange(low=low, high=high, log=log, step=step):
            return IntDistribution(low, low + (high - low) // step * step, log=log, step=step)
        case Choices(values=values):
            return CategoricalDistribution([_encode(value) for value in values])


def _size(distribution: Distribution) -> int | None:
    match distribution:
        case FloatRange(low=low, high=high, step=step):
            if low == high:
                return 1
            return None if step is None else _steps(low, high, step) + 1
        case IntRange(low=low, high=high, step=step):
            return (high - low) // step + 1
        case Choices(values=values):
            return len(values)


def _at(distribution: Distribution, u: float) -> HyperparameterValue:
    match distribution:
        case FloatRange(low=low, high=high, log=True):
            value = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
            return min(max(value, low), high)
        case FloatRange(low=low, high=high, step=None):
            return min(low + u * (high - low), high)
        case IntRange(low=low, high=high, log=True):
            # Half a unit wider, so that both ends get their full share.
            bottom, top = math.log(low - 0.5), math.log(high + 0.5)
            return min(max(round(math.exp(bottom + u * (top - bottom))), low), high)
        case _:
            size = _size(distribution) or 1
            return _on_grid(distribution, min(int(u * size), size - 1))


def _on_grid(distribution: Distribution, index: int) -> HyperparameterValue:
    match distribution:
        case FloatRange(low=low, step=step):
            return low if step is None else _on_grid_float(low, step, index)
        case IntRange(low=low, step=step):
            return low + index * step
        case Choices(values=values):
            return _plain(values[index])


def _nearest(distribution: Distribution, value: HyperparameterValue) -> HyperparameterValue:
    if isinstance(distribution, Choices):
        return next((_plain(v) for v in distribution.values if _same(v, value)), None)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    clipped = min(max(value, distribution.low), distribution.high)
    if isinstance(distribution, FloatRange) and distribution.step is None:
        return clipped
    index = round((clipped - distribution.low) / (distribution.step or 1))
    return _on_grid(distribution, min(index, (_size(distribution) or 1) - 1))


def _steps(low: float, high: float, step: float) -> int:
    return int((Decimal(str(high)) - Decimal(str(low))) // Decimal(str(step)))


def _on_grid_float(low: float, step: float, index: int) -> float:
    # In decimals: 0.1 + 2 * 0.1 is 0.3 for the person who wrote it.
    return float(Decimal(str(low)) + index * Decimal(str(step)))


def _encode(value: HyperparameterValue) -> Any:
    return json.dumps(value) if isinstance(value, list | tuple) else value


def _plain(value: Any) -> HyperparameterValue:
    return tuple(_plain(v) for v in value) if isinstance(value, list | tuple) else value


def _same(one: Any, other: Any) -> bool:
    """Equality that tells True from 1."""
    return _plain(one) == _plain(other) and isinstance(one, bool) == isinstance(other, bool)
