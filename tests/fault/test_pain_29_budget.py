"""The budget of finished trials is met exactly, whatever dies on the way."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.domain import AttemptEnd, TrialState
from sweep.search import OptunaStore
from sweep.spec import spec_text
from tests.simulated import DriverDied, Study, spec_in

BUDGET = 100
WORKERS = 16
FATES = [AttemptEnd.LOST, AttemptEnd.FAILED, AttemptEnd.OOM, AttemptEnd.PREEMPTED]


@pytest.mark.parametrize("seed", range(2))
def test_pain_29_a_budget_of_100_with_16_workers_and_random_kills_ends_at_exactly_100(
    tmp_path: Path, seed: int
) -> None:
    generator = random.Random(seed)
    study = Study(tmp_path, f"budget.trials={BUDGET}", f"on.failed.stop_after={BUDGET}", slots=WORKERS)

    def fate(number: int, attempt: int, step: int) -> AttemptEnd | None:
        return generator.choice(FATES) if generator.random() < 0.2 else None

    deaths = 0
    while True:
        try:
            result = study.run(fate, lives=generator.randrange(50, 900))
            break
        except DriverDied:
            deaths += 1
        finally:
            assert len(study.trials) <= BUDGET
    assert result.state == "COMPLETE"
    assert deaths > 3
    assert [trial.number for trial in study.trials] == list(range(BUDGET))
    assert all(trial.state.is_finished for trial in study.trials)
    assert sorted(study.ends()) == list(range(BUDGET))
    assert any(trial.setbacks for trial in study.trials)
    again = study.run(fate)
    assert (again.state, len(study.trials), len(study.ends())) == ("COMPLETE", BUDGET, BUDGET)


@pytest.mark.parametrize("budget", [1, 9, 12])
def test_pain_29_a_budget_made_smaller_is_met_or_exceeded_by_nothing_new(tmp_path: Path, budget: int) -> None:
    study = Study(tmp_path, slots=4)
    study.run(stop_after_reports=20)
    before = len(study.trials)
    finished = sum(trial.state.is_finished for trial in study.trials)
    assert 1 < finished < before < 20
    study.spec = spec_in(tmp_path, f"budget.trials={budget}")
    assert study.run().state == "COMPLETE"
    assert sum(trial.state.is_finished for trial in study.trials) == max(budget, finished)
    assert len(study.trials) == max(budget, before)
    assert TrialState.RUNNING not in {trial.state for trial in study.trials}
    study.spec = spec_in(tmp_path)
    assert study.run().state == "COMPLETE"
    assert [trial.number for trial in study.trials] == list(range(20))
    assert all(trial.state.is_finished for trial in study.trials)


@pytest.mark.parametrize("trials", ["0", "-3"])
def test_pain_29_resume_refuses_a_budget_that_is_none_with_one_clear_error(tmp_path: Path, trials: str) -> None:
    spec = spec_in(tmp_path)
    OptunaStore.create(spec).close()
    spec.layout.spec.write_text(spec_text(spec.resolved()), encoding="utf-8")
    result = subprocess.run(
        [sys.executable, "-m", "sweep.cli.main", "resume", spec.study, "--trials", trials, "--storage", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
    assert "budget.trials" in result.stderr
    assert trials in result.stderr
