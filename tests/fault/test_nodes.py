"""Nodes of a Ray cluster die, freeze, are told to go, and join; the study's trials go on."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sweep.engine.control import StopCause, StopRequest
from sweep.execution import ray_workers
from sweep.execution.ray_cluster import TrialShare
from sweep.execution.ray_workers import RayExecutor
from tests.fault import faulty_node
from tests.fault.clusters import QUICK_MODULES, Nodes, QuickStudy, eventually, send, workers
from tests.fault.faulty_node import FAULTY_NODE
from tests.fault.held_objective import EVALUATED_AT, HELD, holding_file

ELSEWHERE_SECONDS = 30.0


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    nodes = Nodes()
    nodes.add()
    yield nodes
    nodes.close()


@pytest.fixture
def victim(nodes: Nodes) -> Iterator[Any]:
    """A second node, to be ended."""
    node = nodes.add()
    yield node
    nodes.dismiss(node)


def run_disturbed(nodes: Nodes, victim: Any, study: QuickStudy, disturb: Callable[[], None]) -> int:
    """Run a study on two nodes; ``disturb`` comes when a trial on the victim is past a checkpoint; all wait for it.

    Returns:
        That trial.
    """
    struck: list[int] = []

    def ready() -> bool:
        trial = study.trial_of(nodes.trials(victim))
        if trial is None or study.steps_done(trial) <= EVALUATED_AT:
            return False
        struck.append(trial)
        return True

    def release_and_disturb() -> None:
        held.unlink()
        disturb()

    held = holding_file(study.spec.layout.prepared)
    held.touch()
    study.observer.ready, study.observer.disturb = ready, release_and_disturb
    with workers(nodes.joined, objective=HELD) as executor:
        assert study.run(executor).state == "COMPLETE"
    return struck[-1]


def assert_went_on_elsewhere(study: QuickStudy, trial: int) -> None:
    study.assert_each_trial_finished_once_as_if_nothing_had_happened()
    again = study.begun_again()
    assert [record.trial_number for record in again] == [trial]
    assert 0 < again[0].at - study.observer.disturbed_at < ELSEWHERE_SECONDS
    assert "/step-" in study.log(trial), "it went on from a checkpoint"


def free(executor: RayExecutor) -> int:
    """Free slots now."""
    assert list(executor.wait(0)) == []
    return executor.free_slots


def test_a_node_that_joins_is_used_and_one_that_goes_takes_its_slots_along(nodes: Nodes, tmp_path: Path) -> None:
    with workers(nodes.joined) as executor:
        eventually("the first worker", lambda: free(executor) == 1)
        assert executor.slots == 1
        joined = nodes.add(cpus=2)
        eventually("the workers of the node that joined", lambda: free(executor) == 3)
        assert executor.slots == 3
        nodes.dismiss(joined)
        eventually("the slots to go", lambda: free(executor) == executor.slots == 1)


def test_a_fixed_number_of_workers_is_kept_asking_for(nodes: Nodes, victim: Any, tmp_path: Path) -> None:
    with workers(nodes.joined, count=4) as executor:
        eventually("the workers that fit", lambda: free(executor) == executor.slots == 2)
        joined = nodes.add(cpus=3)
        eventually("the workers asked for", lambda: free(executor) == executor.slots == 4)
        nodes.dismiss(joined)
        eventually("the slots to go", lambda: free(executor) == executor.slots == 2)


def test_a_removed_node_loses_no_trial(nodes: Nodes, victim: Any, tmp_path: Path) -> None:
    study = QuickStudy(tmp_path)
    trial = run_disturbed(nodes, victim, study, lambda: nodes.cut(victim))
    assert_went_on_elsewhere(study, trial)


@pytest.mark.slow
def test_all_processes_of_a_node_killed_lose_no_trial(nodes: Nodes, victim: Any, tmp_path: Path) -> None:
    study = QuickStudy(tmp_path)
    trial = run_disturbed(nodes, victim, study, lambda: send(signal.SIGKILL, nodes.processes(victim)))
    assert_went_on_elsewhere(study, trial)


def test_a_worker_whose_nodes_daemon_was_killed_has_its_trial_leave(nodes: Nodes, victim: Any, tmp_path: Path) -> None:
    study = QuickStudy(tmp_path)
    trial = run_disturbed(nodes, victim, study, lambda: send(signal.SIGKILL, [nodes.daemon(victim)]))
    assert_went_on_elsewhere(study, trial)


def told_to_go(nodes: Nodes, victim: Any, study: QuickStudy, tell: Callable[[], None]) -> None:
    """Run a study; when the victim's node is told to go, no step, and no failure, is counted."""
    trained: dict[int, int] = {}

    def note_and_tell() -> None:
        trained.update({running.number: running.step or 0 for running in study.observer.running})
        tell()

    trial = run_disturbed(nodes, victim, study, note_and_tell)
    assert_went_on_elsewhere(study, trial)
    assert study.observer.setbacks == []
    assert study.resumed_at(trial) >= trained[trial] > EVALUATED_AT, "it left with all that it had"


def test_pain_07_a_node_told_to_go_costs_no_failure_and_at_most_a_step(
    nodes: Nodes, victim: Any, tmp_path: Path
) -> None:
    told_to_go(nodes, victim, QuickStudy(tmp_path), lambda: send(signal.SIGTERM, nodes.processes(victim)))


