"""The spool recorder holds its port's promises, even while no tracker answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.layout import StudyLayout
from sweep.testing.recorder import CHECKS, RecorderUnderTest
from sweep.tracking import SpoolRecorder
from sweep.tracking.spool import read_entries


@pytest.mark.parametrize("check", CHECKS)
def test_spool_recorder_keeps_the_promises_of_its_port_without_a_tracker(
    check: Callable[[RecorderUnderTest], None], tmp_path: Path
) -> None:
    layout = StudyLayout(tmp_path, "demo")
    check(
        RecorderUnderTest(
            open=lambda: SpoolRecorder(layout, "http://127.0.0.1:9"),
            held=lambda: [entry.record for entry in read_entries(layout.spool) if entry.record is not None],
        )
    )
