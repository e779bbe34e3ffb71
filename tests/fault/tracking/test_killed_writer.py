"""The writer is killed, again and again; the store ends up as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest

from sweep.layout import StudyLayout
from sweep.tracking import run_ids, undelivered
from sweep.tracking.spool import Spool, spool_size
from tests.recording import Store, begun, kept, study_over, whole_trial

LONGEST = 400


class _Finished:
    """No more records will come."""

    is_driven = False

    def __init__(self, spool: Path) -> None:
        self.size = spool_size(spool)
        self.event = threading.Event()
        self.event.set()


def _deliver(storage: Path, kill_after: int) -> None:
    """A writer that is gone right after its n-th request has worked: the answer never reached it."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient

    from sweep.tracking import tailing

    class Mortal(MlflowClient):  # type: ignore[misc]
        _left = kill_after

        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            if name.startswith("_") or not callable(value):
                return value

            def call(*arguments: Any, **named: Any) -> Any:
                result = value(*arguments, **named)
                Mortal._left -= 1
                if Mortal._left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            return call

    tailing.MlflowClient = Mortal
    layout = StudyLayout(storage, "demo")
    tailing.Tailing(layout, layout.tracking_uri, _Finished(layout.spool)).run()


@pytest.fixture(scope="module")
def fork() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.fault.tracking.preload"])
    return context


def _run(fork: ForkServerContext, storage: Path, kill_after: int) -> int | None:
    process = fork.Process(target=_deliver, args=(storage, kill_after))
    process.start()
    process.join()
    return process.exitcode


@pytest.mark.parametrize("stride", [6, pytest.param(1, marks=pytest.mark.slow)])
def test_a_writer_killed_after_one_request_after_another_makes_nothing_twice(
    fork: ForkServerContext, tmp_path: Path, stride: int
) -> None:
    layout = StudyLayout(tmp_path, "demo")
    with Spool.open(layout.spool) as spool:
        spool.append([begun(), *whole_trial(0), *whole_trial(1), kept(layout, 1), study_over([1, 0])])
    # All in one batch, so that nothing is acknowledged between two kills and each life repeats the lives before.
    kills = 0
    for kill_after in range(1, LONGEST, stride):
        code = _run(fork, tmp_path, kill_after)
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


def test_a_store_that_was_deleted_gets_everything_again(fork: ForkServerContext, tmp_path: Path) -> None:
    layout = StudyLayout(tmp_path, "demo")
    with Spool.open(layout.spool) as spool:
        spool.append([begun(), *whole_trial(0)])
        assert _run(fork, tmp_path, 0) == 0
        for path in tmp_path.glob("mlflow.db*"):
            path.unlink()
        spool.append([*whole_trial(1), study_over([1, 0])])
    assert _run(fork, tmp_path, 0) == 0
    store = Store(tmp_path / "mlflow.db")
    assert sorted(store.runs()) == ["0", "1"]
    assert len(store.metric(store.run(0), "accuracy")) == 3


def test_a_study_of_the_same_name_begun_anew_has_runs_of_its_own(fork: ForkServerContext, tmp_path: Path) -> None:
    layout = StudyLayout(tmp_path, "demo")
    for _ in range(2):
        with Spool.open(layout.spool) as spool:
            spool.append([begun(), *whole_trial(0), study_over([0])])
        assert _run(fork, tmp_path, 0) == 0
        for path in layout.spool.iterdir():
            path.unlink()
    store = Store(tmp_path / "mlflow.db")
    assert store.experiments() == ["demo"]
    assert store.rows("SELECT count(*) FROM runs") == [(4,)]
    assert store.doubles() == []
