"""Killed trial processes and workers: nothing stays RUNNING, and every configuration is finished exactly once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from sweep.domain import AttemptEnd
from sweep.execution.ray_cluster import RayCluster, TrialShare, start_cluster
from sweep.execution.warm_client import WarmParent
from sweep.testing.executor import gone_within
from tests.fault.clusters import QUICK_MODULES, QuickStudy, send, workers

WORKERS = 2
KILLS = 10
FIRST_KILLS = 4  # before anything has run; five starts that fail in a row would tell of hosts where nothing can


@pytest.fixture(scope="module")
def parent() -> Iterator[WarmParent]:
    parent = WarmParent(QUICK_MODULES)
    parent.start()
    yield parent
    parent.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    cluster = start_cluster(TrialShare(), workers=WORKERS)
    yield cluster
    cluster.shutdown()


def trial_processes(parent: WarmParent) -> list[psutil.Process]:
    assert parent.pid is not None
    return psutil.Process(parent.pid).children()


def ray_workers() -> list[psutil.Process]:
    """Ray's worker processes: up, starting and spare ones; its agents take the whole node along."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "".join(process.cmdline()[:1]).startswith(("ray::TrialWorker", "ray::IDLE")):
                found.append(process)
    return found


def test_pain_01_a_killed_trial_process_ends_the_attempt_and_not_the_trial(
    cluster: RayCluster, parent: WarmParent, tmp_path: Path
) -> None:
    study = QuickStudy(tmp_path)
    struck: list[int] = []

    def ready() -> bool:
        trial = study.trial_of(trial_processes(parent))
        struck.extend([] if trial is None else [trial])
        return trial is not None

    study.observer.ready = ready
    study.observer.disturb = lambda: os.kill(study.pid_of(struck[0]), signal.SIGKILL)
    with workers(cluster, parent, count=WORKERS) as executor:
        assert study.run(executor).state == "COMPLETE"
    study.assert_each_trial_finished_once_as_if_nothing_had_happened()
    assert [record.trial_number for record in study.begun_again()] == struck
    assert [setback.end for setback in study.observer.setbacks] == [AttemptEnd.LOST]
    assert study.resumed_at(struck[0]) == 20, "it went on from its checkpoint"


def test_pain_01_a_killed_worker_ends_the_attempt_and_not_the_trial(
    cluster: RayCluster, parent: WarmParent, tmp_path: Path
) -> None:
    study = QuickStudy(tmp_path)
    with workers(cluster, parent, count=WORKERS) as executor:
        study.observer.ready = lambda: study.trial_of(trial_processes(parent)) is not None
        study.observer.disturb = lambda: send(signal.SIGKILL, [psutil.Process(pid) for pid in executor.worker_pids])
        assert study.run(executor).state == "COMPLETE"
    study.assert_each_trial_finished_once_as_if_nothing_had_happened()
    assert study.begun_again()
    assert {setback.end for setback in study.observer.setbacks} == {AttemptEnd.LOST}
    assert "/step-" in "".join(study.log(record.trial_number) for record in study.begun_again())


@pytest.mark.parametrize("seed", [0, 1])
def test_pain_01_workers_and_trials_killed_at_any_moment_lose_no_trial(
    cluster: RayCluster, parent: WarmParent, tmp_path: Path, seed: int
) -> None:
    study = QuickStudy(tmp_path, "budget.trials=5", "on.lost.retries=100")
    chance = random.Random(seed)
    killed: list[int] = []

    def kill_somebody() -> None:
        victims = [*ray_workers(), *trial_processes(parent)]
        allowed = KILLS if study.observer.reports else FIRST_KILLS
        if victims and len(killed) < allowed and chance.random() < 0.4:
            victim = chance.choice(victims)
            killed.append(victim.pid)
            send(signal.SIGKILL, [victim])

    with workers(cluster, parent, count=WORKERS) as executor:
        study.observer.ready = lambda: True
        study.observer.afterwards = kill_somebody
        result = study.run(executor)
    assert result.state == "COMPLETE", (result.reason, killed)
    assert killed
    study.assert_each_trial_finished_once_as_if_nothing_had_happened()
    assert gone_within(10, *killed)


def test_pain_02_a_worker_frozen_past_its_deadline_loses_its_attempt_once(
    cluster: RayCluster, parent: WarmParent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.execution.ray_workers._SILENCE_SECONDS", 3.0)
    study = QuickStudy(tmp_path, "budget.trials=4")
    frozen: list[psutil.Process] = []
    cut_off: list[int] = []

    def ready() -> bool:
        on_first_slot = [running for running in study.observer.running if str(running.worker).endswith("-0")]
        return bool(study.observer.reports and on_first_slot)

    def freeze() -> None:
        cut_off.extend(study.pid_of(r.number) for r in study.observer.running if str(r.worker).endswith("-0"))
        frozen.append(psutil.Process(executor.worker_pids[0]))
        send(signal.SIGSTOP, frozen)

    def thaw_once_given_up() -> None:
        if study.observer.setbacks and frozen:
            send(signal.SIGCONT, frozen)
            frozen.clear()

    with workers(cluster, parent, count=WORKERS) as executor:
        study.observer.ready, study.observer.disturb, study.observer.afterwards = ready, freeze, thaw_once_given_up
        assert study.run(executor).state == "COMPLETE"
        assert gone_within(10, *cut_off), "an attempt that was given up does not go on"
    assert [setback.end for setback in study.observer.setbacks] == [AttemptEnd.LOST]
    study.assert_each_trial_finished_once_as_if_nothing_had_happened()
