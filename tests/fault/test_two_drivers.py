"""Two drivers on one study: the second is refused with who holds it and since when; a stale holder is taken over."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sweep.domain import TrialState
from sweep.errors import StudyBusyError, StudyExistsError, StudyNotFoundError, StudyStoreError
from sweep.search import OptunaStore, read_trials
from sweep.search.claims import claimed
from sweep.sole_driver import sole_driver
from sweep.spec.model import StudySpec
from sweep.testing.study_store import evaluation
from sweep.wiring import open_store
from tests.integration.journey.conftest import Shell, end, wait_for
from tests.simulated import spec_in

POSTGRES = os.environ.get("SWEEP_TEST_POSTGRES_URL")
needs_postgres = pytest.mark.skipif(POSTGRES is None, reason="SWEEP_TEST_POSTGRES_URL is not set")

SPEC = """\
study: shared
objective:
  task: sweep.testing.scripted_objective:ScriptedObjective
  model: none
  data: bundled:tweets
  training: {epochs: 2, reports: 2, sleep_seconds: 1}
search: {learning_rate: 1e-5..1e-3 log}
budget: {trials: 200}
resources: {workers: 2}
storage: mlruns
"""
HELD_BY = r"study 'shared' is being driven by process (\d+) on \S+ since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d"

HOLD = """
import sys, time
from pathlib import Path
from sweep.sole_driver import sole_driver
from tests.simulated import spec_in
with sole_driver(spec_in(Path(sys.argv[1]), *sys.argv[2:])) as fence:
    print("held", flush=True)
    time.sleep(120)
"""


@contextmanager
def holder_of(folder: Path, *overrides: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds a study."""
    command = [sys.executable, "-c", HOLD, str(folder), *overrides]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def start_two(shell: Shell, *arguments: str) -> list[subprocess.Popen[str]]:
    """The same command twice at the same moment, each with its own log."""
    started = []
    for name in "ab":
        command, place = shell.command(*arguments), shell.folder
        with (place / f"{name}.log").open("w") as log:
            started.append(
                subprocess.Popen(command, cwd=place, stdout=log, stderr=log, text=True, start_new_session=True)
            )
    return started


def winner_and_loser(shell: Shell, drivers: list[subprocess.Popen[str]]) -> tuple[subprocess.Popen[str], str]:
    """The driver that goes on, and what the refused one said."""
    wait_for("one to be refused", lambda: [d for d in drivers if d.poll() is not None])
    (loser,) = [driver for driver in drivers if driver.poll() is not None]
    (winner,) = [driver for driver in drivers if driver is not loser]
    told = (shell.folder / f"{'ab'[drivers.index(loser)]}.log").read_text(encoding="utf-8")
    assert loser.returncode == 2, told
    assert "Traceback" not in told
    held_by = re.search(HELD_BY, told)
    assert held_by, told
    assert int(held_by[1]) == winner.pid
    return winner, told


