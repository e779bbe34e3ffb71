"""Sixteen Ray workers on a space with as many configurations as the budget has trials; processes die at random."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from sweep.domain import TrialState
from sweep.search import read_trials
from tests.fault.sixteen_workers import OVERRIDES, TRIALS
from tests.quick_study import QuickStudy

DRIVERS_DIE_AFTER = [8, 22]
KILLS = 12
PATIENCE_SECONDS = 240


def victims(driver: psutil.Process) -> list[psutil.Process]:
    """The driver's trial processes and the actors that supervise them, once it has both."""
    trials, workers = list[psutil.Process](), list[psutil.Process]()
    for process in driver.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            if "warm_parent" in command:
                trials += process.children()
            elif "TrialWorker" in command:
                workers.append(process)
    return trials + workers if trials and workers else []


def drive(folder: Path, generator: random.Random, ended: list[str], until: int | None) -> int:
    """Run a driver, kill some of its processes, and in the end itself once so many trials have ended.

    Returns:
        How many of its processes were killed.
    """
    command = [sys.executable, "-m", "tests.fault.sixteen_workers", str(folder)]
    with (folder / "output").open("a") as errors:
        driver = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert driver.stdout is not None
    reader = threading.Thread(target=lambda: ended.extend(iter(driver.stdout.readline, "")), daemon=True)
    reader.start()
    killed, deadline = 0, time.monotonic() + PATIENCE_SECONDS
    while driver.poll() is None and (until is None or ended.count("tell\n") < until):
        assert time.monotonic() < deadline, (folder / "output").read_text()
        time.sleep(generator.uniform(0.1, 0.4))
        with contextlib.suppress(psutil.NoSuchProcess):
            if killed < KILLS and (living := victims(psutil.Process(driver.pid))):
                generator.choice(living).kill()
                killed += 1
    if until is not None:
        driver.kill()
    driver.wait(60)
    reader.join(60)
    driver.stdout.close()
    return killed


@pytest.mark.slow
def test_pain_17_29_sixteen_real_workers_and_two_drivers_killed_train_each_configuration_once(tmp_path: Path) -> None:
    generator, ended = random.Random(0), list[str]()
    kills = [drive(tmp_path, generator, ended, until) for until in [*DRIVERS_DIE_AFTER, None]]
    assert ended[-1] == "COMPLETE \n", (ended[-1], (tmp_path / "output").read_text())
    assert sum(kills) >= KILLS
    study = QuickStudy(tmp_path, None, overrides=OVERRIDES)
    study.trials = read_trials(study.spec)
    study.check_complete()
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    assert len({tuple(sorted(trial.hyperparameters.items())) for trial in study.trials}) == TRIALS
    assert sum(trial.attempt > 1 for trial in study.trials) >= 2
    assert study.metrics(), "no step is recorded twice"
