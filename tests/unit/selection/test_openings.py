"""No look at the test split is forgotten."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sweep.errors import SweepError
from sweep.layout import StudyLayout
from sweep.selection import test_split
from sweep.selection.test_split import TestOpening, openings, record_opening, said

FIRST = TestOpening(at=1.5, reason="verdict", models=("trial 3", "trial 0"))
SECOND = TestOpening(at=2.5, reason="compare", models=("trial 1",))


def test_openings_are_kept_in_order_and_counted(tmp_path: Path) -> None:
    layout = StudyLayout(tmp_path, "intents")
    assert openings(layout) == []
    assert record_opening(layout, FIRST) == 1
    assert record_opening(layout, SECOND) == 2
    assert openings(layout) == [FIRST, SECOND]


def test_a_line_that_a_crash_cut_off_swallows_no_other(tmp_path: Path) -> None:
    layout = StudyLayout(tmp_path, "intents")
    record_opening(layout, FIRST)
    whole = layout.test_openings.read_bytes()
    layout.test_openings.write_bytes(whole + whole[:20])
    record_opening(layout, SECOND)
    assert openings(layout) == [FIRST, SECOND]


def test_two_who_look_at_once_know_of_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = StudyLayout(tmp_path, "intents")

    def slowly(layout: StudyLayout) -> list[TestOpening]:
        found = openings(layout)
        time.sleep(0.005)  # in which another one may count the same
        return found

    monkeypatch.setattr(test_split, "openings", slowly)
    with ThreadPoolExecutor(8) as pool:
        counts = list(pool.map(lambda _: record_opening(layout, FIRST), range(16)))
    assert sorted(counts) == list(range(1, 17))


def test_an_opening_that_cannot_be_recorded_is_refused(tmp_path: Path) -> None:
    layout = StudyLayout(tmp_path, "intents")
    layout.test_openings.mkdir(parents=True)
    with pytest.raises(SweepError, match="cannot be read"):
        record_opening(layout, FIRST)
    lost = StudyLayout(tmp_path, "lost")
    lost.folder.mkdir()
    os.symlink(tmp_path / "no-such-disk" / "openings", lost.test_openings)
    with pytest.raises(SweepError, match="the test split stays closed"):
        record_opening(lost, FIRST)


def test_the_count_is_said_in_words() -> None:
    assert [said(count) for count in (1, 2, 4)] == [
        "opened for the first time",
        "opened for the second time",
        "opened for the 4th time",
    ]
