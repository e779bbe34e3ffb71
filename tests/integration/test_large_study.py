"""A study of 5,000 trials is looked at as readily as a small one."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dashboards.report import render
from sweep.search import OptunaStore
from sweep.study_view import StudyWatch
from sweep.testing.study_store import evaluation
from tests.written_history import spec_in, write_study

TRIALS = 5_000
LARGEST_REPORT_BYTES = 15_000_000


@pytest.mark.slow
def test_a_study_of_5000_trials_is_read_once_then_refreshed_by_what_is_new_and_reported_in_15_mb(
    tmp_path: Path,
) -> None:
    spec = spec_in(tmp_path, f"budget.trials={TRIALS + 1}")
    write_study(spec, TRIALS)
    with StudyWatch(spec) as watch:
        began = time.process_time()
        view = watch.read()
        first_seconds = time.process_time() - began
        store = OptunaStore.open(spec)
        store.ask()
        store.begin_attempt(TRIALS)
        store.report(evaluation(TRIALS, 25, 0.6, fidelity=0.25), 0.6)
        store.close()
        began = time.process_time()
        again = watch.read()
        refresh_seconds = time.process_time() - began
    assert [trial.number for trial in again.changed_since(view.token)] == [TRIALS]
    assert refresh_seconds < first_seconds / 2
    assert len(render(again).encode()) < LARGEST_REPORT_BYTES
