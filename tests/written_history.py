"""A study's history written by the store alone, in seconds: plausible curves, workers, times and setbacks."""

from __future__ import annotations

import bisect
import heapq
import json
import math
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sweep.domain import GAP, AttemptEnd, HyperparameterValue, Report, Setback, TrialState
from sweep.search import OptunaStore
from sweep.spec import parse_spec, spec_text
from sweep.spec.model import PrunerSpec, StudySpec

SPEC = """
study: written
objective:
  model: bundled:minilm-l6
  data: bundled:tweets
  training: {epochs: 4}
search:
  learning_rate: 1e-6..1e-2 log
  dropout: 0..0.5
  batch_size: [8, 16, 32]
  sampler: random
metric: {name: accuracy, from: best}
budget: {trials: 20}
storage: .
"""
BEGAN_AT = 1_790_000_000.0
SECONDS_PER_EPOCH = 60.0


class Clock:
    """Set from outside."""

    def __init__(self) -> None:
        self.now = BEGAN_AT

    def __call__(self) -> float:
        return self.now


class Halving:
    """Keeps the better third at each rung, as far as it has been seen."""

    def __init__(self, spec: StudySpec) -> None:
        self._seen: dict[float, list[float]] = {level: [] for level in (spec.ladder.rungs if spec.ladder else ())}

    def cuts(self, level: float, value: float) -> bool:
        if level not in self._seen:
            return False
        seen = self._seen[level]
        bisect.insort(seen, value)
        return len(seen) >= 3 and seen.index(value) < len(seen) * 2 // 3


def spec_in(folder: Path, *overrides: str, text: str = SPEC) -> StudySpec:
    return parse_spec(text, place="study.yaml", folder=folder, overrides=overrides)


def quality(hyperparameters: Mapping[str, HyperparameterValue]) -> float:
    rate, dropout = hyperparameters["learning_rate"], hyperparameters["dropout"]
    assert isinstance(rate, float)
    assert isinstance(dropout, float)
    return 0.95 - 0.04 * (math.log10(rate) + 3.5) ** 2 - 0.1 * dropout


def write_study(spec: StudySpec, trials: int, *, workers: int = 4, durable: bool = False) -> None:
    """Finish trials on workers in virtual time; one of 25 is lost once, one of 40 fails."""
    layout = spec.layout
    layout.folder.mkdir(parents=True, exist_ok=True)
    layout.spec.write_text(spec_text(spec.resolved()))
    facts: dict[str, Any] = {
        "rows": {"train": 2500, "validation": 276, "test": 600},
        "labels": ["negative", "positive"],
        "data_hash": "0123456789abcdef" * 4,
        "warnings": [],
    }
    (layout.folder / "data.json").write_text(json.dumps(facts))
    (layout.folder / "environment.json").write_text(json.dumps({"sweep": "0", "python": "3.11", "cpus": 2}))
    fdatasync = os.fdatasync
    if not durable:
        os.fdatasync = lambda descriptor: None
    try:
        _write(spec, trials, workers)
    finally:
        os.fdatasync = fdatasync


def _write(spec: StudySpec, trials: int, workers: int) -> None:
    dice, clock, halving = random.Random(0), Clock(), Halving(spec)
    # Optuna's pruner looks at all trials for each report, which takes minutes for thousands of them.
    unpruned = spec.search.model_copy(update={"pruner": PrunerSpec(name="none")})
    store = OptunaStore.create(spec.model_copy(update={"search": unpruned}), now=clock)
    free = [(BEGAN_AT + slot, slot) for slot in range(workers)]
    for _ in range(trials):
        clock.now, slot = heapq.heappop(free)
        trial = store.ask()
        number = trial.number
        store.begin_attempt(number)
        store.attempt_started(number, f"host-{slot // 2}/{slot % 2}")
        if number % 25 == 7:
            clock.now += 20 + 40 * dice.random()
            store.pause(number, Setback(attempt=1, end=AttemptEnd.LOST, step=0, reason="its process was killed"))
            clock.now += 2
            store.begin_attempt(number)
            store.attempt_started(number, f"host-{slot // 2}/{slot % 2}")
        _finish(spec, store, number, dict(trial.hyperparameters), clock, dice, halving)
        heapq.heappush(free, (clock.now + 0.5, slot))
    store.close()


def _finish(
    spec: StudySpec,
    store: OptunaStore,
    number: int,
    hyperparameters: Mapping[str, HyperparameterValue],
    clock: Clock,
    dice: random.Random,
    halving: Halving,
) -> None:
    top, wall, chosen = quality(hyperparameters) + dice.gauss(0, 0.005), 3.0, None
    before = 0.0
    for level in spec.evaluate_at:
        passed = (level - before) * SECONDS_PER_EPOCH * dice.uniform(0.9, 1.1)
        before, wall, clock.now = level, wall + passed, clock.now + passed
        accuracy = 0.5 + (top - 0.5) * (1 - math.exp(-1.2 * level)) + dice.gauss(0, 0.004)
        report = Report(
            trial_number=number,
            attempt=2 if number % 25 == 7 else 1,
            step=round(level * 100),
            fidelity=level,
            metrics={"accuracy": accuracy, "loss": 1 - accuracy, GAP: 0.1 * level},
            checkpoint=None,
            wall_seconds=wall,
            reported_at=clock.now,
        )
        chosen = report if chosen is None or accuracy > chosen.metrics["accuracy"] else chosen
        store.report(report, chosen.metrics["accuracy"])
        if number % 40 == 11:
            error = 'Traceback (most recent call last):\n  File "task.py", line 3, in train\nValueError: bad rows'
            store.tell(number, TrialState.FAILED, None, error)
            return
        if number and halving.cuts(level, accuracy):
            store.tell(number, TrialState.PRUNED, chosen)
            return
    store.tell(number, TrialState.COMPLETE, chosen)
