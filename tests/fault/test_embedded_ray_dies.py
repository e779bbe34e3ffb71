"""The Ray that a driver started for itself dies; the driver starts another, and its trials go on."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest

from sweep.execution.ray_workers import RayExecutor
from sweep.execution.warm_client import WarmParent
from tests.fault.clusters import QUICK, QUICK_MODULES, QuickStudy, send

WORKERS = 2


@pytest.mark.slow
def test_the_death_of_the_embedded_ray_loses_no_trial(tmp_path: Path) -> None:
    study = QuickStudy(tmp_path)
    parent = WarmParent(QUICK_MODULES)
    parent.start()
    assert parent.pid is not None
    warm = psutil.Process(parent.pid)
    study.observer.ready = lambda: study.trial_of(warm.children()) is not None
    study.observer.disturb = lambda: send(
        signal.SIGKILL, [child for child in psutil.Process().children() if child.name() == "raylet"]
    )
    executor = RayExecutor.open(QUICK, parent=parent, workers=WORKERS, modules=QUICK_MODULES)
    try:
        assert study.run(executor).state == "COMPLETE"
    finally:
        executor.close()
        parent.close()
    study.assert_each_trial_finished_once_as_if_nothing_had_happened()
    assert study.begun_again()
