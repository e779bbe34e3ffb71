"""The writer is killed, again and again; the store ends up as if nothing had happened."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from sweep.layout import StudyLayout
from sweep.tracking import SpoolRecorder, run_ids, undelivered
from sweep.tracking.spool import Spool
from tests.fault_proxy import Faults, fault_proxy
from tests.mlflow_server import MlflowServer, until
from tests.recording import Store, begun, kept, study_over, whole_trial
from tests.writers import Writers

LONGEST = 400


@pytest.mark.parametrize("stride", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_a_writer_killed_after_one_request_after_another_makes_nothing_twice(
    writers: Writers, tmp_path: Path, stride: int
) -> None:
    layout = StudyLayout(tmp_path, "demo")
    with Spool.open(layout.spool) as spool:
        spool.append([begun(), *whole_trial(0), *whole_trial(1), kept(layout, 1), study_over([1, 0])])
    # All in one batch, so that nothing is acknowledged between two kills and each life repeats the lives before.
    kills = 0
    for kill_after in range(1, LONGEST, stride):
        code = writers.run(layout, kill_after=kill_after)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
    assert kills * stride > 20, "the study must take many requests, or this proves little"
    store = Store(tmp_path / "mlflow.db")
    assert undelivered(layout) == 0
    assert store.experiments() == ["demo"]
    assert sorted(store.runs()) == ["0", "1"]
    assert run_ids(layout) == {number: store.run(number) for number in (0, 1)}
    assert store.rows("SELECT count(*) FROM runs") == [(3,)], "not even a deleted one more"
    assert store.doubles() == []
    assert len(store.metric(store.run(0), "accuracy")) == 3
    assert store.models() == [("trial-0001", 2)]
    assert store.info(store.parent())["status"] == "FINISHED"
    assert not (layout.spool / "rejected.jsonl").exists()


def test_a_store_that_was_deleted_gets_everything_again(writers: Writers, tmp_path: Path) -> None:
    layout = StudyLayout(tmp_path, "demo")
    with Spool.open(layout.spool) as spool:
        spool.append([begun(), *whole_trial(0)])
        assert writers.run(layout) == 0
        for path in tmp_path.glob("mlflow.db*"):
            path.unlink()
        spool.append([*whole_trial(1), study_over([1, 0])])
    assert writers.run(layout) == 0
    store = Store(tmp_path / "mlflow.db")
    assert sorted(store.runs()) == ["0", "1"]
    assert len(store.metric(store.run(0), "accuracy")) == 3


def test_a_study_of_the_same_name_begun_anew_has_runs_of_its_own(writers: Writers, tmp_path: Path) -> None:
    layout = StudyLayout(tmp_path, "demo")
    for _ in range(2):
        with Spool.open(layout.spool) as spool:
            spool.append([begun(), *whole_trial(0), study_over([0])])
        assert writers.run(layout) == 0
        for path in layout.spool.iterdir():
            path.unlink()
    store = Store(tmp_path / "mlflow.db")
    assert store.experiments() == ["demo"]
    assert store.rows("SELECT count(*) FROM runs") == [(4,)]
    assert store.doubles() == []


def test_pain_04_a_writer_killed_in_a_long_batch_repeats_only_what_it_had_begun(
    writers: Writers, tmp_path: Path
) -> None:
    layout = StudyLayout(tmp_path, "demo")
    with Spool.open(layout.spool) as spool:
        spool.append([begun(), *(record for number in range(8) for record in whole_trial(number))])
    waiting = undelivered(layout)
    lives = 0
    # Each life is far too short for the batch, as `sweep sync` is before a server that takes seconds for each request.
    while writers.run(layout, kill_after=40, note_seconds=0.0) != 0:
        lives += 1
        assert undelivered(layout) < waiting, f"life {lives} brought nothing forward"
        waiting = undelivered(layout)
    assert lives > 1, "one life was enough, so this proves nothing"
    store = Store(tmp_path / "mlflow.db")
    assert sorted(store.runs()) == [str(number) for number in range(8)]
    assert store.doubles() == []


def test_temporary_files_of_a_killed_writer_lie_with_the_study_and_go_when_the_next_one_begins(
    server: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "tmp"
    elsewhere.mkdir()
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    layout = StudyLayout(tmp_path, "killed-scratch")
    # The file is sent again and again, so that its folder is there for the killing.
    with fault_proxy(server.port, Faults(hated=b"search:")) as proxy:
        recorder = SpoolRecorder(layout, proxy.address)
        recorder.record(begun())
        until(lambda: any((layout.spool / "scratch").glob("sweep-*/*")), 60, "files are put down to be sent")
        os.kill(recorder.writer_pid, signal.SIGKILL)
        left = {path.name for path in (layout.spool / "scratch").iterdir()}
        assert left, "the killing came too late"
        proxy.faults = Faults()
        assert recorder.close(60) == 0
    assert left.isdisjoint(path.name for path in (layout.spool / "scratch").iterdir())
    assert list(elsewhere.iterdir()) == []
