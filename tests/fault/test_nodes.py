"""Nodes of a Ray cluster die, freeze, are told to go, and join; the study's trials go on."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sweep.execution import ray_workers
from tests.fault.clusters import Nodes, QuickStudy, eventually, send, workers

ELSEWHERE_SECONDS = 30.0
EVALUATED_AT = 20


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
    """Run a study on two nodes; ``disturb`` comes when a trial on the victim is past a checkpoint.

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

    study.observer.ready, study.observer.disturb = ready, disturb
    with workers(nodes.joined) as executor:
        assert study.run(executor).state == "COMPLETE"
    return struck[-1]


def assert_went_on_elsewhere(study: QuickStudy, trial: int) -> None:
    study.assert_each_trial_finished_once_as_if_nothing_had_happened()
    again = study.begun_again()
    assert [record.trial_number for record in again] == [trial]
    assert 0 < again[0].at - study.observer.disturbed_at < ELSEWHERE_SECONDS
    assert "/step-" in study.log(trial), "it went on from a checkpoint"


def test_a_node_that_joins_is_used_and_one_that_goes_takes_its_slots_along(nodes: Nodes, tmp_path: Path) -> None:
    with workers(nodes.joined) as executor:
        eventually("the first worker", lambda: executor.free_slots == 1)
        assert executor.slots == 1
        joined = nodes.add(cpus=2)
        eventually("the workers of the node that joined", lambda: executor.free_slots == 3)
        assert executor.slots == 3
        nodes.dismiss(joined)
        eventually("the slots to go", lambda: executor.free_slots == executor.slots == 1)


def test_a_fixed_number_of_workers_is_kept_asking_for(nodes: Nodes, victim: Any, tmp_path: Path) -> None:
    with workers(nodes.joined, count=4) as executor:
        eventually("the workers that fit", lambda: executor.free_slots == executor.slots == 2)
        joined = nodes.add(cpus=3)
        eventually("the workers asked for", lambda: executor.free_slots == executor.slots == 4)
        nodes.dismiss(joined)
        eventually("the slots to go", lambda: executor.free_slots == executor.slots == 2)


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
