"""The study's loop on scripted curves in virtual time, with the real study store."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sweep.domain import AttemptEnd, Report, TrialState
from sweep.engine import loop
from sweep.engine.control import StopCause
from sweep.engine.policies import fingerprint
from sweep.errors import RecordingError
from sweep.ports import AttemptBegun, AttemptOver, Ended, Event, Record, Reported, Superseded, TrialOver
from sweep.testing.doubles import MemoryKeeper, MemoryRecorder
from tests.simulated import DriverDied, Study, always, curve, spec_in


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


def test_the_hours_of_all_sessions_count_and_a_larger_budget_goes_on(tmp_path: Path) -> None:
    study = Study(tmp_path, "budget.hours=0.2", "search.pruner.name=none")
    assert study.run(stop_after_reports=8).state == "PAUSED"
    first = study.clock.seconds
    assert 200 < first < 700
    result = study.run()
    assert (result.state, result.cause) == ("PAUSED", StopCause.HOURS)
    assert "0.2 hours is spent, over all its sessions; --hours sets a larger one" in (result.reason or "")
    assert 720 <= study.clock.seconds < 720 + 60, "the first session did not count"
    spent = study.clock.seconds
    assert study.run().cause is StopCause.HOURS
    assert study.clock.seconds - spent < 5
    study.spec = spec_in(tmp_path, "budget.hours=100", "search.pruner.name=none")
    assert study.run().state == "COMPLETE"


def test_a_driver_that_dies_forgets_half_a_minute_of_its_time_at_most(tmp_path: Path) -> None:
    study = Study(tmp_path, "search.pruner.name=none")
    with pytest.raises(DriverDied):
        study.run(lives=60)
    assert study.store is not None
    assert study.clock.seconds > 200
    assert study.clock.seconds - 60 - study.store.spent.seconds <= 30  # virtual time moves by up to a minute


def test_gpu_hours_are_those_of_all_attempts_times_their_share(tmp_path: Path) -> None:
    gpus = "resources.gpus_per_trial=2"
    study = Study(tmp_path, "budget.gpu_hours=1", gpus, "search.pruner.name=none", slots=3)
    result = study.run()
    assert (result.state, result.cause) == ("PAUSED", StopCause.HOURS)
    assert "1 GPU hours is spent, over all its sessions; --gpu-hours sets a larger one" in (result.reason or "")
    assert 600 <= study.clock.seconds < 660, "3 attempts side by side with 2 GPUs each: an hour in 10 minutes"


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


# Bad ends


@pytest.mark.parametrize(
    ("end", "overrides", "attempts", "state"),
    [
        (AttemptEnd.OOM, (), 4, TrialState.OOM),
        (AttemptEnd.OOM, ("on.oom.halvings=1",), 2, TrialState.OOM),
        (AttemptEnd.OOM, ("on.oom.halvings=0",), 1, TrialState.OOM),
        (AttemptEnd.OOM, ("objective.training.batch_size=2",), 2, TrialState.OOM),
        (AttemptEnd.TIMEOUT, (), 1, TrialState.TIMEOUT),
        (AttemptEnd.TIMEOUT, ("on.timeout.retries=2",), 3, TrialState.TIMEOUT),
        (AttemptEnd.FAILED, (), 2, TrialState.FAILED),
        (AttemptEnd.FAILED, ("on.failed.retries=0",), 1, TrialState.FAILED),
        (AttemptEnd.FAILED, ("on.failed.retries=3",), 4, TrialState.FAILED),
        (AttemptEnd.LOST, (), 4, TrialState.FAILED),
        (AttemptEnd.LOST, ("on.lost.retries=0",), 1, TrialState.FAILED),
        (AttemptEnd.LOST, ("on.lost.retries=5",), 6, TrialState.FAILED),
        (AttemptEnd.DIVERGED, (), 1, TrialState.DIVERGED),
        (AttemptEnd.DIVERGED, ("on.diverged.told=nothing",), 1, TrialState.DIVERGED),
    ],
)
def test_a_bad_end_is_retried_as_often_as_its_policy_says(
    tmp_path: Path, end: AttemptEnd, overrides: tuple[str, ...], attempts: int, state: TrialState
) -> None:
    study = Study(tmp_path, "budget.trials=5", *overrides)
    assert study.run(always(2, end)).state == "COMPLETE"
    trial = study.trials[2]
    assert (trial.state, trial.attempt) == (state, attempts)
    assert study.attempts(2) == list(range(1, attempts + 1))
    assert [setback.end for setback in trial.setbacks] == [end] * (attempts - 1)
    assert f"simulated {end}" in (trial.error or "")
    assert {other.attempt for other in study.trials if other.number != 2} == {1}
    # One attempt fewer of that kind, and the trial is as good as any.
    better = Study(tmp_path / "better", "budget.trials=5", *overrides)
    if attempts > 1:
        better.run(always(2, end, attempts=attempts - 1))
        assert better.trials[2].state in {TrialState.COMPLETE, TrialState.PRUNED}


def test_out_of_memory_halves_the_micro_batch_and_every_attempt_tells_its_split(tmp_path: Path) -> None:
    study = Study(tmp_path, "budget.trials=3")
    study.run(always(1, AttemptEnd.OOM, attempts=2))
    assert [r.micro_batch_split for r in study.requests if r.assignment.trial_number == 1] == [1, 2, 4]
    begun = [r for r in study.recorder.records if isinstance(r, AttemptBegun) and r.trial_number == 1]
    assert [record.micro_batch_split for record in begun] == [1, 2, 4]
    assert {r.micro_batch_split for r in study.requests if r.assignment.trial_number != 1} == {1}


def test_losses_that_cost_other_work_each_time_never_end_a_trial(tmp_path: Path) -> None:
    study = Study(tmp_path, "budget.trials=3", "on.lost.retries=1", "search.pruner.name=none")
    study.run(lambda number, attempt, step: AttemptEnd.LOST if number == 1 and step == attempt + 1 else None)
    assert study.trials[1].state is TrialState.COMPLETE
    assert [setback.step for setback in study.trials[1].setbacks] == list(range(1, study.trials[1].attempt))
    assert study.trials[1].attempt > 2


def test_preemption_counts_as_no_failure(tmp_path: Path) -> None:
    ends = {1: AttemptEnd.PREEMPTED, 2: AttemptEnd.FAILED, 3: AttemptEnd.PREEMPTED, 4: AttemptEnd.PREEMPTED}
    study = Study(tmp_path, "budget.trials=4", "on.failed.retries=1", "on.lost.retries=0")
    result = study.run(lambda number, attempt, step: ends.get(attempt) if number == 2 else None)
    assert result.state == "COMPLETE"
    trial = study.trials[2]
    assert trial.state in {TrialState.COMPLETE, TrialState.PRUNED}
    assert (trial.attempt, [setback.attempt for setback in trial.setbacks]) == (5, [2])
    assert study.observer.lost == 1


@pytest.mark.parametrize("end", [AttemptEnd.OOM, AttemptEnd.TIMEOUT, AttemptEnd.FAILED, AttemptEnd.LOST])
def test_a_new_driver_counts_on_where_the_last_one_stopped(tmp_path: Path, end: AttemptEnd) -> None:
    policies = ("on.oom.halvings=2", "on.timeout.retries=2", "on.failed.retries=2", "on.lost.retries=2")
    study = Study(tmp_path, "budget.trials=1", *policies, slots=1)

    def die_in(attempt: int) -> Callable[[Sequence[Event]], list[Event]]:
        def late(events: Sequence[Event]) -> list[Event]:
            if study.requests[-1].assignment.attempt == attempt:
                raise DriverDied
            return []

        return late

    # One setback in each session, then an attempt that dies with its driver.
    for attempt in (2, 4):
        study.late = die_in(attempt)
        with pytest.raises(DriverDied):
            study.run(always(0, end))
    assert [setback.attempt for setback in study.trials[0].setbacks] == [1, 3]
    study.late = lambda events: []
    study.run(always(0, end))
    trial = study.trials[0]
    assert trial.state.is_finished
    assert trial.attempt == 5, "the third setback is one too many"
    assert [setback.end for setback in trial.setbacks] == [end, end]
    assert study.attempts(0) == [1, 2, 3, 4, 5]


def test_what_died_with_its_driver_is_told_as_paused_even_if_it_never_runs_again(tmp_path: Path) -> None:
    study = Study(tmp_path, "budget.trials=6", slots=3)
    with pytest.raises(DriverDied):
        study.run(lives=40)
    running = {trial.number for trial in study.trials if trial.state is TrialState.RUNNING}
    assert running
    finished = sum(trial.state.is_finished for trial in study.trials)
    study.spec = study.spec.model_copy(update={"budget": study.spec.budget.model_copy(update={"trials": 1})})
    assert study.run().state == ("COMPLETE")
    assert finished <= 1
    left = [trial for trial in study.trials if not trial.state.is_finished]
    assert left
    assert {trial.state for trial in left} == {TrialState.PAUSED}
    over = {(r.trial_number, r.attempt) for r in study.recorder.records if isinstance(r, AttemptOver)}
    assert {(trial.number, trial.attempt) for trial in left if trial.attempt} <= over


def test_a_late_report_of_an_old_attempt_is_kept_as_superseded(tmp_path: Path) -> None:
    study = Study(tmp_path, "budget.trials=3", "search.pruner.name=none", slots=1)

    def late(events: Sequence[Event]) -> list[Event]:
        newer = [e.report for e in events if isinstance(e, Reported) and e.report.trial_number == 1]
        return [Reported(report=replace(r, attempt=1, metrics={"accuracy": 99.0})) for r in newer if r.attempt == 2]

    study.late = late
    result = study.run(lambda n, attempt, step: AttemptEnd.LOST if (n, attempt, step) == (1, 1, 2) else None)
    assert result.state == "COMPLETE"
    superseded = [record for record in study.recorder.records if isinstance(record, Superseded)]
    assert superseded
    assert {(record.trial_number, record.attempt) for record in superseded} == {(1, 1)}
    assert study.trials[1].state in {TrialState.COMPLETE, TrialState.PRUNED}
    assert (study.trials[1].value or 0) < 1
    assert study.ends().count(1) == 1
    assert all(r.metrics["accuracy"] < 1 for r in study.recorder.records if isinstance(r, Report))


def test_a_report_without_the_metric_fails_its_trial_alone(tmp_path: Path) -> None:
    study = Study(tmp_path, "budget.trials=5")
    study.run(stop_after_reports=0)

    def without(hyperparameters: Any, seed: int, fidelity: float) -> Any:
        metrics = dict(curve(hyperparameters, seed, fidelity))
        return {"loss": metrics["loss"]} if hyperparameters == study.bad else metrics

    study.curve = without
    study.bad = None
    study.run(stop_after_reports=1)
    study.bad = study.trials[1].hyperparameters
    assert study.run().state == "COMPLETE"
    assert study.trials[1].state is TrialState.FAILED
    assert "the report has no metric 'accuracy', only ['loss']" in (study.trials[1].error or "")
    others = [trial.state for trial in study.trials if trial.number != 1]
    assert set(others) <= {TrialState.COMPLETE, TrialState.PRUNED}


# Reading checkpoints


NO_PRUNER = "search.pruner.name=none"


class SlowKeeper(MemoryKeeper):
    """Has large checkpoints: reading one takes until the executor was asked twice."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = threading.Semaphore(0)
        self.reads = 0

    def _read(self) -> None:
        self.reads += 1
        while self.waits.acquire(blocking=False):
            pass
        assert self.waits.acquire(timeout=30), "nobody asked the workers meanwhile"
        assert self.waits.acquire(timeout=30), "nobody asked the workers meanwhile"

    def is_intact(self, trial_number: int, step: int) -> bool:
        self._read()
        return super().is_intact(trial_number, step)

    def newest(self, trial_number: int, before: int | None = None) -> str | None:
        if trial_number == 2:
            self._read()
        return super().newest(trial_number, before)


