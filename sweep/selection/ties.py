"""Trials that their first rung could not tell apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sweep.domain import Trial
from sweep.spec.model import StudySpec

_FEWEST = 5


def compared_too_early(trials: Sequence[Trial], spec: StudySpec) -> str | None:
    """Say so if most of five trials or more had the same value at the first rung of successive halving.

    Nobody is stopped among equals, but whoever is a little off by chance lives or dies by it.
    """
    if (ladder := spec.ladder) is None:
        return None
    rung = round(1000 * ladder.min_fidelity)
    values = Counter(trial.values[rung] for trial in trials if rung in trial.values)
    reached = values.total()
    value, same = max(values.items(), key=lambda each: each[1], default=(0.0, 0))
    if reached < _FEWEST or 2 * same <= reached:
        return None
    return (
        f"{same} of {reached} trials had the same {spec.rule.name}, {value:.4g}, at the first rung "
        f"({ladder.min_fidelity:g} {spec.fidelity_unit}): too early to tell them apart. Raise search.pruner.first_rung."
    )
