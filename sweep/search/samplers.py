"""How hyperparameters are drawn: every draw depends on the seed, the trial's number and the history only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from sweep.domain import HyperparameterValue
from sweep.search.space import Key, SearchSpace

STARTUP_TRIALS = 10
"""Finished trials before a model of the objective is trusted; Optuna's own default."""

_MODEL_REDRAWS = 8
_SOBOL_REDRAWS = 1024
_LARGEST_ENUMERATION = 4096


class SobolPoints:
    """Scrambled Sobol points (Owen, 1998) by index; any order of asking gives the same points.

    Args:
        dimensions: Coordinates of a point; >= 1.
        seed: Seed of the scrambling.
    """

    def __init__(self, dimensions: int, seed: int) -> None:
        self._dimensions = dimensions
        self._seed = seed
        self._engine: Any = None
        self._next = 0

    def point(self, index: int) -> Sequence[float]:
        """The point at an index >= 0, in [0, 1)."""
        if self._engine is None or index < self._next:
            from scipy.stats import qmc

            self._engine, self._next = qmc.Sobol(self._dimensions, scramble=True, rng=self._seed), 0
        if index > self._next:
            self._engine.fast_forward(index - self._next)
        self._next = index + 1
        return [float(u) for u in self._engine.random(1)[0]]


class StudySampler(BaseSampler):
    """Draws configurations that were not drawn before.

    Nothing random is carried from one draw to the next, so a resumed study goes on as it would have.

    Args:
        name: ``sobol``, ``tpe``, ``random`` or ``gp``; the last three begin with Sobol points where they
            would begin at random.
        seed: The study's seed.
        space: The search space.
    """

    def __init__(self, name: str, seed: int, space: SearchSpace) -> None:
        self._name = name
        self._seed = seed
        self._space = space
        self._used: set[Key] = set()
        self._used_in_space: set[Key] = set()
        self._sobol = SobolPoints(max(len(space.distributions), 1), derived_seed("sobol", seed))

    def remember(self, hyperparameters: Mapping[str, HyperparameterValue]) -> None:
        """Take note of a configuration that is in the study."""
        key = self._space.key(hyperparameters)
        self._used.add(key)
        if self._space.contains(hyperparameters):
            self._used_in_space.add(key)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The whole space: it is known from the spec, not from the history."""
        return dict(self._space.optuna)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw all hyperparameters of a trial, as Optuna stores them."""
        return self._space.encode(self._draw(study, trial))

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Only for what is outside of the study's space: uniform."""
        seed = derived_seed("independent", self._seed, trial.number, param_name)
        sampler = optuna.samplers.RandomSampler(seed=seed)
        return sampler.sample_independent(study, trial, param_name, param_distribution)

    def _draw(self, study: Study, trial: FrozenTrial) -> dict[str, HyperparameterValue]:
        first = self._propose(study, trial, 0)
        size = self._space.size
        if size is not None and len(self._used_in_space) >= size:
            return first  # every configuration was tried: a repetition is all that is left
        proposal = first
        for redraw in range(1, _MODEL_REDRAWS):
            if self._is_new(proposal):
                return proposal
            proposal = self._propose(study, trial, redraw)
        for index in range(trial.number, trial.number + _SOBOL_REDRAWS):
            if self._is_new(proposal):
                return proposal
            proposal = self._space.at(self._sobol.point(index))
        if size is not None and size <= _LARGEST_ENUMERATION:
            unused = [c for c in self._space.configurations() if self._is_new(c)]
            return unused[derived_seed("unused", self._seed, trial.number) % len(unused)]
        return proposal

    def _is_new(self, hyperparameters: Mapping[str, HyperparameterValue]) -> bool:
        return self._space.key(hyperparameters) not in self._used

    def _propose(self, study: Study, trial: FrozenTrial, redraw: int) -> dict[str, HyperparameterValue]:
        if not self._space.distributions:
            return {}
        seed = derived_seed(self._name, self._seed, trial.number, redraw)
        params: dict[str, Any] = {}
        if self._name == "random":
            sampler = optuna.samplers.RandomSampler(seed=seed)
            for name, distribution in self._space.optuna.items():
                params[name] = sampler.sample_independent(study, trial, name, distribution)
        elif self._name in ("tpe", "gp"):
            params = self._modelled(study, trial, seed)
        if params:
            return self._space.decode(params)
        return self._space.at(self._sobol.point(trial.number + redraw))

    def _modelled(self, study: Study, trial: FrozenTrial, seed: int) -> dict[str, Any]:
        """A draw from a model of the objective, or nothing while there is too little to learn from."""
        learnt_from = [TrialState.COMPLETE, TrialState.PRUNED] if self._name == "tpe" else [TrialState.COMPLETE]
        if len(study.get_trials(deepcopy=False, states=learnt_from)) < STARTUP_TRIALS:
            return {}
        open_space = {name: d for name, d in self._space.optuna.items() if not d.single()}
        if not open_space:
            return {}
        # A new sampler each time: a carried random state would differ after a resume.
        sampler: BaseSampler
        if self._name == "tpe":
            sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=0)
        else:
            sampler = optuna.samplers.GPSampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
        params = sampler.sample_relative(study, trial, open_space)
        fixed = {name: d for name, d in self._space.optuna.items() if d.single()}
        middle = self._space.at([0.5] * len(self._space.distributions))
        return params | self._space.encode({name: middle[name] for name in fixed}) if params else {}


def derived_seed(*parts: object) -> int:
    """A seed in [0, 2**32) from anything printable: stable across machines and versions."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:4], "big")