def test_workers_are_asked_while_a_large_checkpoint_is_read_and_decisions_stay_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_READING_SECONDS", 0.01)
    quick, slow = (Study(tmp_path / name, "budget.trials=6", NO_PRUNER, slots=3) for name in ("quick", "slow"))
    quick.keeper.damaged.add((1, 5))
    keeper = SlowKeeper()
    keeper.damaged.add((1, 5))

    def asked(events: Sequence[Event]) -> list[Event]:
        keeper.waits.release()
        return []

    slow.late, slow.keeper = asked, keeper
    for study in (quick, slow):
        study.checkpoint = "/nowhere"
        assert study.run(always(3, AttemptEnd.LOST, attempts=1)).state == "COMPLETE"
    assert keeper.reads >= 3
    assert [(t.hyperparameters, t.state, t.value, t.attempt) for t in slow.trials] == [
        (t.hyperparameters, t.state, t.value, t.attempt) for t in quick.trials
    ]


# Stopping


def tracebacks(texts: list[str]) -> Any:
    """The same frames, with these last lines one after the other."""
    given = iter(texts)

    def detail(ended: Ended) -> str | None:
        if ended.end is not AttemptEnd.FAILED:
            return ended.detail
        return f'Traceback (most recent call last):\n  File "mine.py", line 7, in train\n{next(given)}'

    return detail


