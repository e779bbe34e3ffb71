"""What every :class:`sweep.ports.Executor` must do, as a test class to inherit from.

The subclass gives two fixtures: ``executor``, an idle executor of at least two slots that runs the objective ``toy``
of :mod:`sweep.testing.toy_objectives` within :data:`CONFORMANCE_LIMITS`, and ``folder``, an empty folder. Attempts of
different tests never share a trial number, so that one executor may serve them all.
"""
# ruff: noqa: D102  # the names of tests are sentences

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from sweep.domain import Assignment, AttemptEnd, Decision, MetricRule, TrainRequest
from sweep.errors import ExecutionError
from sweep.ports import AttemptLimits, Ended, Event, Executor, Progressed, Reported, Started

CONFORMANCE_LIMITS = AttemptLimits(silence_seconds=5.0, memory_bytes=500_000_000)
"""Limits of the attempts of the executor under test."""

_NUMBERS = itertools.count()
_PATIENCE_SECONDS = 30.0


def toy_request(folder: Path, *, attempt: int = 1, number: int | None = None, **settings: Any) -> TrainRequest:
    """A request for one attempt of a toy trial, with a trial number of its own."""
    return TrainRequest(
        assignment=Assignment(
            trial_number=next(_NUMBERS) if number is None else number,
            attempt=attempt,
            hyperparameters={"learning_rate": 1e-3, "keep_layers": (0, 2)},
            seed=1,
        ),
        prepared=str(folder),
        model="none",
        settings=settings,
        metric=MetricRule(name="accuracy", direction="maximize"),
        evaluate_at=(1.0, 2.0),
        fidelity_unit="epochs",
        checkpoints=str(folder / "checkpoints"),
        artifacts=str(folder / "artifact"),
    )


def gather(
    executor: Executor,
    until: Callable[[Sequence[Event]], bool],
    *,
    decision: Decision | None = Decision.CONTINUE,
) -> list[Event]:
    """Events up to the moment ``until`` holds of them; every report is answered by ``decision``, if there is one."""
    seen: list[Event] = []
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not until(seen):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the executor said only {seen}")
        for event in executor.wait(0.5):
            seen.append(event)
            if decision is not None and isinstance(event, Reported):
                executor.decide(event.report.trial_number, event.report.attempt, decision)
    return seen


def start(executor: Executor, request: TrainRequest, log: Path) -> None:
    """Begin an attempt once a slot is free, on an executor that runs nothing else."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not executor.free_slots and time.monotonic() < deadline:
        executor.wait(0.5)
    executor.start(request, log)


def run(executor: Executor, request: TrainRequest, log: Path, decision: Decision = Decision.CONTINUE) -> list[Event]:
    """Run one attempt to its end on an executor that runs nothing else."""
    start(executor, request, log)
    return gather(executor, lambda seen: any(isinstance(event, Ended) for event in seen), decision=decision)


def the_end(events: Sequence[Event]) -> Ended:
    """The one end among events."""
    (end,) = [event for event in events if isinstance(event, Ended)]
    return end


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the second, if it goes between opening and reading
        return False


def wait_for(condition: Callable[[], Any]) -> Any:
    """Poll until the condition gives something true, and return it."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {_PATIENCE_SECONDS:.0f} s in vain")
        time.sleep(0.01)
    return found


