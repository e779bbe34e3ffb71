"""Parallel workers and resumes repeat no configuration while there are others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from sweep.domain import HyperparameterValue, TrialState
from tests.simulated import DriverDied, Study

SPEC = """
study: discrete
objective:
  model: bundled:minilm-l6
  data: bundled:tweets
  training: {epochs: 4, batch_size: 16}
search:
  batch_size: [8, 16, 32]
  max_length: 32..96 step 32
  dropout: 0.0..0.4 step 0.1
  sampler: {name: SAMPLER}
metric: {name: accuracy, from: best}
budget: {trials: TRIALS}
storage: .
"""
CONFIGURATIONS = 3 * 3 * 5


def curve(hyperparameters: Mapping[str, HyperparameterValue], seed: int, fidelity: float) -> Mapping[str, float]:
    # Two configurations in five are as good as each other: a model of the objective wants them again and again.
    dropout = hyperparameters["dropout"]
    assert isinstance(dropout, float)
    return {"accuracy": 0.9 - max(0.1, dropout) - 0.1 / (1 + fidelity)}


@pytest.mark.parametrize("sampler", ["sobol", "tpe", "random", "gp"])
def test_pain_17_sixteen_workers_and_two_resumes_repeat_no_configuration(tmp_path: Path, sampler: str) -> None:
    # A Gaussian process is slow to fit: fewer trials, still most of them from its model.
    trials = 36 if sampler == "gp" else CONFIGURATIONS
    text = SPEC.replace("SAMPLER", sampler).replace("TRIALS", str(trials))
    study = Study(tmp_path, "search.pruner.name=none", slots=16, text=text)
    study.curve = curve
    assert study.run(stop_after_reports=20).state == "PAUSED"
    assert len(study.trials) >= 16
    with pytest.raises(DriverDied):
        study.run(lives=40)
    assert study.run().state == "COMPLETE"
    assert len(study.trials) == trials
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    drawn = [tuple(sorted(trial.hyperparameters.items())) for trial in study.trials]
    assert len(set(drawn)) == trials
    assert all(trial.attempt >= 1 for trial in study.trials)
    assert max(trial.attempt for trial in study.trials) > 1, "no resume met a running trial"
