"""A trial process of each task is killed while it trains; its next attempt ends in the same bits as an unbroken one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from objectives.loading import load_objective, task_names
from sweep.checkpoints import FolderKeeper, read_manifest
from sweep.domain import AttemptEnd, Decision, Report, TrainRequest
from sweep.execution.local import LocalExecutor
from sweep.execution.warm_client import WarmParent
from sweep.objective_jobs import warm_parent
from sweep.ports import Ended, Reported, Started
from sweep.testing.executor import gather
from sweep.testing.objective import ObjectiveUnderTest
from tests.language_tasks import LESSONS
from tests.task_studies import ROWS, small_study

QUANTISED = {"method": "lora", "lora_targets": "all", "quantization": "nf4"}
LESSON_OF = {kind.task: kind for kind in LESSONS.values()}


@pytest.fixture(scope="module")
def parent() -> Iterator[WarmParent]:
    with warm_parent() as warm:
        yield warm


def _under_test(task: str, folder: Path, training: Mapping[str, Any]) -> ObjectiveUnderTest:
    if task in ROWS:
        spec = small_study(folder, task, evaluate_every=0.5, **training)
    else:
        spec = LESSON_OF[task].written(folder, steps=6, evaluate_every=1).spec
    return ObjectiveUnderTest(create=lambda: load_objective(task), spec=spec)


def _attempt(
    parent: WarmParent, task: str, request: TrainRequest, log: Path, kill_after: int | None = None
) -> tuple[list[Report], AttemptEnd]:
    """Reports of an attempt in a process of its own, and how it ended.

    Args:
        kill_after: So many reports, after which it is killed on its way to the next; None lets it live.
    """
    executor = LocalExecutor(1, parent, task)
    reports: list[Report] = []
    pid = 0
    try:
        executor.start(request, log)
        while True:
            for event in gather(executor, bool, decision=None):
                match event:
                    case Started():
                        pid = event.pid
                    case Reported():
                        reports.append(event.report)
                        executor.decide(event.report.trial_number, event.report.attempt, Decision.CONTINUE)
                        if len(reports) == kill_after:
                            os.kill(pid, signal.SIGKILL)
                    case Ended():
                        return reports, event.end
    finally:
        executor.close()


def _hashes(report: Report) -> dict[str, str]:
    files = read_manifest(Path(str(report.checkpoint))).files
    return {name: entry.sha256 for name, entry in files.items() if name.endswith("safetensors")}


@pytest.mark.parametrize(
    ("task", "training"),
    [
        *(pytest.param(task, {}, id=task) for task in task_names()),
        pytest.param("text-classification", QUANTISED, id="quantised-base"),
    ],
)
def test_a_training_that_was_killed_ends_in_the_same_bits(
    task: str, training: Mapping[str, Any], parent: WarmParent, tmp_path: Path
) -> None:
    tested = _under_test(task, tmp_path, training)
    log = tmp_path / "log"
    whole, _ = _attempt(parent, task, tested.request("-whole"), log)
    request = tested.request("-killed")
    before, first_end = _attempt(parent, task, request, log, kill_after=2)
    newest = FolderKeeper(lambda _: Path(request.checkpoints)).newest(request.assignment.trial_number)
    after, last_end = _attempt(parent, task, tested.request("-killed", attempt=2, start_from=newest), log)
    assert (first_end, last_end) == (AttemptEnd.LOST, AttemptEnd.FINISHED)
    assert len(before) == 2 < len(whole)
    assert after[0].step > whole[0].step, "it went on from a checkpoint"
    steps = {report.step for report in after}
    joined = [*(report for report in before if report.step not in steps), *after]
    assert [tested.steady(report) for report in joined] == [tested.steady(report) for report in whole]
    assert _hashes(joined[-1]) == _hashes(whole[-1])
    assert any("model" in name for name in _hashes(whole[-1]))
