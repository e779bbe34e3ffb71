"""Pain 27 as a user meets it: the whole product on a small disk, MLflow's database too, by the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
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
limits: {free_disk_gb: 0, disk_gb: 0.012}
"""
SWEEP = [sys.executable, "-m", "sweep.cli.main"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", megabytes=48) as disk:
        yield disk


def told_while(happens: Callable[[], object], *arguments: str, log: Path) -> str:
    """What a driver says that pauses for something that happens once its trials report; it leaves nothing behind."""
    with log.open("w") as output:
        driver = subprocess.Popen([*SWEEP, *arguments], stdout=output, stderr=output)
    try:
        wait_for("a report", lambda: driver.poll() is not None or ": step" in log.read_text())
        family = descendants(driver.pid)
        happens()
        assert driver.wait(90) == 1, log.read_text()
    finally:
        driver.kill()
    wait_for("the end of all its processes", lambda: not any(process.is_running() for process in family), 60)
    text = log.read_text()
    assert "Traceback" not in text
    assert "Go on with `sweep resume quick`" in text
    return text


@pytest.mark.slow
def test_pain_27_run_pauses_for_the_quota_and_on_a_full_disk_and_ends_with_every_value_once(
    disk: SmallDisk, tmp_path: Path
) -> None:
    spec = tmp_path / "study.yaml"
    spec.write_text(SPEC.replace("storage: .", f"storage: {disk.root}") + OWN)
    layout = StudyLayout(disk.root, "quick")
    resume = ("resume", "quick", "--storage", str(disk.root))
    slowly = ("--trials", "6", "--set", "objective.training.sleep_seconds=0.04")
    large = layout.exports / "somebody-else" / "large"

    def take_room() -> None:
        large.parent.mkdir(parents=True)
        large.write_bytes(bytes(10_000_000))

    text = told_while(take_room, "run", str(spec), *slowly, log=tmp_path / "run.log")
    assert text.count("limits.disk_gb") == 1
    assert "10.0 MB on disk and 4.0 MB for checkpoints to come are more than the 12.0 MB" in text
    refused = subprocess.run([*SWEEP, *resume], capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2
    assert "limits.disk_gb" in refused.stderr
    large.unlink()
    text = told_while(disk.fill, *resume, log=tmp_path / "resume.log")
    assert text.count("No space left on device") == 1
    assert current_holder(layout.lock) is None

    disk.empty()
    ended = subprocess.run([*SWEEP, *resume, "--json"], capture_output=True, text=True, timeout=150)
    assert ended.returncode == 0, ended.stderr
    state = json.loads(ended.stdout)
    assert (state["state"], state["budget"]["finished"], sum(state["trials"].values())) == ("COMPLETE", 6, 6)
    assert disk_use(layout)["checkpoints"] == committed_bytes(layout) == state["disk"]["checkpoints"]
    assert list(layout.folder.rglob(".*")) == []
    assert undelivered(layout) == 0
    reports = [entry.record for entry in read_entries(layout.spool) if isinstance(entry.record, Report)]
    store = Store(disk.root / "mlflow.db")
    assert [row for row in store.doubles() if row[0] != store.parent()] == []
    for number in range(6):
        spooled = [(r.step, r.metrics["accuracy"]) for r in reports if r.trial_number == number]
        assert [(step, value) for step, value, _ in store.metric(store.run(number), "accuracy")] == spooled
