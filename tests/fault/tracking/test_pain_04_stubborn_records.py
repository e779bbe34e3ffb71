"""A record that fails for ever stands in nobody's way; a server that is down, or only reads, is no record's fault."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sweep.layout import StudyLayout
from sweep.tracking import SpoolRecorder, set_aside, undelivered
from sweep.tracking.spool import Spool
from tests.fault_proxy import Faults, fault_proxy
from tests.mlflow_server import MlflowServer, until
from tests.recording import STEPS, Store, attempt, begun, over, report, study_over, whole_trial
from tests.writers import Writers


@pytest.fixture(autouse=True)
def _short_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")


def test_pain_04_what_a_server_answers_500_to_for_ever_is_set_aside_and_all_else_arrives(
    server: MlflowServer, tmp_path: Path
) -> None:
    layout = StudyLayout(tmp_path, "pain-04-stubborn")
    with fault_proxy(server.port, Faults(hated=b'"key": "unlucky"')) as proxy:
        recorder = SpoolRecorder(layout, proxy.address)
        recorder.record_all([begun(), *whole_trial(0), attempt(1, unlucky=1), report(1, 10)])
        recorder.record_all(
            [report(1, 20, unlucky=1.0), report(1, 30), over(1), *whole_trial(2), study_over([2, 1, 0])]
        )
        until(lambda: undelivered(layout) == 0, 120, "the others arrive")
        assert recorder.close(30) == 0
    count, file = set_aside(layout)
    told = [json.loads(line) for line in file.read_text().splitlines()]
    assert count == len(told) == 2
    assert [line["record"]["kind"] for line in told] == ["attempt_begun", "report"]
    assert "500 error" in told[0]["reason"]
    store = Store(server.database, "pain-04-stubborn")
    assert set(store.statuses().values()) == {("FINISHED", "COMPLETE")}
    assert [step for step, _, _ in store.metric(store.run(1), "accuracy")] == [10, 30]
    assert [step for step, _, _ in store.metric(store.run(2), "accuracy")] == list(STEPS)
    assert "sweep.probe" not in store.tags(store.parent())


def test_pain_04_a_server_that_reads_and_does_not_write_sets_nothing_aside_and_gets_all_once_it_writes(
    server: MlflowServer, tmp_path: Path
) -> None:
    layout = StudyLayout(tmp_path, "pain-04-readonly")
    with fault_proxy(server.port, Faults()) as proxy:
        recorder = SpoolRecorder(layout, proxy.address)
        recorder.record(begun())
        until(lambda: undelivered(layout) == 0, 60, "the beginning arrives")
        # All that changes a run names it in its body; what is read is asked for by its address.
        proxy.faults = Faults(hated=b'"run_id"')
        recorder.record_all([*whole_trial(0), study_over([0])])
        # Six times the same record, five requests each.
        until(lambda: proxy.counts["hated"] > 30, 120, "the record is tried often enough to be suspected")
        assert set_aside(layout)[0] == 0
        proxy.faults = Faults()
        assert recorder.close(60) == 0
    assert set_aside(layout)[0] == 0
    store = Store(server.database, "pain-04-readonly")
    assert set(store.statuses().values()) == {("FINISHED", "COMPLETE")}


def test_pain_04_a_run_that_can_never_be_mended_keeps_no_other_from_being_mended_and_no_record_from_arriving(
    server: MlflowServer, tmp_path: Path
) -> None:
    layout = StudyLayout(tmp_path, "pain-04-run")
    with fault_proxy(server.port, Faults()) as proxy:
        recorder = SpoolRecorder(layout, proxy.address)
        recorder.record_all([begun(), *whole_trial(0), *whole_trial(1)])
        assert recorder.close(60) == 0
        store = Store(server.database, "pain-04-run")
        stubborn = store.run(0)
        for number in (0, 1):
            server.ask("/api/2.0/mlflow/runs/update", {"run_id": store.run(number), "status": "RUNNING"})
        proxy.faults = Faults(hated=f'"run_id": "{stubborn}"'.encode())
        recorder = SpoolRecorder(layout, proxy.address)
        recorder.record_all([begun(), *whole_trial(2)])
        until(lambda: undelivered(layout) == 0, 120, "what comes after the stubborn run arrives")
        assert recorder.close(30) == 0
        assert proxy.counts["hated"] > 0
    assert set_aside(layout)[0] == 0
    mended = {name: status for name, (status, _) in store.statuses().items()}
    assert (mended["0"], mended["1"], mended["2"]) == ("RUNNING", "FINISHED", "FINISHED")


def test_pain_04_a_number_that_no_database_has_room_for_is_set_aside(writers: Writers, tmp_path: Path) -> None:
    layout = StudyLayout(tmp_path, "demo")
    with Spool.open(layout.spool) as spool:
        spool.append([begun(), attempt(0), report(0, 10), report(0, 2**63), report(0, 30), over(0), study_over([0])])
    assert writers.run(layout) == 0
    assert undelivered(layout) == 0
    count, file = set_aside(layout)
    assert count == 1
    assert json.loads(file.read_text())["record"]["step"] == 2**63
    store = Store(tmp_path / "mlflow.db")
    assert [step for step, _, _ in store.metric(store.run(0), "accuracy")] == [10, 30]


def test_pain_04_what_was_delivered_before_a_call_that_fails_is_not_sent_again(
    server: MlflowServer, writers: Writers, tmp_path: Path
) -> None:
    layout = StudyLayout(tmp_path, "pain-04-partly")
    with Spool.open(layout.spool) as spool:
        spool.append([begun(), *whole_trial(0), attempt(1, name="later"), over(1), study_over([0, 1])])
    with fault_proxy(server.port, Faults(hated=b"later")) as proxy:
        # It never notes of itself how far it got within a batch.
        writer = writers.start(layout, uri=proxy.address, note_seconds=1e9)
        until(lambda: undelivered(layout) == 3, 60, "what came before the call that fails is acknowledged")
        assert set_aside(layout)[0] == 0
        proxy.faults = Faults()
        assert writers.join([writer]) == [0]
    assert undelivered(layout) == set_aside(layout)[0] == 0