def test_identical_tracebacks_in_a_row_stop_the_study_and_show_it_once(tmp_path: Path) -> None:
    study = Study(tmp_path, "on.failed.retries=0", "on.failed.stop_after=4", slots=3)
    rates = ["1e-05", "0.0031", "3", "7.25e-4", "1", "2"]
    study.detail = tracebacks([f"ValueError: bad rate {rate} in <Model at 0x7f{rate[0]}a>" for rate in rates])
    result = study.run(lambda number, *_: AttemptEnd.FAILED if number > 4 else None)
    assert (result.state, result.cause) == ("FAILED", StopCause.FAILURES)
    assert "4 trials in a row failed alike" in (result.reason or "")
    assert (result.reason or "").count("Traceback") == 1
    assert "bad rate 7.25e-4" in (result.reason or "")
    assert sum(trial.state is TrialState.FAILED for trial in study.trials) == 4
    assert TrialState.RUNNING not in {trial.state for trial in study.trials}
    assert len(study.trials) < 20


def test_different_tracebacks_do_not_stop_the_study(tmp_path: Path) -> None:
    study = Study(tmp_path, "on.failed.retries=0", "budget.trials=12")
    study.detail = tracebacks([f"ValueError: the {'abcdef'[i % 6]} is missing" for i in range(12)])
    assert study.run(lambda *_: AttemptEnd.FAILED).state == "COMPLETE"
    assert {trial.state for trial in study.trials} == {TrialState.FAILED}


