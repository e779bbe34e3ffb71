"""The study's loop on scripted curves in virtual time, with the real study store."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from sweep.domain import Assignment, AttemptEnd, HyperparameterValue, Report, TrainRequest, TrialState
from sweep.engine.control import StopRequest
from sweep.engine.loop import LoopResult, StudyLoop
from sweep.execution.simulated import Fate, SimulatedExecutor, VirtualClock
from sweep.ports import AttemptBegun, AttemptOver, TrialOver
from sweep.search import OptunaStore
from sweep.spec import parse_spec
from sweep.spec.model import StudySpec
from sweep.testing.doubles import MemoryKeeper, MemoryRecorder, SilentObserver

SPEC = """
study: simulated
objective:
  model: bundled:minilm-l6
  data: bundled:tweets
  training: {epochs: 4}
search:
  learning_rate: 1e-6..1e-2 log
  dropout: 0..0.5
metric: {name: accuracy, from: best}
budget: {trials: 20}
storage: .
"""


def spec_in(folder: Path, *overrides: str) -> StudySpec:
    return parse_spec(SPEC, place="study.yaml", folder=folder, overrides=overrides)


def curve(hyperparameters: Mapping[str, HyperparameterValue], seed: int, fidelity: float) -> Mapping[str, float]:
    rate, dropout = hyperparameters["learning_rate"], hyperparameters["dropout"]
    assert isinstance(rate, float)
    assert isinstance(dropout, float)
    top = 0.95 - 0.05 * (math.log10(rate) + 4) ** 2 - 0.1 * dropout
    return {"accuracy": top * (1 - math.exp(-fidelity)), "loss": 1 - top}


class Study:
    """One driver's session after another on the same study."""

    def __init__(self, folder: Path, *overrides: str, slots: int = 2) -> None:
        self.spec = spec_in(folder, *overrides)
        self.slots = slots
        self.recorder = MemoryRecorder()
        self.observer = SilentObserver()
        self.clock = VirtualClock()
        self.store: OptunaStore | None = None

    def run(self, fate: Fate | None = None, stop_after_reports: int | None = None, now: bool = False) -> LoopResult:
        is_new = self.store is None
        self.store = OptunaStore.create(self.spec) if is_new else OptunaStore.open(self.spec)
        executor = SimulatedExecutor(
            clock=self.clock, curve=curve, max_fidelity=4.0, slots=self.slots, fate=fate or (lambda *_: None)
        )
        begun = self.observer.reports

        def stop() -> StopRequest:
            if stop_after_reports is None or self.observer.reports - begun < stop_after_reports:
                return StopRequest.NONE
            return StopRequest.NOW if now else StopRequest.DRAIN

        loop = StudyLoop(
            spec=self.spec,
            store=self.store,
            executor=executor,
            recorder=self.recorder,
            keeper=MemoryKeeper(),
            clock=self.clock,
            observer=self.observer,
            request_for=self.request,
            log_of=self.spec.layout.log,
            artifacts_of=self.spec.layout.artifacts,
            stop_requested=stop,
        )
        result = loop.run()
        self.trials = list(self.store.trials())
        self.store.close()
        return result

    def request(self, assignment: Assignment) -> TrainRequest:
        return TrainRequest(
            assignment=assignment,
            prepared="",
            model="",
            settings={},
            metric=self.spec.rule,
            evaluate_at=self.spec.evaluate_at,
            fidelity_unit=self.spec.fidelity_unit,
            checkpoints="",
            artifacts="",
        )


def test_the_budget_of_finished_trials_is_met_exactly(tmp_path: Path) -> None:
    study = Study(tmp_path, slots=7)
    assert study.run().state == "COMPLETE"
    assert [trial.number for trial in study.trials] == list(range(20))
    assert all(trial.state.is_finished for trial in study.trials)
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}


def test_the_baseline_is_trial_zero_and_is_never_pruned(tmp_path: Path) -> None:
    study = Study(tmp_path, "objective.training.learning_rate=1e-6")
    study.run()
    assert study.trials[0].state is TrialState.COMPLETE
    assert study.trials[0].hyperparameters["learning_rate"] == 1e-6


