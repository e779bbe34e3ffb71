"""Pain 27 as a user meets it: the whole product on a small disk, MLflow's database too, by the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.checkpoints.garbage import committed_bytes
from sweep.checkpoints.space import disk_use
from sweep.domain import Report
from sweep.engine.lock import current_holder
from sweep.layout import StudyLayout
from sweep.tracking import undelivered
from sweep.tracking.spool import read_entries
from tests.integration.journey.conftest import descendants, wait_for
from tests.quick_study import SPEC
from tests.recording import Store, own_cache
from tests.small_disk import SmallDisk, small_disk

__all__ = ["own_cache"]

OWN = """
resources: {workers: 2}
limits: {free_disk_gb: 0}
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", megabytes=48) as disk:
        yield disk


def test_pain_27_run_pauses_on_a_full_disk_with_one_message_and_resume_ends_with_every_value_once(
    disk: SmallDisk, tmp_path: Path
) -> None:
    spec = tmp_path / "study.yaml"
    spec.write_text(SPEC.replace("storage: .", f"storage: {disk.root}") + OWN)
    layout = StudyLayout(disk.root, "quick")
    sweep = [sys.executable, "-m", "sweep.cli.main"]
    told = tmp_path / "driver.err"
    slowly = ["--trials", "6", "--set", "objective.training.sleep_seconds=0.02"]
    with told.open("w") as output:
        driver = subprocess.Popen([*sweep, "run", str(spec), *slowly], stdout=output, stderr=output)
    try:
        wait_for("the second trial", lambda: driver.poll() is not None or "trial 1: step" in told.read_text())
        family = descendants(driver.pid)
        disk.fill()
        assert driver.wait(90) == 1, told.read_text()
    finally:
        driver.kill()
    text = told.read_text()
    assert "Traceback" not in text
    assert text.count("No space left on device") == 1, text
    assert "Go on with `sweep resume quick`" in text
    assert current_holder(layout.lock) is None
    wait_for("the end of all its processes", lambda: not any(process.is_running() for process in family), 60)

    disk.empty()
    ended = subprocess.run(
        [*sweep, "resume", "quick", "--storage", str(disk.root), "--json"], capture_output=True, text=True, timeout=150
    )
    assert ended.returncode == 0, ended.stderr
    state = json.loads(ended.stdout)
    assert (state["state"], state["budget"]["finished"], sum(state["trials"].values())) == ("COMPLETE", 6, 6)
    assert disk_use(layout)["checkpoints"] == committed_bytes(layout) == state["disk"]["checkpoints"]
    assert list(layout.folder.rglob(".*")) == []
    assert undelivered(layout) == 0
    reports = [entry.record for entry in read_entries(layout.spool) if isinstance(entry.record, Report)]
    store = Store(disk.root / "mlflow.db")
    assert store.doubles() == []
    for number in range(6):
        spooled = [(r.step, r.metrics["accuracy"]) for r in reports if r.trial_number == number]
        assert [(step, value) for step, value, _ in store.metric(store.run(number), "accuracy")] == spooled