def test_of_two_runs_and_of_two_resumes_at_the_same_moment_exactly_one_drives(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    (tmp_path / "study.yaml").write_text(SPEC, encoding="utf-8")
    drivers = start_two(shell, "run", "study.yaml")
    try:
        winner, told = winner_and_loser(shell, drivers)
        assert "`sweep stop shared`" in told
        assert f"`kill -9 {winner.pid}`" in told
        assert shell.json("status", "shared")["state"] == "RUNNING"
        os.kill(winner.pid, signal.SIGKILL)  # stale from here on
        winner.wait()
        wanted = shell.json("status", "shared")["budget"]["finished"] + 2
        drivers += start_two(shell, "resume", "shared", "--trials", str(wanted))
        winner, _ = winner_and_loser(shell, drivers[2:])
        assert winner.wait(150) == 0
    finally:
        for driver in drivers:
            end(driver)
    status = shell.json("status", "shared")
    assert (status["state"], status["budget"]["finished"]) == ("COMPLETE", wanted)
    assert not list((tmp_path / "mlruns/studies/shared/history").glob("*torn*"))


def test_a_suspended_holder_is_not_stale_and_a_killed_one_is(tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    with holder_of(tmp_path) as holder:
        os.kill(holder.pid, signal.SIGSTOP)
        with pytest.raises(StudyBusyError, match=rf"process {holder.pid} on .*`kill -9 {holder.pid}` ends it"):
            sole_driver(spec).__enter__()
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        with sole_driver(spec):
            pass


def two_storages(folder: Path, history: str) -> tuple[list[str], StudySpec]:
    """The same study of the same database as two hosts name it: overrides of one, spec of the other."""
    overrides = [f"history={history}", f"study=shared-{uuid.uuid4().hex[:8]}"]
    return overrides, spec_in(folder / "there", *overrides)


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=needs_postgres)])
def test_two_storages_that_share_a_history_do_not_drive_one_study_at_once(tmp_path: Path, kind: str) -> None:
    history = POSTGRES if kind == "postgresql" else f"sqlite:///{tmp_path / 'history.db'}"
    assert history is not None
    overrides, there = two_storages(tmp_path, history)
    before = time.time()
    with holder_of(tmp_path / "here", *overrides) as holder:
        with pytest.raises(StudyBusyError, match=rf"{there.study}.* process {holder.pid} on \S+ since 20") as refused:
            sole_driver(there).__enter__()
        year = time.localtime(before).tm_year
        assert f"since {year}" in str(refused.value)
        with sole_driver(spec_in(tmp_path / "there", *overrides, "study=another")):
            pass  # another study of the same database is free
        holder.kill()
        holder.wait()
        # The server learns of the death by the closed connection, a moment later.
        wait_for("the study to be let go", lambda: _is_free(there), seconds=30)


def _is_free(spec: StudySpec) -> bool:
    try:
        with sole_driver(spec):
            return True
    except StudyBusyError:
        return False


@needs_postgres
def test_a_driver_that_loses_its_connection_stops_before_its_next_write(tmp_path: Path) -> None:
    from sqlalchemy import create_engine, text

    assert POSTGRES is not None
    overrides, spec = two_storages(tmp_path, POSTGRES)
    engine = create_engine(POSTGRES, isolation_level="AUTOCOMMIT")
    with claimed(spec, now=time.time()) as fence:
        store = OptunaStore.create(spec, fence=fence)
        store.ask()
        store.begin_attempt(0)
        with engine.connect() as admin:
            name = f"sweep {os.getpid()} %"
            sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE :name"
            assert admin.execute(text(sessions), {"name": name}).scalars().all() == [True]
        with holder_of(tmp_path / "elsewhere", *overrides):
            report = evaluation(0, 4, 0.5)
            with pytest.raises(StudyStoreError, match=r"was lost .*another driver may have taken over.*`sweep resume"):
                store.report(report, 0.5)
            with pytest.raises(StudyStoreError, match="another driver may hold the study"):
                store.tell(0, TrialState.COMPLETE, report)
        assert [(t.state, t.value) for t in read_trials(spec)] == [(TrialState.RUNNING, None)]
        store.close()
    engine.dispose()


@needs_postgres
def test_the_password_of_a_shared_history_is_in_no_refusal(tmp_path: Path) -> None:
    history = "postgresql://ann:hunter2@127.0.0.1:9/none?connect_timeout=1"
    with pytest.raises(StudyStoreError) as refused:
        sole_driver(spec_in(tmp_path, f"history={history}")).__enter__()
    assert "hunter2" not in str(refused.value)
    assert "127.0.0.1" in str(refused.value)


def test_a_new_study_whose_name_is_taken_in_the_shared_history_leaves_no_folder(tmp_path: Path) -> None:
    overrides, there = two_storages(tmp_path, f"sqlite:///{tmp_path / 'history.db'}")
    OptunaStore.check_is_new(there)
    OptunaStore.create(spec_in(tmp_path / "here", *overrides)).close()
    with pytest.raises(StudyExistsError, match="exists already"):
        OptunaStore.check_is_new(there)
    assert not there.layout.folder.exists()


def test_a_driver_that_died_before_it_began_the_history_is_resumed_and_a_lost_history_is_told(tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    store = open_store(spec, lambda: None, resuming=True)
    assert store.ask().number == 0
    store.close()
    spec.layout.spool.mkdir(parents=True)
    (spec.layout.history / "journal.log").unlink()
    with pytest.raises(StudyNotFoundError):
        open_store(spec, lambda: None, resuming=True)
