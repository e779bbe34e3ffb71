"""A driver's crash loses neither the searcher nor a trial: the stored study is the truth, and resume goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sweep.domain import AttemptEnd, Report, TrialState
from sweep.ports import AttemptBegun, AttemptOver, TrialOver
from sweep.search import read_trials
from sweep.tracking.spool import read_entries
from tests.fault.killable_driver import EVALUATIONS, study_in
from tests.integration.journey.conftest import Shell, end, wait_for
from tests.recording import Store
from tests.simulated import DriverDied, Study

TRIALS = 100
KILLS = 20


def test_pain_05_a_driver_killed_twenty_times_finishes_each_of_100_trials_once(tmp_path: Path) -> None:
    generator = random.Random(5)
    command = [sys.executable, "-m", "tests.fault.killable_driver", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as drivers:
        assert drivers.stdin is not None
        assert drivers.stdout is not None

        def say() -> list[str]:
            assert drivers.stdout is not None
            return drivers.stdout.readline().split(maxsplit=1)

        for _ in range(KILLS):
            drivers.stdin.write("drive\n")
            name, pid = say()
            assert name == "driver"
            # Up to four trials later, and a little more: at any moment of its life, its beginning included.
            for _ in range(generator.randrange(5)):
                word = say()
                assert word[0] == "over", word
            time.sleep(generator.uniform(0, 0.08))
            os.kill(int(pid), signal.SIGKILL)
            while (word := say()) != ["gone"]:
                assert word[0] == "over", word
        drivers.stdin.write("drive\n")
        said = []
        while (word := say()) != ["gone"]:
            said.append(word)
        drivers.stdin.close()
    assert said[-1] == ["ended", "COMPLETE\n"]

    spec = study_in(tmp_path)
    trials = read_trials(spec)
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert len({tuple(sorted(trial.hyperparameters.items())) for trial in trials}) == TRIALS
    entries = list(read_entries(spec.layout.spool))
    assert not [entry.problem for entry in entries if entry.problem]
    records = [entry.record for entry in entries if entry.record is not None]
    ends = Counter(record.trial_number for record in records if isinstance(record, TrialOver))
    assert ends == Counter(range(TRIALS))
    steps = Counter((record.trial_number, record.step) for record in records if isinstance(record, Report))
    assert steps == Counter((number, step) for number in range(TRIALS) for step in range(1, EVALUATIONS + 1))
    for trial in trials:
        begun = [r.attempt for r in records if isinstance(r, AttemptBegun) and r.trial_number == trial.number]
        over = [r.attempt for r in records if isinstance(r, AttemptOver) and r.trial_number == trial.number]
        assert begun == list(range(1, trial.attempt + 1)), "attempts have no gaps"
        assert sorted(over) == begun[:-1], "every attempt but the last is told to be over"
        assert not trial.setbacks, "a driver's death is no setback of a trial"
    assert sum(trial.attempt for trial in trials) > TRIALS, "no kill met a running trial"


SPEC = """\
study: killed
objective:
  task: sweep.testing.checkpointing_objective:QuickObjective
  model: none
  data: {}
  training: {steps: 40, batch_size: 16, sleep_seconds: 0.02}
search: {learning_rate: 1e-3..1 log}
budget: {trials: 24}
resources: {workers: 2}
storage: mlruns
"""


@pytest.mark.slow
def test_pain_05_sweep_run_and_resume_killed_six_times_finish_each_trial_once(tmp_path: Path) -> None:
    generator = random.Random(6)
    shell = Shell(tmp_path)
    (tmp_path / "study.yaml").write_text(SPEC, encoding="utf-8")
    arguments = ("run", "study.yaml")
    for kill in range(6):
        driver = shell.start(*arguments)
        try:
            # Told once it has begun an attempt of this session, at the latest.
            begun = shell.errors().count("trial ")
            wait_for("a report", lambda begun=begun: shell.errors().count("trial ") > begun)  # type: ignore[misc]
            time.sleep(generator.uniform(0, 2))
            os.kill(driver.pid, signal.SIGKILL)
            driver.wait()
        finally:
            end(driver)
        status = shell.json("status", "killed")
        assert status["state"] == "PAUSED", kill
        assert "RUNNING" not in status["trials"]
        arguments = ("resume", "killed")
    shell(*arguments)
    status = shell.json("status", "killed")
    assert status["state"] == "COMPLETE"
    assert sum(status["trials"].values()) == 24
    assert set(status["trials"]) <= {"COMPLETE", "PRUNED"}
    assert status["undelivered"] == 0
    store = Store(tmp_path / "mlruns" / "mlflow.db")
    runs = store.runs()
    assert sorted(map(int, runs)) == list(range(24))
    assert {store.info(run)["status"] for run in runs.values()} <= {"FINISHED", "KILLED"}
    assert store.doubles() == []


def _signature(study: Study) -> list[Any]:
    return [
        (t.hyperparameters, t.state, t.value, t.values, [s.end for s in t.setbacks], t.micro_batch_split)
        for t in study.trials
    ]


def _fate_in(study: Study) -> Any:
    """Trial 1 needs half its micro-batch, trial 2 never works."""

    def fate(number: int, attempt: int, step: int) -> AttemptEnd | None:
        request = [r for r in study.requests if r.assignment.trial_number == number][-1]
        if number == 1 and step == 2 and request.micro_batch_split < 2:
            return AttemptEnd.OOM
        return AttemptEnd.FAILED if number == 2 else None

    return fate


def test_pain_05_a_driver_that_dies_at_any_write_is_followed_by_one_that_goes_on_as_it_would_have(
    tmp_path: Path,
) -> None:
    def begin(name: str) -> Study:
        return Study(tmp_path / name, "budget.trials=3", "search.pruner.first_rung=0.25", slots=1)

    whole = begin("whole")
    whole.run(_fate_in(whole))
    assert [trial.state for trial in whole.trials].count(TrialState.FAILED) == 1
    expected = _signature(whole)
    told = {(r.trial_number, r.step, r.metrics["accuracy"]) for r in whole.recorder.records if isinstance(r, Report)}
    for lives in range(1000):
        study = begin(f"{lives}")
        try:
            study.run(_fate_in(study), lives=lives)
        except DriverDied:
            assert study.run(_fate_in(study)).state == "COMPLETE"
        else:
            break
        assert _signature(study) == expected, f"after a death with {lives} lives"
        assert sorted(study.ends()) == [0, 1, 2]
        reports = [r for r in study.recorder.records if isinstance(r, Report)]
        assert {(r.trial_number, r.step, r.metrics["accuracy"]) for r in reports} == told
        assert len(reports) == len(told)
        for trial in study.trials:
            assert study.attempts(trial.number) == list(range(1, trial.attempt + 1))
            assert trial.attempt <= whole.trials[trial.number].attempt + 1
    assert lives > 40
