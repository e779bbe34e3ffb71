"""How a model was found, in a few figures for its card."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from sweep.domain import Trial, ranked
from sweep.spec.model import StudySpec


def search_summary(spec: StudySpec, trials: Sequence[Trial]) -> Mapping[str, Any]:
    """The search behind a winner.

    Returns:
        JSON-able: ``trials`` by state, ``sampler``, ``pruner``, ``seed``, ``space`` (the spec's text), ``baseline``
        (trial 0's score) and ``trial_seconds`` (training and evaluation over all trials).
    """
    baseline = next((trial for trial in ranked(trials, spec.rule) if trial.number == 0), None)
    written = dict(spec.resolved()["search"])
    return {
        "trials": dict(Counter(trial.state.value for trial in trials)),
        "sampler": spec.search.sampler.name,
        "pruner": spec.search.pruner.name,
        "seed": spec.search.seed,
        "space": {name: written[name] for name in spec.search.space},
        "baseline": None if baseline is None else baseline.value,
        "trial_seconds": sum(trial.wall_seconds for trial in trials),
        "cpus_per_trial": spec.resources.cpus_per_trial,
        "gpus_per_trial": spec.resources.gpus_per_trial,
    }