def test_one_worker_gives_the_same_study_trial_for_trial(tmp_path: Path) -> None:
    first, second = Study(tmp_path / "a", slots=1), Study(tmp_path / "b", slots=1)
    first.run()
    second.run()
    assert [(t.hyperparameters, t.state, t.values) for t in first.trials] == [
        (t.hyperparameters, t.state, t.values) for t in second.trials
    ]


@pytest.mark.parametrize("now", [False, True])
def test_a_stopped_study_resumes_to_its_budget_and_reports_no_step_twice(tmp_path: Path, now: bool) -> None:
    study = Study(tmp_path, slots=3)
    for stop_after in (1, 5, 9):
        result = study.run(stop_after_reports=stop_after, now=now)
        assert result.state == "PAUSED"
        assert TrialState.RUNNING not in {trial.state for trial in study.trials}
    assert study.run().state == "COMPLETE"
    assert len(study.trials) == 20
    assert all(trial.state.is_finished for trial in study.trials)
    ends = [record.trial_number for record in study.recorder.records if isinstance(record, TrialOver)]
    assert sorted(ends) == list(range(20))
    told = [(r.trial_number, r.step) for r in study.recorder.records if isinstance(r, Report)]
    assert told
    assert len(told) == len(set(told))


def test_a_lost_attempt_does_not_end_its_trial(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.run(fate=lambda number, attempt, step: AttemptEnd.LOST if attempt == 1 and step == 2 else None)
    assert study.observer.lost > 0
    assert all(trial.state in {TrialState.COMPLETE, TrialState.PRUNED} for trial in study.trials)
    lost = {record.trial_number for record in study.recorder.records if isinstance(record, AttemptOver)}
    assert all(study.trials[number].attempt == 2 for number in lost)


def test_a_trial_that_is_lost_again_and_again_without_progress_fails(tmp_path: Path) -> None:
    study = Study(tmp_path, "budget.trials=6")
    study.run(fate=lambda number, attempt, step: AttemptEnd.LOST if number == 1 and step == 1 else None)
    assert study.trials[1].state is TrialState.FAILED
    assert "without a new checkpoint" in (study.trials[1].error or "")
    assert sum(trial.state.is_finished for trial in study.trials) == 6


def test_one_failing_trial_does_not_end_the_study(tmp_path: Path) -> None:
    ends = {2: AttemptEnd.FAILED, 4: AttemptEnd.OOM, 6: AttemptEnd.DIVERGED, 8: AttemptEnd.TIMEOUT}
    study = Study(tmp_path)
    assert study.run(fate=lambda number, attempt, step: ends.get(number)).state == "COMPLETE"
    assert [study.trials[number].state for number in ends] == [
        TrialState.FAILED,
        TrialState.OOM,
        TrialState.DIVERGED,
        TrialState.TIMEOUT,
    ]


def test_trials_that_all_fail_alike_stop_the_study(tmp_path: Path) -> None:
    study = Study(tmp_path)
    result = study.run(fate=lambda *_: AttemptEnd.FAILED)
    assert result.state == "FAILED"
    assert "3 trials in a row failed alike" in (result.reason or "")
    assert len(study.trials) <= 5


def test_the_hours_budget_pauses_what_runs(tmp_path: Path) -> None:
    study = Study(tmp_path, "budget.hours=0.05")
    result = study.run()
    assert result.state == "PAUSED"
    assert "hours" in (result.reason or "")
    assert TrialState.RUNNING not in {trial.state for trial in study.trials}


def test_attempts_are_numbered_without_gaps(tmp_path: Path) -> None:
    study = Study(tmp_path, slots=4)
    study.run(stop_after_reports=7)
    study.run()
    for number in range(20):
        attempts = [
            record.attempt
            for record in study.recorder.records
            if isinstance(record, AttemptBegun) and record.trial_number == number
        ]
        assert attempts == list(range(1, len(attempts) + 1))
