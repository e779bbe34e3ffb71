"""User interfaces poll while the driver writes: no lock error, no lost tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from sweep.domain import TrialState
from sweep.search import OptunaStore, read_trials
from sweep.testing.study_store import evaluation
from tests.simulated import spec_in

POSTGRES = os.environ.get("SWEEP_TEST_POSTGRES_URL")
needs_postgres = pytest.mark.skipif(POSTGRES is None, reason="SWEEP_TEST_POSTGRES_URL is not set")


def value_of(number: int) -> float:
    return (number * 7919 % 1000) / 1000


def check_polled_study(folder: Path, trials: int, history: str | None, kinds: Sequence[str]) -> None:
    named = f"study=polled-{uuid.uuid4().hex[:8]}" if history else "study=polled"
    spec = spec_in(folder, named, "search.pruner.name=none", *([f"history={history}"] if history else []))
    store = OptunaStore.create(spec)
    with ExitStack() as stack:
        pollers, commands = [], []
        for kind in kinds:
            command = [sys.executable, "-m", "tests.fault.polling_reader", kind, str(folder), history or "", named]
            poller = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            commands.append(command)
            stack.callback(poller.kill)
            assert poller.stdout is not None
            assert poller.stdout.readline() == "ready\n"
            pollers.append(poller)
        for number in range(trials):
            assert store.ask().number == number
            assert store.begin_attempt(number) == 1
            report = evaluation(number, 100, value_of(number), fidelity=4.0)
            store.report(report, value_of(number))
            store.tell(number, TrialState.COMPLETE, report)
        told = list(store.trials())
        store.close()
        for kind, poller in zip(kinds, pollers, strict=True):
            said = json.loads(poller.communicate(timeout=120)[0])
            assert said["problems"] == [], kind
            assert said["is_sorted"], f"{kind}: a tell was seen and then not seen"
            # Optuna's dashboard shows trials as they were up to ten seconds ago.
            assert said["last"] == [trials] or (kind == "dashboard" and said["last"][0] <= trials), kind
            assert said["polls"] > 3, kind
    for command in commands:  # one poll of each, begun now
        fresh = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert json.loads(fresh.stdout.splitlines()[-1])["last"] == [trials], fresh.stderr
    assert [(trial.state, trial.value) for trial in told] == [
        (TrialState.COMPLETE, value_of(number)) for number in range(trials)
    ]
    assert read_trials(spec) == told


def test_pain_21_polling_a_journal_of_1000_trials_meets_no_lock_and_loses_no_tell(tmp_path: Path) -> None:
    check_polled_study(tmp_path, 1000, None, ["reader", "dashboard"])


def test_pain_21_a_line_that_is_still_being_written_is_not_read(tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    store = OptunaStore.create(spec)
    store.ask()
    path = spec.layout.history / "journal.log"
    before = path.read_bytes()
    reader = OptunaStore.open_readonly(spec)
    report = evaluation(0, 100, 0.5, fidelity=4.0)
    store.report(report, 0.5)
    written = path.read_bytes()
    for end in range(len(before), len(written) + 1):
        path.write_bytes(written[:end])
        (trial,) = reader.trials()
        assert trial.value == (0.5 if b"\n" in written[len(before) : end] else None)
    reader.close()
    store.close()


@pytest.mark.slow
def test_pain_21_polling_a_journal_of_10000_trials_meets_no_lock_and_loses_no_tell(tmp_path: Path) -> None:
    check_polled_study(tmp_path, 10_000, None, ["reader", "dashboard"])


def test_pain_21_polling_a_database_file_meets_no_lock_and_loses_no_tell(tmp_path: Path) -> None:
    check_polled_study(tmp_path, 25, f"sqlite:///{tmp_path / 'history.db'}", ["reader", "reader"])


@needs_postgres
def test_pain_21_polling_a_shared_database_meets_no_lock_and_loses_no_tell(tmp_path: Path) -> None:
    check_polled_study(tmp_path, 60, POSTGRES, ["reader", "reader"])


@needs_postgres
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_pain_21_polling_a_shared_database_of_3000_trials_meets_no_lock_and_loses_no_tell(tmp_path: Path) -> None:
    check_polled_study(tmp_path, 3000, POSTGRES, ["reader", "reader"])
