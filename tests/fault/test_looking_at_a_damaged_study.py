"""Looking at a study needs nothing but to read it: on a read-only disk, and where delivery's notes are damaged."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.execution.warm_client import WarmParent
from tests.integration.journey.conftest import wait_for
from tests.quick_study import QuickStudy, parent
from tests.recording import own_cache
from tests.small_disk import SmallDisk, small_disk

__all__ = ["own_cache", "parent"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", megabytes=16) as disk:
        yield disk


@pytest.fixture
def study(disk: SmallDisk, parent: WarmParent) -> QuickStudy:
    """Its driver is gone, and nobody has told MLflow."""
    study = QuickStudy(disk.root, parent)
    assert study.session().state == "COMPLETE"
    return study


def sweep(*arguments: str, disk: SmallDisk) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sweep.cli.main", *arguments, "--storage", str(disk.root)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("is_damaged", [False, True], ids=["whole", "damaged"])
def test_status_best_and_list_show_a_study_on_a_read_only_disk(
    disk: SmallDisk, study: QuickStudy, is_damaged: bool
) -> None:
    if is_damaged:
        (study.spec.layout.spool / "acked.json").write_text("{")
    with disk.read_only():
        status = sweep("status", "quick", "--json", disk=disk)
        best = sweep("best", "quick", "--json", disk=disk)
        listed = sweep("list", "--json", disk=disk)
    for shown in (status, best, listed):
        assert shown.returncode == 0, shown.stderr
        assert ("acked.json: cannot be read" in shown.stderr) == is_damaged
    state = json.loads(status.stdout)
    assert (state["state"], sum(state["trials"].values()), state["undelivered"] > 0) == ("COMPLETE", 4, True)
    assert "could not be told otherwise" in status.stderr
    assert [row["trial_number"] for row in json.loads(best.stdout)] == [state["best"]["trial_number"]]
    assert json.loads(listed.stdout) == [state]


def test_status_on_a_disk_that_can_be_written_has_damaged_notes_of_delivery_mended(
    disk: SmallDisk, study: QuickStudy
) -> None:
    notes = study.spec.layout.spool / "acked.json"
    notes.write_text("{")
    shown = sweep("status", "quick", disk=disk)
    assert shown.returncode == 0
    assert "study      quick (COMPLETE)" in shown.stdout
    wait_for("delivery's own notes", lambda: notes.read_text() != "{", 60)
