"""Pruning, deaths and frozen processes in a trial that trains on two devices: all its processes end, and it goes on."""

from __future__ import annotations

import dataclasses
import functools
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import psutil
import pytest

from sweep.checkpoints import FolderKeeper, read_manifest
from sweep.domain import AttemptEnd, Decision, Report, TrainRequest
from sweep.execution.local import LocalExecutor
from sweep.execution.warm_client import WarmParent
from sweep.ports import AttemptLimits, Ended, Event, Reported, Started
from sweep.testing.executor import gather, gone_within, run, the_end, toy_request, wait_for
from sweep.testing.toy_objectives import LOADER
from tests.fault.test_pain_07_preemption import assert_same
from tests.tiny_trial import TASK, prepared, settings, tiny_request
from tests.warmed_parent import warmed_parent

__all__ = ["prepared", "settings"]

Strategy = Literal["ddp", "fsdp"]
SLOW = {"slow_rank": -1, "step_seconds": 0.3, "slow_evaluation": False}
PATIENCE_SECONDS = 3.0
BOUND_SECONDS = 20.0
"""What an end may take on a busy machine: far less than any wait for a process that never comes."""


@pytest.fixture(scope="module")
def training() -> Iterator[WarmParent]:
    with warmed_parent() as parent:
        yield parent


@pytest.fixture
def executor(training: WarmParent) -> Iterator[LocalExecutor]:
    executor = LocalExecutor(
        1, training, TASK, loader="tests.fault.slow_steps:load", limits=AttemptLimits(silence_seconds=60.0)
    )
    yield executor
    executor.close()


@pytest.fixture
def request_(settings: dict[str, Any], prepared: str, tmp_path: Path) -> TrainRequest:
    return request_in(tmp_path, settings, prepared)


def request_in(folder: Path, settings: dict[str, Any], prepared: str) -> TrainRequest:
    """A run of 16 steps by two processes, evaluated at steps 4, 8, 12 and 16."""
    request = tiny_request(folder, settings, prepared, evaluation_batch_size=4, **SLOW)
    return dataclasses.replace(request, devices=2, patience_seconds=PATIENCE_SECONDS)


@pytest.fixture(scope="module")
def whole_by(
    training: WarmParent, settings: dict[str, Any], prepared: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Strategy], list[Report]]:
    """The reports of a run that nobody disturbs, by strategy."""

    @functools.cache
    def reports(strategy: Strategy) -> list[Report]:
        folder = tmp_path_factory.mktemp("whole")
        request = dataclasses.replace(request_in(folder, settings, prepared), strategy=strategy)
        executor = LocalExecutor(1, training, TASK, loader="tests.fault.slow_steps:load")
        events = run(executor, request, folder / "log")
        executor.close()
        assert the_end(events).end is AttemptEnd.FINISHED, (folder / "log").read_text()
        return reports_in(events)

    return reports


@pytest.fixture
def whole(whole_by: Callable[[Strategy], list[Report]]) -> list[Report]:
    return whole_by("ddp")


def reports_in(events: Sequence[Event]) -> list[Report]:
    return [event.report for event in events if isinstance(event, Reported)]


def slow(request: TrainRequest, rank: int, *, evaluation: bool = False) -> TrainRequest:
    slowness = {"slow_rank": rank, "slow_evaluation": evaluation}
    return dataclasses.replace(request, settings={**request.settings, **slowness})


def next_attempt(request: TrainRequest) -> TrainRequest:
    """As the driver assigns it: from the newest intact checkpoint."""
    newest = FolderKeeper(lambda number: Path(request.checkpoints)).newest(3)
    assert newest is not None
    assignment = dataclasses.replace(request.assignment, attempt=2, start_from=newest)
    return dataclasses.replace(request, assignment=assignment)


def steps_taken(request: TrainRequest) -> int:
    try:
        return len((Path(request.artifacts) / "steps").read_text().split())
    except FileNotFoundError:
        return 0


def processes_of(events: Sequence[Event]) -> list[int]:
    """Process ids of a running attempt, by rank."""
    (started,) = [event for event in events if isinstance(event, Started)]
    children = wait_for(lambda: psutil.Process(started.pid).children())
    return [started.pid, *sorted(child.pid for child in children)]


def until_ended(executor: LocalExecutor) -> list[Event]:
    return gather(executor, lambda seen: any(isinstance(event, Ended) for event in seen))