def gone_within(seconds: float, *pids: int) -> bool:
    """Whether all processes are gone before so long."""
    deadline = time.monotonic() + seconds
    while any(is_alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


class ExecutorConformance:
    """The port's promises."""

    def test_reports_come_in_order_and_the_attempt_finishes(self, executor: Executor, folder: Path) -> None:
        request = toy_request(folder, reports=3)
        events = run(executor, request, folder / "log")
        assert isinstance(events[0], Started)
        assert [event.report.step for event in events if isinstance(event, Reported)] == [1, 2, 3]
        assert any(isinstance(event, Progressed) and event.total_steps == 3 for event in events)
        number = request.assignment.trial_number
        assert events[-1] == Ended(trial_number=number, attempt=1, end=AttemptEnd.FINISHED)
        assert executor.free_slots == executor.slots

    @pytest.mark.parametrize(("decision", "end"), [(Decision.STOP, "STOPPED"), (Decision.PAUSE, "PAUSED")])
    def test_a_decision_is_obeyed(self, executor: Executor, folder: Path, decision: Decision, end: str) -> None:
        events = run(executor, toy_request(folder, reports=3), folder / "log", decision)
        assert the_end(events).end == end
        assert sum(isinstance(event, Reported) for event in events) == 1
        assert "generator closed" in (folder / "log").read_text()

    @pytest.mark.parametrize(
        ("how", "end", "words"),
        [
            ("diverge", AttemptEnd.DIVERGED, "loss became NaN at step 3"),
            ("fail", AttemptEnd.FAILED, "ValueError: a bug in the objective"),
            ("user-error", AttemptEnd.FAILED, "train.csv: no rows"),
            ("memory", AttemptEnd.OOM, "MemoryError"),
            ("device-memory", AttemptEnd.OOM, "CUDA out of memory"),
            ("disk-full", AttemptEnd.DISK_FULL, "step-3: the checkpoint cannot be written"),
            ("talk-of-a-full-disk", AttemptEnd.FAILED, "the tokenizer's vocabulary is full"),
            ("exit", AttemptEnd.LOST, "exited with code 9"),
            ("quit", AttemptEnd.FAILED, "SystemExit: 3"),
        ],
    )
    def test_an_end_keeps_its_kind(
        self, executor: Executor, folder: Path, how: str, end: AttemptEnd, words: str
    ) -> None:
        ended = the_end(run(executor, toy_request(folder, reports=1, then=how), folder / "log"))
        assert ended.end is end
        assert ended.detail is not None
        assert words in ended.detail
        assert executor.free_slots == executor.slots

    def test_attempts_run_side_by_side(self, executor: Executor, folder: Path) -> None:
        for _ in range(2):
            executor.start(toy_request(folder, reports=2, sleep_seconds=0.2), folder / "log")
        both = gather(executor, lambda seen: sum(isinstance(event, Ended) for event in seen) == 2)
        first_end = next(place for place, event in enumerate(both) if isinstance(event, Ended))
        began = {event.trial_number: event.worker for event in both[:first_end] if isinstance(event, Started)}
        assert len(began) == len(set(began.values())) == 2

    def test_a_full_executor_refuses(self, executor: Executor, folder: Path) -> None:
        requests = [toy_request(folder, then="hang", reports=0) for _ in range(executor.slots)]
        for request in requests:
            executor.start(request, folder / "log")
        assert executor.free_slots == 0
        with pytest.raises(ExecutionError, match="slots are taken"):
            executor.start(toy_request(folder), folder / "log")
        for request in requests:
            executor.kill(request.assignment.trial_number, 1)
        ends = gather(executor, lambda seen: sum(isinstance(event, Ended) for event in seen) == executor.slots)
        assert {event.end for event in ends if isinstance(event, Ended)} == {AttemptEnd.LOST}
        assert executor.free_slots == executor.slots

    def test_an_attempt_that_waits_for_a_decision_can_be_killed(self, executor: Executor, folder: Path) -> None:
        request = toy_request(folder)
        executor.start(request, folder / "log")
        gather(executor, lambda seen: any(isinstance(event, Reported) for event in seen), decision=None)
        executor.kill(request.assignment.trial_number, 1)
        end = the_end(gather(executor, lambda seen: any(isinstance(event, Ended) for event in seen)))
        assert end.end is AttemptEnd.LOST

    def test_a_kill_takes_what_the_trial_started_with_it(self, executor: Executor, folder: Path) -> None:
        request = toy_request(folder, reports=1, then="orphan")
        executor.start(request, folder / "log")
        gather(executor, lambda seen: any(isinstance(event, Reported) for event in seen))
        wait_for(lambda: (folder / "artifact").exists() and (folder / "artifact").read_text())
        grandchild = int((folder / "artifact").read_text())
        assert is_alive(grandchild)
        executor.kill(request.assignment.trial_number, 1)
        gather(executor, lambda seen: any(isinstance(event, Ended) for event in seen))
        assert gone_within(5, grandchild)

    def test_a_killed_trial_process_is_a_lost_attempt(self, executor: Executor, folder: Path) -> None:
        executor.start(toy_request(folder, reports=0, then="hang"), folder / "log")
        (started,) = gather(executor, lambda seen: any(isinstance(event, Started) for event in seen))
        assert isinstance(started, Started)
        os.kill(started.pid, signal.SIGKILL)
        end = the_end(gather(executor, lambda seen: any(isinstance(event, Ended) for event in seen)))
        assert (end.end, end.detail) == (AttemptEnd.LOST, "trial process killed by signal 9")

    def test_an_attempt_that_asks_leaves_at_its_next_step(self, executor: Executor, folder: Path) -> None:
        request = toy_request(folder, reports=1, then="train-on")
        executor.start(request, folder / "log")
        gather(executor, lambda seen: any(isinstance(event, Progressed) and event.step == 2 for event in seen))
        executor.leave(request.assignment.trial_number, 1)
        end = the_end(gather(executor, lambda seen: any(isinstance(event, Ended) for event in seen)))
        assert end.end is AttemptEnd.PREEMPTED
        assert executor.free_slots == executor.slots

    def test_an_attempt_told_to_leave_before_it_has_begun_leaves(self, executor: Executor, folder: Path) -> None:
        request = toy_request(folder, reports=1, then="train-on")
        executor.start(request, folder / "log")
        executor.leave(request.assignment.trial_number, 1)
        events = gather(executor, lambda seen: any(isinstance(event, Ended) for event in seen))
        assert the_end(events).end is AttemptEnd.PREEMPTED

    def test_an_attempt_that_does_not_ask_goes_on_to_its_next_report(self, executor: Executor, folder: Path) -> None:
        request = toy_request(folder, reports=2, sleep_seconds=0.5)
        executor.start(request, folder / "log")
        gather(executor, lambda seen: any(isinstance(event, Progressed) for event in seen))
        executor.leave(request.assignment.trial_number, 1)
        events = gather(executor, lambda seen: any(isinstance(event, Ended) for event in seen), decision=Decision.PAUSE)
        assert the_end(events).end is AttemptEnd.PAUSED

    def test_a_silent_attempt_ends_as_timeout_with_its_stack(self, executor: Executor, folder: Path) -> None:
        end = the_end(run(executor, toy_request(folder, reports=0, then="hang"), folder / "log"))
        assert end.end is AttemptEnd.TIMEOUT
        assert "limits.silence_minutes" in str(end.detail)
        assert str(end.detail).endswith("in _end")
        assert executor.free_slots == executor.slots

    def test_an_attempt_that_takes_too_much_memory_ends_as_oom(self, executor: Executor, folder: Path) -> None:
        request = toy_request(folder, reports=0, then="allocate", megabytes=600)
        end = the_end(run(executor, request, folder / "log"))
        assert end.end is AttemptEnd.OOM
        assert "limits.memory_gb" in str(end.detail)

    @pytest.mark.parametrize("is_killed", [False, True])
    def test_once_settled_an_attempt_of_before_says_nothing_of_one_with_its_name(
        self, executor: Executor, folder: Path, is_killed: bool
    ) -> None:
        before = toy_request(folder, reports=1)
        start(executor, before, folder / "log")
        gather(executor, lambda seen: any(isinstance(event, Reported) for event in seen), decision=None)
        number = before.assignment.trial_number
        if is_killed:
            executor.kill(number, 1)
        executor.settle()
        events = run(executor, toy_request(folder, number=number, reports=3), folder / "log")
        assert isinstance(events[0], Started)
        assert [event.report.step for event in events if isinstance(event, Reported)] == [1, 2, 3]
        assert the_end(events).end is AttemptEnd.FINISHED
        assert executor.free_slots == executor.slots

    def test_unknown_attempts_are_ignored(self, executor: Executor) -> None:
        executor.decide(10**6, 1, Decision.STOP)
        executor.leave(10**6, 1)
        executor.kill(10**6, 1)
        assert list(executor.wait(0)) == []

    def test_waiting_is_bounded(self, executor: Executor) -> None:
        began = time.monotonic()
        assert list(executor.wait(0.1)) == []
        assert 0.09 < time.monotonic() - began < 2

    def test_the_log_holds_the_output_of_all_attempts(self, executor: Executor, folder: Path) -> None:
        log = folder / "logs" / "trial.log"
        for attempt in (1, 2):
            run(executor, toy_request(folder, number=5000, attempt=attempt), log)
        text = log.read_text()
        assert text.count("trial 5000 begins") == 2
        assert "devices" in text  # written to stderr

    def test_trials_never_share_a_process(self, executor: Executor, folder: Path) -> None:
        events = [event for _ in range(3) for event in run(executor, toy_request(folder), folder / "log")]
        reports = [event.report for event in events if isinstance(event, Reported)]
        assert {report.metrics["canary"] for report in reports} == {1.0}
        assert len({report.metrics["pid"] for report in reports}) == 3

    def test_a_trial_computes_on_one_thread(self, executor: Executor, folder: Path) -> None:
        events = run(executor, toy_request(folder, reports=1), folder / "log")
        (report,) = [event.report for event in events if isinstance(event, Reported)]
        assert report.metrics["threads"] == 1.0