def test_a_success_between_failures_breaks_the_row(tmp_path: Path) -> None:
    study = Study(tmp_path, slots=1)
    result = study.run(lambda number, *_: AttemptEnd.FAILED if number % 3 else None)
    assert result.state == "COMPLETE"
    assert sum(trial.state is TrialState.FAILED for trial in study.trials) == 13


def test_a_row_of_failures_goes_on_in_the_next_session_until_a_trial_succeeds(tmp_path: Path) -> None:
    def fail(*_: int) -> AttemptEnd:
        return AttemptEnd.FAILED

    study = Study(tmp_path, "on.failed.retries=0", slots=1)
    for _ in range(2):
        with pytest.raises(DriverDied):
            study.run(fail, lives=9)
    failed = sum(trial.state is TrialState.FAILED for trial in study.trials)
    assert failed == 2
    assert study.run(fail).state == "FAILED"
    assert sum(trial.state is TrialState.FAILED for trial in study.trials) == 3
    assert study.run(fail).state == "FAILED"
    assert sum(trial.state is TrialState.FAILED for trial in study.trials) == 4
    assert study.run().state == "COMPLETE"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("rate 1e-05", "rate 0.31", True),
        ("line 7, in <f at 0x7f12ab>", "line 7, in <f at 0x1>", True),
        ("trial-0003/step-00000012", "trial-0011/step-00000003", True),
        ("KeyError: 'a'", "KeyError: 'b'", False),
        ("ValueError: 1", "TypeError: 1", False),
    ],
)
def test_a_fingerprint_is_all_but_the_numbers(one: str, other: str, same: bool) -> None:
    assert (fingerprint(one) == fingerprint(other)) is same


def test_a_full_disk_pauses_the_study_and_resume_finishes_it(tmp_path: Path) -> None:
    study = Study(tmp_path, "on.lost.retries=0", "on.failed.retries=0", slots=3)
    result = study.run(lambda n, attempt, step: AttemptEnd.DISK_FULL if (n, attempt, step) == (4, 1, 1) else None)
    assert (result.state, result.cause) == ("PAUSED", StopCause.DISK)
    assert "simulated DISK_FULL" in (result.reason or "")
    assert {trial.state for trial in study.trials if not trial.state.is_finished} == {TrialState.PAUSED}
    assert study.run().state == "COMPLETE"
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    assert all(trial.setbacks == () for trial in study.trials)


def test_a_complaint_about_space_pauses_the_study_before_anything_breaks(tmp_path: Path) -> None:
    study = Study(tmp_path)
    study.space = lambda: "0.1 GB are left" if study.observer.reports >= 5 else None
    result = study.run()
    assert (result.state, result.cause, result.reason) == ("PAUSED", StopCause.DISK, "0.1 GB are left")
    assert TrialState.RUNNING not in {trial.state for trial in study.trials}
    study.space = lambda: None
    assert study.run().state == "COMPLETE"


def test_a_record_that_does_not_fit_on_the_disk_pauses_the_study_and_another_fault_is_raised(tmp_path: Path) -> None:
    class Failing(MemoryRecorder):
        fault: int | None = errno.ENOSPC

        def record(self, record: Record) -> None:
            if self.fault and isinstance(record, TrialOver) and record.trial_number == 3:
                raise RecordingError("spool: cannot be written") from OSError(self.fault, "broken")
            super().record(record)

    study = Study(tmp_path)
    study.recorder = recorder = Failing()
    result = study.run()
    assert (result.state, result.cause) == ("PAUSED", StopCause.DISK)
    recorder.fault = errno.EIO
    with pytest.raises(RecordingError):
        study.run()
    recorder.fault = None
    assert study.run().state == "COMPLETE"
    assert sorted(study.ends()) == list(range(20))
