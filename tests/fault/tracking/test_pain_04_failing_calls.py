"""Calls fail, stall, are cut off, the writer is killed: nothing is missing, nothing doubled, the end is near."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sweep import wiring
from sweep.domain import Report
from sweep.layout import StudyLayout
from sweep.tracking import SpoolRecorder, drain, set_aside, undelivered
from sweep.tracking import writer_process as writing
from sweep.tracking.spool import Spool, read_entries
from tests.fault_proxy import Faults, fault_proxy
from tests.mlflow_server import MlflowServer, black_hole, until
from tests.recording import Store, attempt, begun, kept, over, report, study_over, whole_trial
from tests.writers import Writers

TRIALS = 6


@pytest.fixture(autouse=True)
def _short_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")


def _points_of_spool(layout: StudyLayout) -> dict[tuple[str, int, str], float]:
    """Every value that was reported, by (trial, step, metric)."""
    reports = [entry.record for entry in read_entries(layout.spool) if isinstance(entry.record, Report)]
    return {(str(r.trial_number), r.step, name): value for r in reports for name, value in r.metrics.items()}


def _points_of_mlflow(store: Store) -> Iterator[tuple[tuple[str, int, str], float]]:
    for number, run_id in store.runs().items():
        for key, step, value in store.rows("SELECT key, step, value FROM metrics WHERE run_uuid = ?", run_id):
            yield (number, step, key), value


def _assert_equal_point_for_point(store: Store, layout: StudyLayout) -> None:
    found = list(_points_of_mlflow(store))
    assert len({key for key, _ in found}) == len(found), "a point is there twice"
    ours = {"seconds", "epoch", "objective_value", "test_accuracy"}
    assert {key: value for key, value in found if key[2] not in ours} == _points_of_spool(layout)


def test_pain_04_three_of_ten_calls_fail_or_stall_and_the_writer_is_killed_yet_each_point_arrives_once(
    server: MlflowServer, tmp_path: Path
) -> None:
    layout = StudyLayout(tmp_path, "pain-04-faults")
    faults = Faults(refused=0.12, lied=0.12, cut=0.06, stalled=0.01)
    with fault_proxy(server.port, faults, seed=4) as proxy:
        recorder = SpoolRecorder(layout, proxy.address)
        recorder.record_all([begun(), *whole_trial(0), attempt(1), report(1, 10)])
        until(lambda: undelivered(layout) < 7, 90, "the writer gets something through")
        os.kill(recorder.writer_pid, signal.SIGKILL)
        for number in range(1, TRIALS):
            recorder.record_all([*whole_trial(number)])
        recorder.record_all([kept(layout, 1), study_over([1, 0, 2, 3, 4, 5])])
        began = time.monotonic()
        # The writer is started once more and has hardly the time to connect.
        recorder.close(6)
        assert time.monotonic() - began < 30
        end = time.monotonic() + 200
        while drain(layout, proxy.address, 60) > 0:
            assert time.monotonic() < end, "sync gets nowhere"
    assert set_aside(layout)[0] == 0, "a call that failed by chance is no fault of its record"
    store = Store(server.database, "pain-04-faults")
    assert sorted(store.runs()) == [str(number) for number in range(TRIALS)]
    _assert_equal_point_for_point(store, layout)
    assert set(store.statuses().values()) == {("FINISHED", "COMPLETE")}
    ((models,),) = store.rows("SELECT count(*) FROM logged_models WHERE status = 2 AND source_run_id = ?", store.run(1))
    assert models == 1
    assert {"refused", "lied", "cut", "stalled"} <= set(proxy.counts), f"not every fault came: {proxy.counts}"


def test_pain_04_a_driver_ends_in_time_before_a_server_that_takes_five_seconds_a_call_and_before_a_deaf_one(
    server: MlflowServer, tmp_path: Path
) -> None:
    assert wiring.CLOSE_TIMEOUT_SECONDS <= 25, "thirty seconds at exit, with five for all that is not delivery"

    def seconds_to_close(name: str, uri: str) -> float:
        recorder = SpoolRecorder(StudyLayout(tmp_path / name, f"pain-04-{name}"), uri)
        recorder.record_all([begun(), *whole_trial(0), study_over([0])])
        began = time.monotonic()
        assert recorder.close(4.0) > 0
        return time.monotonic() - began

    slow = fault_proxy(server.port, Faults(latency_seconds=5.0))
    with slow as proxy, black_hole() as (hole, _), ThreadPoolExecutor(2) as pool:
        taken = list(pool.map(seconds_to_close, ("slow", "deaf"), (proxy.address, hole)))
    assert max(taken) < 4.0 + 5.0


def test_pain_04_a_server_a_tenth_of_a_second_away_has_everything_when_the_driver_ends(
    server: MlflowServer, tmp_path: Path
) -> None:
    layout = StudyLayout(tmp_path, "pain-04-far")
    with fault_proxy(server.port, Faults(latency_seconds=0.1)) as proxy:
        recorder = SpoolRecorder(layout, proxy.address)
        recorder.record(begun())
        for number in range(3):
            recorder.record_all([*whole_trial(number)])
        recorder.record_all([kept(layout, 1), study_over([2, 1, 0])])
        until(lambda: undelivered(layout) < 10, 120, "the writer gets to the end of it")
        began = time.monotonic()
        assert recorder.close(wiring.CLOSE_TIMEOUT_SECONDS) == 0
        assert time.monotonic() - began < 30
    assert set_aside(layout)[0] == 0
    store = Store(server.database, "pain-04-far")
    _assert_equal_point_for_point(store, layout)
    assert set(store.statuses().values()) == {("FINISHED", "COMPLETE")}


def test_pain_04_a_writer_that_was_killed_is_started_again_and_at_the_end_at_the_latest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(writing, "RESTART_SECONDS", 0.0)
    layout = StudyLayout(tmp_path, "demo")
    recorder = SpoolRecorder(layout, layout.tracking_uri)
    recorder.record(begun())
    victim = recorder.writer_pid
    os.kill(victim, signal.SIGKILL)
    step = iter(range(10, 10_000))

    def is_started_again() -> bool:
        recorder.record(report(0, next(step)))
        return recorder.writer_pid != victim

    until(is_started_again, 10, "a record after the death starts another writer")
    monkeypatch.setattr(writing, "RESTART_SECONDS", 3600.0)
    os.kill(recorder.writer_pid, signal.SIGKILL)
    recorder.record_all([over(0), study_over([0])])
    assert recorder.close(60) == 0


def test_pain_04_records_refused_for_ever_are_set_aside_once_and_hold_up_nothing(
    writers: Writers, tmp_path: Path
) -> None:
    layout = StudyLayout(tmp_path, "demo")
    contradicting = attempt(0, 2, learning_rate=0.5)
    unheard_of = attempt(1, **{"up//down": 1})
    odd_names = report(1, 10, **{"../up": 1.0, "/root": 2.0, "a//b": 3.0, "precision@1": 4.0})
    with Spool.open(layout.spool) as spool:
        spool.append([begun(), *whole_trial(0), contradicting, unheard_of, odd_names, report(1, 20)])
        spool.append([over(1, error="x" * 100_000), *whole_trial(2), study_over([2, 1, 0])])
    # It dies on the way, so that what was refused is delivered, and refused, again.
    assert writers.run(layout, kill_after=40) == -signal.SIGKILL
    assert set_aside(layout)[0] == 2
    assert writers.run(layout) == 0
    count, file = set_aside(layout)
    told = [json.loads(line) for line in file.read_text().splitlines()]
    assert count == len(told) == 2
    assert [line["record"]["kind"] for line in told] == ["attempt_begun", "attempt_begun"]
    assert "learning_rate" in told[0]["reason"]
    store = Store(tmp_path / "mlflow.db")
    assert set(store.statuses().values()) == {("FINISHED", "COMPLETE")}
    assert [step for step, _, _ in store.metric(store.run(1), "accuracy")] == [10, 20]
    mended = {"up": 1.0, "root": 2.0, "a/b": 3.0, "precision_1": 4.0}
    assert {name: store.metric(store.run(1), name)[0][1] for name in mended} == mended


def test_pain_04_runs_and_an_experiment_deleted_or_renamed_by_hand_hold_up_nothing_and_sync_again_restores(
    writers: Writers, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    from sweep.tracking import start_over

    layout = StudyLayout(tmp_path, "demo")
    with Spool.open(layout.spool) as spool:
        spool.append([begun(), *whole_trial(0), attempt(1), report(1, 10), attempt(2)])
        assert writers.run(layout) == 0
        store = Store(tmp_path / "mlflow.db")
        client = MlflowClient(tracking_uri=layout.tracking_uri)
        lost = store.run(1)
        client.delete_run(lost)
        client.rename_experiment(client.get_run(lost).info.experiment_id, "by hand")
        spool.append([begun(at=9e9), attempt(1, 2), report(1, 20), over(1), report(2, 10), over(2)])
        spool.append([study_over([2, 1, 0])])
        assert writers.run(layout) == 0
    assert undelivered(layout) == 0
    refused, _ = set_aside(layout)
    assert refused == 3, "what was told of the deleted run, and nothing else"
    assert sorted(store.runs()) == ["0", "2"]
    assert store.statuses()["2"] == ("FINISHED", "COMPLETE")
    assert store.tags(store.run(2))["sweep.rank"] == "1", "a deleted run must not cost the others their ranks"

    client.delete_experiment(client.get_run(lost).info.experiment_id)
    start_over(layout)
    assert writers.run(layout) == 0
    assert store.experiments() == ["by hand"], "restored, and none beside it"
    assert set(store.statuses()) == {"0", "1", "2", "study"}
    assert set(store.statuses().values()) == {("FINISHED", "COMPLETE")}
    assert [step for step, _, _ in store.metric(store.run(1), "accuracy")] == [10, 20]
    assert set_aside(layout)[0] == 0


def test_pain_04_a_store_that_is_emptied_in_the_middle_of_a_session_gets_everything_again(
    server: MlflowServer, writers: Writers, tmp_path: Path
) -> None:
    layout = StudyLayout(tmp_path, "pain-04-emptied")
    recorder = SpoolRecorder(layout, server.uri)
    recorder.record_all([begun(), *whole_trial(0), attempt(1), report(1, 10)])
    until(lambda: undelivered(layout) == 0, 60, "the first half arrives")
    store = Store(server.database, "pain-04-emptied")
    for run_id in [store.parent(), *store.runs().values()]:
        server.delete_for_good(run_id)
    recorder.record_all([report(1, 20), over(1), study_over([1, 0])])
    assert recorder.close(60) == 0
    assert set_aside(layout)[0] == 0
    assert set(store.statuses().values()) == {("FINISHED", "COMPLETE")}
    _assert_equal_point_for_point(store, layout)
