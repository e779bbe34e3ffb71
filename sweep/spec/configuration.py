"""One configuration of a search space, given as text: ``learning_rate=1e-4``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from sweep.domain import HyperparameterValue
from sweep.errors import InvalidSpecError
from sweep.spec.problems import BrokenRule, suggestion
from sweep.spec.space import Choices, Distribution, FloatRange, listed, within
from sweep.spec.values import to_float, to_int, untyped


def value_text(value: HyperparameterValue) -> str:
    """A value as :func:`read_configuration` takes it."""
    return value if isinstance(value, str) else json.dumps(listed(value))


def read_configuration(
    space: Mapping[str, Distribution], given: Mapping[str, str], defaults: Mapping[str, HyperparameterValue]
) -> dict[str, HyperparameterValue]:
    """The configuration that texts say, every value on its distribution.

    Args:
        space: Distribution by hyperparameter.
        given: Text by hyperparameter.
        defaults: Trial 0's values, taken where nothing is given, or the nearest that can be drawn.

    Raises:
        InvalidSpecError: With all problems, one line each.
    """
    problems = []
    for name in given:
        if name not in space:
            hint = suggestion(name, list(space)) or f"Searched are {', '.join(space)}."
            problems.append(f"{name} is not a hyperparameter of this study. {hint}")
    found: dict[str, HyperparameterValue] = {}
    for name, distribution in space.items():
        if name not in given:
            found[name] = within(distribution, defaults[name])
            continue
        try:
            found[name] = _read(distribution, given[name].strip())
        except BrokenRule as broken:
            problems.append(f"{name}={given[name][:80]} {broken.rule}. {broken.remedy.rstrip('.')}.")
    if problems:
        raise InvalidSpecError(problems)
    return found


def _read(distribution: Distribution, text: str) -> HyperparameterValue:
    if isinstance(distribution, Choices):
        return _chosen(distribution, text)
    value: float = to_float(text) if isinstance(distribution, FloatRange) else to_int(text)
    low, high = distribution.low, distribution.high
    if not low <= value <= high:
        raise BrokenRule(f"is outside of {low:g}..{high:g}", f"Give a value from {low:g} to {high:g}")
    nearest = within(distribution, value)
    if not isinstance(nearest, int | float) or not math.isclose(nearest, value, rel_tol=1e-9):
        raise BrokenRule(f"is not on the grid of step {distribution.step:g}", f"The nearest is {nearest}")
    return nearest


def _chosen(choices: Choices, text: str) -> HyperparameterValue:
    by_text = {_squeezed(value_text(value)): value for value in choices.values}
    if _squeezed(text) in by_text:
        return by_text[_squeezed(text)]
    plain = untyped(text)
    for value in choices.values:
        # True equals 1 in Python, and is no 1 to a person.
        if value == plain and isinstance(value, bool) == isinstance(plain, bool):
            return value
    raise BrokenRule("is not one of the choices", f"Give one of {', '.join(map(value_text, choices.values))}")


def _squeezed(text: str) -> str:
    return "".join(text.split())
