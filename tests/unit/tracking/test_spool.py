"""The spool: durable, torn tails cut, nothing twice."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sweep.errors import RecordingError
from sweep.ports import Record
from sweep.tracking.records import identity
from sweep.tracking.spool import RECORDS, Spool, count_records, read_entries, spool_uid
from tests.recording import attempt, begun, over, report, study_over

THREE: list[Record] = [attempt(0), report(0, 10), over(0)]


def _held(folder: Path) -> list[Record]:
    return [entry.record for entry in read_entries(folder) if entry.record is not None]


def test_records_come_back_in_order_after_reopening(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        assert spool.append(THREE) == 3
    with Spool.open(tmp_path) as spool:
        spool.append([begun()])
    assert _held(tmp_path) == [*THREE, begun()]
    assert count_records(tmp_path) == 4


def test_a_record_is_held_once_across_sessions_and_the_first_one_wins(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        assert spool.append([report(0, 10), report(0, 10, accuracy=0.1)]) == 1
        assert spool.append([report(0, 10)]) == 0
    with Spool.open(tmp_path) as spool:
        assert spool.append([report(0, 10, accuracy=0.2), report(0, 20)]) == 1
    assert _held(tmp_path) == [report(0, 10), report(0, 20)]


def test_each_session_of_a_study_begins_and_ends_anew(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        assert spool.append([begun(), study_over([]), begun(), study_over([])]) == 4


def test_a_tail_torn_at_any_byte_is_cut_and_the_next_record_stands_alone(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    with Spool.open(whole) as spool:
        spool.append(THREE)
    data = (whole / RECORDS).read_bytes()
    last = data.rstrip(b"\n").rindex(b"\n") + 1
    for size in range(last, len(data)):
        folder = tmp_path / "torn"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / RECORDS).write_bytes(data[:size])
        assert _held(folder) == THREE[:2], "a reader must not see the torn record"
        with Spool.open(folder) as spool:
            assert spool.append(THREE) == 1, f"cut at byte {size}: only the torn record is missing"
        assert _held(folder) == THREE


def test_a_header_torn_at_any_byte_makes_a_new_spool(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        spool.append([])
    header = (tmp_path / RECORDS).read_bytes()
    for size in range(len(header)):
        (tmp_path / RECORDS).write_bytes(header[:size])
        with Spool.open(tmp_path) as spool:
            spool.append([report(0, 10)])
            assert spool_uid(tmp_path) == spool.uid
        assert _held(tmp_path) == [report(0, 10)]


def test_a_tail_of_zeros_left_by_a_power_cut_is_cut(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        spool.append(THREE)
    with (tmp_path / RECORDS).open("ab") as file:
        file.write(bytes(4096))
    with Spool.open(tmp_path) as spool:
        spool.append([report(1, 10)])
    assert _held(tmp_path) == [*THREE, report(1, 10)]


def test_a_damaged_line_in_the_middle_costs_only_itself(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        spool.append(THREE)
    path = tmp_path / RECORDS
    path.write_bytes(path.read_bytes().replace(b'"step":10', b'"step":11', 1))
    with Spool.open(tmp_path) as spool:
        assert spool.append([report(0, 10)]) == 1
    assert _held(tmp_path) == [THREE[0], THREE[2], report(0, 10)]
    assert [entry.problem for entry in read_entries(tmp_path) if entry.problem] == ["its checksum does not match"]


def test_the_name_of_a_spool_stays(tmp_path: Path) -> None:
    with Spool.open(tmp_path / "a") as first, Spool.open(tmp_path / "b") as other:
        assert first.uid != other.uid
    with Spool.open(tmp_path / "a") as again:
        assert again.uid == first.uid == spool_uid(tmp_path / "a")


def test_reading_goes_on_from_any_line(tmp_path: Path) -> None:
    with Spool.open(tmp_path) as spool:
        spool.append(THREE)
    ends = [entry.end for entry in read_entries(tmp_path)]
    for position, end in enumerate(ends):
        assert [entry.record for entry in read_entries(tmp_path, end)] == THREE[position:]
        assert count_records(tmp_path, end) == 3 - position


def test_a_full_disk_is_told_and_leaves_whole_records_only(tmp_path: Path) -> None:
    """A file-size limit stands for a full disk: the kernel writes a part and refuses the rest."""
    import resource
    import signal

    with Spool.open(tmp_path) as spool:
        spool.append([report(0, 10)])
        limit = (tmp_path / RECORDS).stat().st_size + 40
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(RecordingError, match=r"cannot be written.*Free some space"):
                spool.append([report(0, 20)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, handler)
        assert spool.append([report(0, 20)]) == 1, "the refused record must not count as held"
    assert _held(tmp_path) == [report(0, 10), report(0, 20)]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told_with_a_remedy(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RecordingError, match="Make the storage writable"):
        Spool.open(tmp_path / "spool")


def test_what_may_repeat_has_no_identity() -> None:
    assert identity(begun()) is None
    assert identity(study_over([])) is None
