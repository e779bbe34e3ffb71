"""SIGTERM before, in and between everything a trial does: at most one step is lost, and nothing counts as a failure."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from objectives.tasks.text_classification import TextClassification
from sweep.checkpoints import FolderKeeper, read_manifest
from sweep.domain import AttemptEnd, Report, TrainRequest, TrialState
from sweep.execution.local import LocalExecutor
from sweep.execution.warm_client import WarmParent
from sweep.ports import AttemptLimits, Ended, LeftEarly, Reported, Started
from sweep.testing.executor import gather, gone_within, run, the_end, toy_request
from sweep.testing.toy_objectives import LOADER
from tests.tiny_trial import STATE, TASK, prepared, settings, steady, tiny_request
from tests.unit.test_engine_loop import Study

__all__ = ["prepared", "settings"]

request_in = functools.partial(tiny_request, evaluation_batch_size=8)


@pytest.fixture(scope="module")
def parent() -> Iterator[WarmParent]:
    parent = WarmParent()
    parent.start()
    yield parent
    parent.close()


@pytest.fixture(scope="module")
def whole(settings: dict[str, Any], prepared: str, tmp_path_factory: pytest.TempPathFactory) -> list[Report]:
    """The reports of a run that nobody disturbs."""
    reports = list(TextClassification().train(request_in(tmp_path_factory.mktemp("whole"), settings, prepared)))
    assert [report.step for report in reports] == [4, 8, 12, 16]
    return reports


def newest(request: TrainRequest) -> str | None:
    return FolderKeeper(lambda number: Path(request.checkpoints)).newest(3)


def next_attempt(request: TrainRequest, attempt: int) -> TrainRequest:
    """As the driver assigns it: from the newest intact checkpoint."""
    assignment = dataclasses.replace(request.assignment, attempt=attempt, start_from=newest(request))
    return dataclasses.replace(request, assignment=assignment)


def assert_same(reports: list[Report], whole: list[Report]) -> None:
    """Every report, number for number, and the state of the last, bit for bit."""
    assert [(report.step, steady(report)) for report in reports] == [(report.step, steady(report)) for report in whole]
    for name in STATE:
        one, other = (load_file(Path(str(each[-1].checkpoint)) / name) for each in (reports, whole))
        assert one.keys() == other.keys()
        assert all(one[key].equal(other[key]) for key in one)
    seconds = [report.wall_seconds for report in reports]
    assert seconds == sorted(seconds)
    assert all(report.metrics["examples_per_second"] > 0 for report in reports)


def asked(times: int) -> Callable[[], bool]:
    """Says to leave when it is asked for the so-manieth time."""
    count = itertools.count(1)
    return lambda: next(count) >= times


# An interval asks 4 times between steps, then 4 times in its evaluation of 30 rows.
@pytest.mark.parametrize(
    ("times", "step", "reported"),
    [(1, 0, 0), (4, 3, 0), (5, 4, 0), (8, 4, 0), (9, 4, 4), (11, 6, 4), (15, 8, 4), (32, 16, 12)],
)
def test_pain_07_a_trial_that_leaves_anywhere_goes_on_as_if_it_had_not(
    settings: dict[str, Any], prepared: str, whole: list[Report], tmp_path: Path, times: int, step: int, reported: int
) -> None:
    request = request_in(tmp_path, settings, prepared)
    objective = TextClassification()
    objective.leaving = asked(times)
    before: list[Report] = []
    with pytest.raises(LeftEarly):
        before.extend(objective.train(request))  # what came before the exception is kept by extend
    start = next_attempt(request, 2)
    if step == 0:
        assert start.assignment.start_from is None
    else:
        assert start.assignment.start_from is not None
        meta = read_manifest(Path(start.assignment.start_from)).meta
        assert (meta["step"], [entry["step"] for entry in meta["history"]][-1:]) == (step, [reported][: reported // 4])
    after = list(TextClassification().train(start))
    if reported:
        again = next(report for report in before if report.step == reported)
        assert after[0] == dataclasses.replace(again, attempt=2), "the newest report comes again"
        after = [*[report for report in before if report.step < reported], *after]
    assert_same(after, whole)


def test_pain_07_leaving_at_every_single_step_changes_nothing(
    settings: dict[str, Any], prepared: str, whole: list[Report], tmp_path: Path
) -> None:
    request = request_in(tmp_path, settings, prepared)
    keeper = FolderKeeper(lambda number: Path(request.checkpoints))
    reports: dict[int, Report] = {}
    for attempt in itertools.count(1):
        objective = TextClassification()
        objective.leaving = asked(7)  # two batches of an evaluation, or six steps, at most
        try:
            for report in objective.train(next_attempt(request, attempt)):
                reports.setdefault(report.step, report)
                keeper.keep(3, {report.step}, {report.step})
        except LeftEarly:
            continue
        break
    assert attempt > 3
    assert_same(list(reports.values()), whole)


@pytest.mark.parametrize(("moment", "step"), [("warm-up", 0), ("loading", 0), ("training", 6), ("evaluation", 8)])
def test_pain_07_sigterm_loses_at_most_one_step_and_is_no_failure(
    parent: WarmParent,
    settings: dict[str, Any],
    prepared: str,
    whole: list[Report],
    tmp_path: Path,
    moment: str,
    step: int,
) -> None:
    request = request_in(tmp_path, settings, prepared, catch_at=moment)
    # The first of these tests finds the parent cold: the module's fixture does not wait for it.
    executor = LocalExecutor(1, parent, TASK, loader="tests.fault.watched:load")
    executor.start(request, tmp_path / "log")
    caught = (tmp_path / "artifacts" / "caught").exists
    events = [] if moment == "warm-up" else gather(executor, lambda seen: caught())
    executor.leave(3, 1)
    events += gather(executor, lambda seen: any(isinstance(event, Ended) for event in seen))
    assert the_end(events).end is AttemptEnd.PREEMPTED
    before = [event.report for event in events if isinstance(event, Reported)]
    start = next_attempt(request, 2)
    assert (start.assignment.start_from is None) if step == 0 else (f"{step:08d}" in str(start.assignment))
    events = run(executor, start, tmp_path / "log")
    executor.close()
    assert the_end(events).end is AttemptEnd.FINISHED
    after = [event.report for event in events if isinstance(event, Reported)]
    again = {report.step for report in after}
    assert_same([*[report for report in before if report.step not in again], *after], whole)
    taken = [int(line) for line in (tmp_path / "artifacts" / "steps").read_text().split()]
    assert len(taken) - len(set(taken)) <= 1, "steps trained twice"


def test_pain_07_a_trial_that_does_not_leave_in_its_grace_is_ended_and_is_no_failure_either(
    parent: WarmParent, tmp_path: Path
) -> None:
    executor = LocalExecutor(1, parent, "toy", loader=LOADER, limits=AttemptLimits(grace_seconds=1.0))
    request = toy_request(tmp_path, reports=1, then="hang")
    executor.start(request, tmp_path / "log")
    events = gather(executor, lambda seen: any(isinstance(event, Reported) for event in seen))
    (started,) = [event for event in events if isinstance(event, Started)]
    executor.leave(request.assignment.trial_number, 1)
    end = the_end(gather(executor, lambda seen: any(isinstance(event, Ended) for event in seen)))
    assert end.end is AttemptEnd.PREEMPTED
    assert "did not within 1 s (limits.grace_seconds)" in str(end.detail)
    assert gone_within(5, started.pid)


def test_pain_07_preemptions_eat_no_retries_and_are_no_setbacks(tmp_path: Path) -> None:
    study = Study(tmp_path, "budget.trials=3", "on.lost.retries=0", "on.failed.retries=0")
    result = study.run(fate=lambda number, attempt, step: AttemptEnd.PREEMPTED if attempt <= 12 else None)
    assert result.state == "COMPLETE"
    assert {trial.state for trial in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert all(trial.attempt == 13 and trial.setbacks == () for trial in study.trials)
    assert study.observer.lost == 0