def until_reported(step: int) -> Callable[[Sequence[Event]], bool]:
    return lambda seen: any(report.step == step for report in reports_in(seen))


@pytest.mark.parametrize(
    ("strategy", "step", "decision", "end"),
    [
        ("ddp", 4, Decision.STOP, "STOPPED"),
        ("ddp", 12, Decision.PAUSE, "PAUSED"),
        ("fsdp", 8, Decision.STOP, "STOPPED"),
    ],
)
def test_pain_18_pruned_at_any_evaluation_all_processes_exit_cleanly(
    executor: LocalExecutor,
    request_: TrainRequest,
    tmp_path: Path,
    strategy: Strategy,
    step: int,
    decision: Decision,
    end: str,
) -> None:
    request_ = dataclasses.replace(request_, strategy=strategy)
    executor.start(request_, tmp_path / "log")
    events: list[Event] = []
    while not until_reported(step)(events):
        events += executor.wait(0.5)
        for report in reports_in(events[-1:]):
            if report.step < step:
                executor.decide(3, 1, Decision.CONTINUE)
    pids = processes_of(events)
    assert len(pids) == 2
    decided_at = time.monotonic()
    executor.decide(3, 1, decision)
    assert the_end(until_ended(executor)).end == end
    assert time.monotonic() - decided_at < BOUND_SECONDS
    assert gone_within(5, *pids)
    assert "did not end by itself" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("victim", "waiting", "words"),
    [
        (1, 0, "rank 1 of 2 (process {pid}) was killed by signal 9"),
        (1, 1, "rank 1 of 2 (process {pid}) was killed by signal 9"),
        (0, 1, "trial process killed by signal 9"),
    ],
    ids=["rank 1 in a sum", "rank 1 while rank 0 is in a sum", "rank 0"],
)
def test_pain_18_a_process_killed_in_a_step_loses_the_attempt_at_once_and_the_trial_goes_on(
    executor: LocalExecutor,
    request_: TrainRequest,
    whole: list[Report],
    tmp_path: Path,
    victim: int,
    waiting: int,
    words: str,
) -> None:
    request = slow(request_, waiting)
    executor.start(request, tmp_path / "log")
    events = gather(executor, lambda seen: steps_taken(request) >= 7)
    pids = processes_of(events)
    os.kill(pids[victim], signal.SIGKILL)
    struck_at = time.monotonic()
    events += until_ended(executor)
    assert time.monotonic() - struck_at < BOUND_SECONDS
    assert (the_end(events).end, the_end(events).detail) == (AttemptEnd.LOST, words.format(pid=pids[victim]))
    assert gone_within(5, *pids)
    start = next_attempt(request_)
    assert read_manifest(Path(str(start.assignment.start_from))).meta["step"] == 4
    after = run(executor, start, tmp_path / "log")
    assert the_end(after).end is AttemptEnd.FINISHED
    assert_same(reports_in(after), whole)


def test_pain_18_a_process_killed_while_a_decision_is_waited_for_loses_the_attempt(
    executor: LocalExecutor, request_: TrainRequest, tmp_path: Path
) -> None:
    executor.start(request_, tmp_path / "log")
    events = gather(executor, until_reported(4), decision=None)
    pids = processes_of(events)
    os.kill(pids[1], signal.SIGKILL)
    end = the_end(until_ended(executor))
    assert (end.end, end.detail) == (AttemptEnd.LOST, f"rank 1 of 2 (process {pids[1]}) was killed by signal 9")
    assert gone_within(5, *pids)


@pytest.mark.parametrize("moment", ["in a step", "at an evaluation"])
def test_pain_18_a_frozen_process_loses_the_attempt_within_half_the_silence(
    executor: LocalExecutor, request_: TrainRequest, tmp_path: Path, moment: str
) -> None:
    request = slow(request_, 1)
    executor.start(request, tmp_path / "log")
    if moment == "in a step":
        events = gather(executor, lambda seen: steps_taken(request) >= 7)
    else:
        events = gather(executor, until_reported(4), decision=None)
    pids = processes_of(events)
    os.kill(pids[1], signal.SIGSTOP)
    if moment == "at an evaluation":
        executor.decide(3, 1, Decision.CONTINUE)
    struck_at = time.monotonic()
    end = the_end(until_ended(executor))
    assert time.monotonic() - struck_at < PATIENCE_SECONDS + BOUND_SECONDS
    assert end.end is AttemptEnd.LOST
    assert "rank 0 of 2 waited for another in vain, at most 3 s (half of limits.silence_minutes" in str(end.detail)
    assert gone_within(5, *pids)


