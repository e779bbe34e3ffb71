"""A trial that hangs is killed in time, and what it was doing then is kept."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from sweep.domain import AttemptEnd, Decision, TrialState
from sweep.execution.local import LocalExecutor
from sweep.execution.warm_client import WarmParent
from sweep.ports import AttemptLimits, Ended, Reported, Started
from sweep.testing.executor import gather, gone_within, run, the_end, toy_request
from sweep.testing.toy_objectives import LOADER
from tests.fault.local_study import LocalStudy

LIMIT_SECONDS = 1.5
FEW_SECONDS = 10.0
"""Between a limit and the end: two looks, a dump and a kill take about 3 s on quiet cores."""


def executor_with(parent: WarmParent, **limits: float | None) -> LocalExecutor:
    return LocalExecutor(1, parent, "toy", loader=LOADER, limits=AttemptLimits(**{"silence_seconds": None, **limits}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("how", "function"), [("loop", "_loop_for_ever"), ("hold-the-interpreter", "_hold_the_interpreter")]
)
def test_pain_09_a_hung_trial_is_killed_within_its_limit_and_its_stacks_name_the_function(
    parent: WarmParent, tmp_path: Path, how: str, function: str
) -> None:
    executor = executor_with(parent, silence_seconds=LIMIT_SECONDS)
    executor.start(toy_request(tmp_path, reports=1, then=how), tmp_path / "log")
    events = gather(executor, lambda seen: any(isinstance(event, Reported) for event in seen))
    silent_since = time.monotonic()
    events += gather(executor, lambda seen: any(isinstance(event, Ended) for event in seen))
    assert time.monotonic() - silent_since < LIMIT_SECONDS + FEW_SECONDS
    end = the_end(events)
    assert end.end is AttemptEnd.TIMEOUT
    assert end.detail is not None
    assert "no sign of life for 0.025 min (limits.silence_minutes), last at step 1" in end.detail
    assert end.detail.splitlines()[-1].endswith(f"in {function}")
    assert function in (tmp_path / "artifact" / "stacks-attempt-1.txt").read_text()
    (started,) = [event for event in events if isinstance(event, Started)]
    assert gone_within(5, started.pid)
    assert executor.free_slots == 1


def test_pain_09_a_stopped_process_is_killed_too_and_the_reason_says_why_there_are_no_stacks(
    parent: WarmParent, tmp_path: Path
) -> None:
    executor = executor_with(parent, silence_seconds=LIMIT_SECONDS)
    executor.start(toy_request(tmp_path, reports=0, then="hang"), tmp_path / "log")
    (started,) = gather(executor, lambda seen: any(isinstance(event, Started) for event in seen))
    assert isinstance(started, Started)
    os.kill(started.pid, signal.SIGSTOP)
    end = the_end(gather(executor, lambda seen: any(isinstance(event, Ended) for event in seen)))
    assert end.end is AttemptEnd.TIMEOUT
    assert "before its first step. Its stacks cannot be told: it is stopped by a signal." in str(end.detail)
    assert gone_within(5, started.pid)


def test_pain_09_a_trial_that_shows_life_is_ended_by_its_wall_limit_alone(parent: WarmParent, tmp_path: Path) -> None:
    executor = executor_with(parent, silence_seconds=LIMIT_SECONDS, wall_seconds=2 * LIMIT_SECONDS)
    began = time.monotonic()
    end = the_end(run(executor, toy_request(tmp_path, reports=1, then="train-on"), tmp_path / "log"))
    assert 2 * LIMIT_SECONDS < time.monotonic() - began < 2 * LIMIT_SECONDS + FEW_SECONDS
    assert end.end is AttemptEnd.TIMEOUT
    assert "not done within 0.000833333 h (limits.attempt_hours)" in str(end.detail)
    # The innermost frame may be that of a sign of life on its way.
    assert "in _train_on" in (tmp_path / "artifact" / "stacks-attempt-1.txt").read_text()


def test_pain_09_waiting_for_a_decision_or_for_a_cold_parent_is_no_silence(tmp_path: Path) -> None:
    (tmp_path / "slow_module.py").write_text("import time\ntime.sleep(2.5)\n")
    parent = WarmParent(("slow_module",), extra_path=[str(tmp_path)])
    executor = executor_with(parent, silence_seconds=LIMIT_SECONDS)
    try:
        executor.start(toy_request(tmp_path, reports=1), tmp_path / "log")
        events = gather(executor, lambda seen: any(isinstance(event, Reported) for event in seen), decision=None)
        deadline = time.monotonic() + 2 * LIMIT_SECONDS
        while time.monotonic() < deadline:
            assert not executor.wait(0.2)
        (report,) = [event.report for event in events if isinstance(event, Reported)]
        executor.decide(report.trial_number, 1, Decision.CONTINUE)
        end = the_end(gather(executor, lambda seen: any(isinstance(event, Ended) for event in seen)))
        assert end.end is AttemptEnd.FINISHED
    finally:
        executor.close()
        parent.close()


def test_pain_09_the_study_goes_on_after_a_hung_trial(parent: WarmParent, tmp_path: Path) -> None:
    study = LocalStudy(tmp_path, parent, "budget.trials=3", limits=AttemptLimits(silence_seconds=LIMIT_SECONDS))
    study.plans[1] = {"reports": 1, "then": "hold-the-interpreter"}
    assert study.run().state == "COMPLETE"
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.TIMEOUT, TrialState.COMPLETE]
    assert "_hold_the_interpreter" in str(study.trials[1].error)
    assert "_hold_the_interpreter" in (tmp_path / "artifacts-1" / "stacks-attempt-1.txt").read_text()
