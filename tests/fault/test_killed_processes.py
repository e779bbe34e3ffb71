"""Real SIGKILLs: a trial process, a worker, the driver. Every configuration is finished exactly once."""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from mlflow.tracking import MlflowClient

from tests.integration.journey.conftest import Shell, descendants, end, wait_for

TRIALS = 3


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def first_reports(shell: Shell, count: int = 1) -> bool:
    return shell.errors().count(": step ") >= count


def trial_processes(driver: int) -> list[psutil.Process]:
    """Children of a warm parent: the processes that train."""
    found = []
    for process in descendants(driver):
        try:
            if "warm_parent" in " ".join(process.cmdline()):
                found += process.children()
        except psutil.NoSuchProcess:
            continue
    return found


def workers(driver: int) -> list[psutil.Process]:
    found = []
    for process in descendants(driver):
        try:
            if "ray::TrialWorker" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def assert_each_trial_finished_once(shell: Shell, trials: int = TRIALS) -> None:
    status = shell.json("status", "quick")
    assert status["state"] == "COMPLETE"
    assert sum(status["trials"].values()) == trials
    assert set(status["trials"]) <= {"COMPLETE", "PRUNED"}
    assert status["undelivered"] == 0
    client = MlflowClient(tracking_uri=f"sqlite:///{shell.folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("quick")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == trials + 1
    assert "RUNNING" not in {run.info.status for run in runs}
    numbers = Counter(run.data.tags["sweep.trial_number"] for run in runs if "sweep.trial_number" in run.data.tags)
    assert numbers == Counter(str(number) for number in range(trials))
    for run in runs:
        points = client.get_metric_history(run.info.run_id, "accuracy")
        assert len({point.step for point in points}) == len(points), "one value per step"


# Quick ones of these are in test_pain_01_killed_processes.py, on Ray too.
@pytest.mark.slow
@pytest.mark.parametrize("victim", ["trial process", "worker"])
def test_pain_01_a_killed_trial_process_or_worker_ends_the_attempt_not_the_trial(shell: Shell, victim: str) -> None:
    spec = shell.write_spec(trials=TRIALS, rows=240)
    driver = shell.start("run", str(spec))
    try:
        wait_for("a report", lambda: first_reports(shell))
        find = trial_processes if victim == "trial process" else workers
        found = wait_for(f"a {victim}", lambda: find(driver.pid), seconds=20)
        os.kill(found[0].pid, signal.SIGKILL)
        assert driver.wait(150) == 0, shell.errors()
    finally:
        end(driver)
    assert "lost" in shell.errors()
    assert_each_trial_finished_once(shell)


def test_pain_01_a_killed_driver_leaves_no_process_and_resume_finishes_every_trial_once(shell: Shell) -> None:
    spec = shell.write_spec(trials=TRIALS, rows=240)
    driver = shell.start("run", str(spec))
    try:
        wait_for("two reports", lambda: first_reports(shell, 2))
        family = descendants(driver.pid)
        assert trial_processes(driver.pid)
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
        wait_for("no process left", lambda: not [p for p in family if _lives(p)], seconds=45)
        status = shell.json("status", "quick")
        assert status["state"] == "PAUSED"
        assert "RUNNING" not in status["trials"]
    finally:
        end(driver)
    shell("resume", "quick")
    assert_each_trial_finished_once(shell)
    shell("resume", "quick", "--trials", str(TRIALS + 1))
    assert_each_trial_finished_once(shell, TRIALS + 1)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def test_ctrl_c_pauses_and_resume_goes_on_from_the_checkpoints(shell: Shell) -> None:
    spec = shell.write_spec(trials=TRIALS, rows=240)
    driver = shell.start("run", str(spec))
    try:
        wait_for("a report", lambda: first_reports(shell))
        family = descendants(driver.pid)
        os.killpg(driver.pid, signal.SIGINT)
        assert driver.wait(90) == 130, shell.errors()
        assert "sweep resume quick" in shell.errors()
        wait_for("no process left", lambda: not [p for p in family if _lives(p)], seconds=30)
    finally:
        end(driver)
    status = shell.json("status", "quick")
    assert status["state"] == "PAUSED"
    before = attempts(shell)
    assert before
    shell("resume", "quick")
    assert_each_trial_finished_once(shell)
    evaluated = Counter[tuple[int, int]]()
    for trial_number, lives in attempts(shell).items():
        for earlier, later in pairwise(lives):
            assert later.start == earlier.end, "nothing is trained twice"
            assert later.reports[0] == earlier.newest or not earlier.newest, "the newest report comes again"
        for life in lives:
            evaluated.update((trial_number, step) for step in life.reports if step != life.before)
    assert sum(len(lives) for lives in attempts(shell).values()) > TRIALS, "some trial was interrupted"
    assert evaluated == Counter((row["trial_number"], row["step"]) for row in _reports(shell))


@dataclass
class Life:
    """An attempt, by its trial's own log.

    Attributes:
        start: Step of the checkpoint it began from; 0 is none.
        end: Step it left or paused at.
        reports: Steps it reported.
        before: Newest step that was reported before it began.
    """

    start: int
    end: int
    reports: list[int]
    before: int = 0

    @property
    def newest(self) -> int:
        return max([self.before, *self.reports])


def attempts(shell: Shell) -> dict[int, list[Life]]:
    found: dict[int, list[Life]] = {}
    for path in (shell.folder / "mlruns/studies/quick/logs").glob("trial-*.log"):
        lives: list[Life] = []
        for text in re.split(r"(?=trial \d+, attempt \d+ on )", path.read_text(encoding="utf-8"))[1:]:
            start = re.search(r"from \S+/step-(\d+), seed", text)
            left = re.search(r"left at step (\d+)", text)
            reports = [int(step) for step in re.findall(r" step (\d+) \(", text)]
            begun = int(start[1]) if start else 0
            end = int(left[1]) if left else max(reports, default=begun)
            lives.append(Life(begun, end, reports, lives[-1].newest if lives else 0))
        found[int(path.stem.removeprefix("trial-"))] = lives
    return found


def _reports(shell: Shell) -> list[dict[str, int]]:
    rows = []
    for path in sorted((shell.folder / "mlruns/studies/quick/spool").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            start = line.find("{")
            record = json.loads(line[start : line.rfind("}") + 1])
            if record.get("kind") == "report":
                rows.append(record)
    assert rows
    steps = Counter((row["trial_number"], row["step"]) for row in rows)
    assert not [key for key, count in steps.items() if count > 1], "no step is trained or recorded twice"
    return rows


def test_stop_now_from_another_terminal_ends_the_driver_within_seconds(shell: Shell) -> None:
    spec = shell.write_spec(trials=TRIALS, rows=1200)
    driver = shell.start("run", str(spec))
    try:
        wait_for("trials", lambda: trial_processes(driver.pid) and (shell.folder / "mlruns/studies/quick").exists())
        wait_for("the driver to hold the study", lambda: shell.json("status", "quick")["driver"])
        shell("stop", "quick", "--now", "--wait", "40")
        driver.wait(40)
    finally:
        end(driver)
    assert shell.json("status", "quick")["state"] == "PAUSED"