@pytest.mark.parametrize(
    ("strategy", "moment"),
    [
        ("ddp", "in a step"),
        pytest.param("ddp", "in an evaluation", marks=pytest.mark.slow),
        pytest.param("fsdp", "in a step", marks=pytest.mark.slow),
        pytest.param("fsdp", "in an evaluation", marks=pytest.mark.slow),
    ],
)
def test_pain_18_sigterm_has_all_processes_leave_and_the_trial_goes_on_as_if_it_had_not(
    executor: LocalExecutor,
    request_: TrainRequest,
    whole_by: Callable[[Strategy], list[Report]],
    tmp_path: Path,
    strategy: Strategy,
    moment: str,
) -> None:
    request_ = dataclasses.replace(request_, strategy=strategy)
    request = slow(request_, 0, evaluation=moment == "in an evaluation")
    executor.start(request, tmp_path / "log")
    if moment == "in a step":
        events = gather(executor, lambda seen: steps_taken(request) >= 7)
    else:
        events = gather(executor, lambda seen: (tmp_path / "artifacts" / "evaluations").exists())
    pids = processes_of(events)
    os.kill(pids[1], signal.SIGTERM)  # who ends a machine tells everybody
    executor.leave(3, 1)
    events += until_ended(executor)
    assert the_end(events).end is AttemptEnd.PREEMPTED, (tmp_path / "log").read_text()
    assert gone_within(5, *pids)
    assert "did not end by itself" not in (tmp_path / "log").read_text()
    start = next_attempt(request_)
    step = read_manifest(Path(str(start.assignment.start_from))).meta["step"]
    assert step >= 6 if moment == "in a step" else step == 4
    after = run(executor, start, tmp_path / "log")
    again = {report.step for report in reports_in(after)}
    before = [report for report in reports_in(events) if report.step not in again]
    assert_same([*before, *reports_in(after)], whole_by(strategy))


@pytest.mark.parametrize(
    ("how", "end", "words"),
    [
        ("memory", AttemptEnd.OOM, "MemoryError"),
        ("fail", AttemptEnd.FAILED, "ValueError: a bug in the objective"),
        ("diverge", AttemptEnd.DIVERGED, "loss became NaN at step 3"),
        ("exit", AttemptEnd.LOST, "exited with code 9"),
    ],
)
def test_pain_18_what_goes_wrong_in_another_process_ends_the_attempt_as_what_it_is(
    parent: WarmParent, tmp_path: Path, how: str, end: AttemptEnd, words: str
) -> None:
    executor = LocalExecutor(1, parent, "toy", loader=LOADER)
    try:
        # The first process is stuck, as in a collective operation that knows nothing of the other's end.
        request = toy_request(tmp_path, reports=0, then="hang", follower=how)
        ended = the_end(run(executor, dataclasses.replace(request, devices=2), tmp_path / "log"))
        assert ended.end is end
        assert words in str(ended.detail)
    finally:
        executor.close()


def test_pain_18_a_process_that_does_not_end_is_ended(parent: WarmParent, tmp_path: Path) -> None:
    executor = LocalExecutor(1, parent, "toy", loader=LOADER)
    try:
        request = toy_request(tmp_path, reports=1, follower="hang")
        executor.start(dataclasses.replace(request, devices=3), tmp_path / "log")
        events = gather(executor, lambda seen: bool(reports_in(seen)), decision=None)
        pids = processes_of(events)
        assert len(pids) == 3
        executor.decide(request.assignment.trial_number, 1, Decision.STOP)
        assert the_end(until_ended(executor)).end is AttemptEnd.STOPPED
        assert gone_within(5, *pids)
        assert "rank 1 did not end by itself" in (tmp_path / "log").read_text()
    finally:
        executor.close()


def test_pain_18_who_leaves_before_it_has_begun_waits_for_no_other_process(parent: WarmParent, tmp_path: Path) -> None:
    executor = LocalExecutor(1, parent, "toy", loader="tests.fault.hurried_leave:load")
    try:
        request = dataclasses.replace(toy_request(tmp_path, follower="hang"), devices=2)
        assert the_end(run(executor, request, tmp_path / "log")).end is AttemptEnd.PREEMPTED
        assert "did not end by itself" not in (tmp_path / "log").read_text()
    finally:
        executor.close()
