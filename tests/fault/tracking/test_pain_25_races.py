"""Many begin at once: exactly one experiment, one run for each trial, nothing in Default, nothing in each other's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sweep.domain import Report
from sweep.execution.local import LocalExecutor
from sweep.execution.warm_client import WarmParent
from sweep.layout import StudyLayout
from sweep.ports import Event, Reported, Started
from sweep.testing.executor import gather, is_alive, toy_request
from sweep.testing.toy_objectives import LOADER
from sweep.tracking import SpoolRecorder, run_ids
from sweep.tracking.spool import Spool, spool_uid
from tests.mlflow_server import MlflowServer
from tests.recording import STEPS, Store, attempt, begun, report, study_over
from tests.writers import Writers

WORKERS = 64


def _in_default(store: Store) -> list[tuple[object, ...]]:
    sql = "SELECT run_uuid FROM runs r JOIN experiments e USING (experiment_id) WHERE e.name = 'Default'"
    return store.rows(sql)


def _spool(layout: StudyLayout, trials: int) -> None:
    with Spool.open(layout.spool) as spool:
        spool.append([begun()])
        for number in range(trials):
            spool.append([attempt(number), *(report(number, step) for step in STEPS)])


def _reports(events: Sequence[Event]) -> list[Report]:
    return [event.report for event in events if isinstance(event, Reported)]


def test_pain_25_sixty_four_cold_workers_make_one_experiment_and_a_run_each(
    server: MlflowServer, tmp_path: Path
) -> None:
    """Workers know no MLflow: what they return, the driver records, and its writer alone makes runs."""
    layout = StudyLayout(tmp_path, "pain-25-cold")
    recorder = SpoolRecorder(layout, server.uri)
    recorder.record(begun())
    parent = WarmParent(("sweep.testing.toy_objectives",))
    executor = LocalExecutor(WORKERS, parent, "toy", loader=LOADER)
    try:
        for number in range(WORKERS):
            executor.start(toy_request(tmp_path, number=number), tmp_path / f"{number}.log")
        # Nobody is answered, so that all of them are there at once.
        events = gather(executor, lambda seen: len(_reports(seen)) == WORKERS, decision=None)
        workers = {event.pid for event in events if isinstance(event, Started)}
        assert len(workers) == WORKERS
        assert all(is_alive(pid) for pid in workers)
        for one in _reports(events):
            recorder.record_all([attempt(one.trial_number), one])
    finally:
        executor.close()
        parent.close()
    recorder.record(study_over([], state="PAUSED"))
    assert recorder.close(60) == 0
    store = Store(server.database, "pain-25-cold")
    assert store.experiments().count("pain-25-cold") == 1
    assert sorted(store.runs(), key=int) == [str(number) for number in range(WORKERS)]
    sql = "SELECT count(*) FROM runs r JOIN experiments e USING (experiment_id) WHERE e.name = 'pain-25-cold'"
    assert store.rows(sql) == [(WORKERS + 1,)], "not even a deleted one more"
    assert _in_default(store) == []
    assert store.doubles() == []
    assert all(len(store.metric(run_id, "accuracy")) == 1 for run_id in store.runs().values())


def test_pain_25_studies_begun_at_the_same_moment_on_one_new_store_keep_to_themselves(
    writers: Writers, tmp_path: Path
) -> None:
    layouts = [StudyLayout(tmp_path, f"study-{number}") for number in range(4)]
    for layout in layouts:
        _spool(layout, 4)
    assert writers.join([writers.start(layout) for layout in layouts]) == [0] * 4
    everything = Store(tmp_path / "mlflow.db")
    assert sorted(everything.experiments()) == [layout.study for layout in layouts]
    assert everything.rows("SELECT count(*) FROM runs") == [(4 * 5,)]
    assert everything.doubles() == []
    assert _in_default(everything) == []
    for layout in layouts:
        store = Store(tmp_path / "mlflow.db", layout.study)
        assert sorted(store.runs()) == ["0", "1", "2", "3"]
        for run_id in store.runs().values():
            assert store.tags(run_id)["sweep.study"] == layout.study
            assert store.tags(run_id)["mlflow.parentRunId"] == store.parent()
            assert [step for step, _, _ in store.metric(run_id, "accuracy")] == list(STEPS)


def test_pain_25_studies_of_one_name_in_two_storages_on_one_server_are_kept_apart(
    server: MlflowServer, writers: Writers, tmp_path: Path
) -> None:
    layouts = [StudyLayout(tmp_path / name, "pain-25-twins") for name in ("here", "there")]
    for layout in layouts:
        _spool(layout, 3)
    assert writers.join([writers.start(layout, uri=server.uri) for layout in layouts]) == [0, 0]
    store = Store(server.database)
    assert store.experiments().count("pain-25-twins") == 1
    sql = "SELECT r.lifecycle_stage FROM runs r JOIN experiments e USING (experiment_id) WHERE e.name = 'pain-25-twins'"
    assert store.rows(sql) == [("active",)] * 8, "none takes the other's runs for doubles of its own"
    ids = [run_ids(layout) for layout in layouts]
    assert set(ids[0].values()).isdisjoint(ids[1].values())
    for layout, runs in zip(layouts, ids, strict=True):
        assert sorted(runs) == [0, 1, 2]
        parents = {store.tags(run_id)["mlflow.parentRunId"] for run_id in runs.values()}
        assert {store.tags(run_id)["sweep.study_uid"] for run_id in [*runs.values(), *parents]} == {
            spool_uid(layout.spool)
        }
        assert len(parents) == 1
        for run_id in runs.values():
            assert [step for step, _, _ in store.metric(run_id, "accuracy")] == list(STEPS)