def test_pain_07_a_worker_told_to_go_has_its_trial_leave(nodes: Nodes, victim: Any, tmp_path: Path) -> None:
    told_to_go(nodes, victim, QuickStudy(tmp_path), lambda: send(signal.SIGTERM, nodes.workers(victim)))


def test_pain_07_trials_leave_a_node_that_ray_drains(nodes: Nodes, victim: Any, tmp_path: Path) -> None:
    # The driver asks Ray once a second: the trial must take longer than that.
    study = QuickStudy(tmp_path, "objective.training.steps=100")
    told_to_go(nodes, victim, study, lambda: nodes.drain(victim))


def test_pain_02_a_node_cut_off_for_too_long_loses_its_attempt_once(
    nodes: Nodes, victim: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_workers, "_SILENCE_SECONDS", 4.0)
    study = QuickStudy(tmp_path, "budget.trials=5")
    frozen = []

    def freeze() -> None:
        frozen.extend(nodes.processes(victim))
        send(signal.SIGSTOP, frozen)

    def thaw_once_given_up() -> None:
        if study.observer.setbacks and frozen:
            send(signal.SIGCONT, frozen)
            frozen.clear()

    study.observer.afterwards = thaw_once_given_up
    trial = run_disturbed(nodes, victim, study, freeze)
    assert not frozen
    study.assert_each_trial_finished_once_as_if_nothing_had_happened()
    assert trial in {record.trial_number for record in study.begun_again()}
    assert {setback.end.value for setback in study.observer.setbacks} == {"LOST"}
    eventually("the old attempt to end", lambda: not nodes.trials(victim), seconds=30)


TWO_CPUS = TrialShare(cpus=2.0)
"""More than the first node has."""


def test_a_cluster_without_room_is_asked_for_a_node_and_the_study_begins_once_it_comes(
    nodes: Nodes, tmp_path: Path
) -> None:
    study = QuickStudy(tmp_path)
    joined: list[Any] = []
    study.observer.ready = nodes.wanted_cpus
    study.observer.disturb = lambda: joined.append(nodes.add(cpus=2))
    try:
        with workers(nodes.joined, share=TWO_CPUS, patience_seconds=60.0) as executor:
            assert study.run(executor).state == "COMPLETE"
    finally:
        for node in joined:
            nodes.dismiss(node)
    study.assert_each_trial_finished_once_as_if_nothing_had_happened()
    assert study.observer.setbacks == []


def test_a_stop_is_heard_while_there_is_no_worker_and_asking_for_slots_waits_for_nothing(
    nodes: Nodes, tmp_path: Path
) -> None:
    study = QuickStudy(tmp_path)
    study.observer.ready = lambda: True

    def stop() -> None:
        study.stop = StopRequest.DRAIN

    study.observer.disturb = stop
    with workers(nodes.joined, share=TWO_CPUS) as executor:
        began = time.monotonic()
        assert executor.free_slots == executor.slots == 0
        result = study.run(executor)
        assert time.monotonic() - began < 30
    assert (result.state, result.cause) == ("PAUSED", StopCause.REQUEST)


def test_a_study_whose_last_node_goes_pauses_after_its_patience_and_goes_on_with_the_next(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_workers, "_TELL_SECONDS", 1.0)
    study = QuickStudy(tmp_path)
    only = nodes.add(cpus=2)
    study.observer.ready = lambda: study.trial_of(nodes.trials(only)) is not None
    study.observer.disturb = lambda: nodes.cut(only)
    told: list[str] = []
    with workers(nodes.joined, share=TWO_CPUS, patience_seconds=30.0, note=told.append) as executor:
        result = study.run(executor)
    assert study.observer.disturbed_at, result
    assert (result.state, result.cause) == ("PAUSED", StopCause.WORKERS)
    assert "no worker was up for 0.5 min (limits.no_worker_minutes): each needs 2 CPUs" in (result.reason or "")
    assert len(told) >= 1
    assert "the study waits up to 0.5 min" in told[-1]
    assert {trial.state.value for trial in study.trials} <= {"PAUSED", "COMPLETE"}
    another = nodes.add(cpus=2)
    try:
        with workers(nodes.joined, share=TWO_CPUS) as executor:
            assert study.run(executor).state == "COMPLETE"
    finally:
        nodes.dismiss(another)
    study.assert_each_trial_finished_once_as_if_nothing_had_happened()


def test_a_node_that_can_start_no_trial_process_costs_no_trial_a_retry_and_others_are_used(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv(FAULTY_NODE, "1")
        faulty = nodes.add(cpus=4)
    study = QuickStudy(tmp_path, "budget.trials=4", "on.lost.retries=0")
    try:
        with workers(nodes.joined, modules=(*QUICK_MODULES, faulty_node.__name__)) as executor:
            eventually("a worker of each node", lambda: free(executor) == 5)
            assert study.run(executor).state == "COMPLETE"
    finally:
        nodes.dismiss(faulty)
    study.assert_each_trial_finished_once_as_if_nothing_had_happened()
    assert study.begun_again(), "no trial met the faulty node"
    assert study.observer.setbacks == []
