"""Looking at a real study while it runs: attempts that are killed, the live views, and the report of its end."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dashboards.charts import charts
from dashboards.charts.style import RED
from sweep.execution.local import LocalExecutor
from sweep.execution.warm_client import WarmParent
from sweep.ports import Event, Started
from sweep.study_view import StudyView, read_study
from sweep.tracking.reader import delivered
from tests.local_sweep import LOCAL_SWEEP
from tests.mlflow_server import no_constant
from tests.quick_study import QuickStudy
from tests.quick_study import parent as parent
from tests.written_history import spec_in, write_study

SPEC = """\
study: quick
objective:
  task: sweep.testing.checkpointing_objective:QuickObjective
  model: none
  training: {steps: 40, sleep_seconds: 0.04}
search: {learning_rate: 1e-3..1 log}
budget: {trials: 6}
resources: {workers: 2}
limits: {free_disk_gb: 0}
"""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
PATIENCE_SECONDS = 240.0


class Killing:
    """Kills the process of each trial's first attempt once it has begun."""

    def __init__(self, inner: LocalExecutor) -> None:
        self._inner = inner
        self.killed: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def wait(self, timeout_seconds: float) -> Sequence[Event]:
        events = self._inner.wait(timeout_seconds)
        for event in events:
            if isinstance(event, Started) and event.attempt == 1:
                self.killed.append(event.trial_number)
                os.kill(event.pid, signal.SIGKILL)
        return events


class Screen:
    """A terminal of 80 columns that remembers what was written to it."""

    def __init__(self) -> None:
        self._ours, self.theirs = pty.openpty()
        self.text = ""

    def read(self) -> None:
        while select.select([self._ours], [], [], 0)[0]:
            try:
                self.text += os.read(self._ours, 65536).decode(errors="replace")
            except OSError:
                return

    def shown(self) -> str:
        self.read()
        return ESCAPES.sub("", self.text)

    def close(self) -> None:
        os.close(self._ours)
        os.close(self.theirs)


def sweep(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "sweep.cli.main", *arguments]


def told(*arguments: str) -> str:
    done = subprocess.run(sweep(*arguments), capture_output=True, text=True, timeout=120, env=narrow())
    assert done.returncode == 0, done.stderr
    return done.stdout


def narrow() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "80", "LINES": "50", "TERM": "xterm"}


def test_attempts_that_are_really_killed_are_red_with_their_worker_and_cost_their_time(
    tmp_path: Path, parent: WarmParent
) -> None:
    study = QuickStudy(tmp_path, parent, ("budget.trials=2",))
    study.session(executor=Killing)
    view = read_study(study.spec)
    assert view.facts.counts.keys() <= {"COMPLETE", "PRUNED"}
    for trial in view.trials:
        lost, last = trial.spans[0], trial.spans[-1]
        assert (lost.end, lost.is_bad, lost.attempt) == ("LOST", True, 1)
        assert last.end in {"FINISHED", "STOPPED"}
        assert last.attempt == trial.attempts == 2
        assert lost.worker
        assert lost.ended_at is not None
        assert lost.began_at <= lost.ended_at <= last.began_at
        assert trial.setbacks[0].end == "LOST"
    bars = {trace["name"]: trace for trace in charts(view)["timeline"]["data"]}
    assert bars["lost"]["marker"]["color"] == RED
    assert len(bars["lost"]["x"]) == 2
    assert view.spend.lost_seconds > 0


def test_a_running_study_is_watched_from_outside_in_lines_of_json_and_on_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "quick.yaml").write_text(SPEC)
    screen = Screen()
    log = (tmp_path / "run.out").open("w")
    driver = subprocess.Popen(
        [*LOCAL_SWEEP, "run", "quick.yaml"],
        cwd=tmp_path,
        stdout=log,
        stderr=screen.theirs,
        env=narrow(),
    )
    processes, storage = [driver], tmp_path / "mlruns"
    until = time.monotonic() + PATIENCE_SECONDS
    try:
        while not (storage / "studies/quick/history/journal.log").exists():
            screen.read()
            assert driver.poll() is None, screen.shown()
            assert time.monotonic() < until
            time.sleep(0.05)
        watching = subprocess.Popen(
            sweep("watch", "quick", "--json", "--interval", "0.2", "--storage", str(storage)),
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(watching)
        while watching.poll() is None or driver.poll() is None:
            screen.read()
            assert time.monotonic() < until
            time.sleep(0.05)
        assert driver.returncode == 0, screen.shown()
        said = watching.communicate()[0]
        lines = [json.loads(line, parse_constant=no_constant) for line in said.splitlines()]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
                process.communicate()
        log.close()
    assert (lines[0]["kind"], lines[0]["state"]) == ("study", "RUNNING")
    assert (lines[-1]["kind"], lines[-1]["state"], lines[-1]["finished"]) == ("study", "COMPLETE", 6)
    over = [line["trial"] for line in lines if line["kind"] == "trial_over"]
    assert sorted(over) == sorted(set(over))
    assert len(over) + lines[0]["finished"] == 6
    evaluations = [(line["trial"], line["step"]) for line in lines if line["kind"] == "evaluation"]
    assert len(evaluations) == len(set(evaluations)) > 0
    shown = screen.shown()
    screen.close()
    for part in ("best there", "defaults", "spend", "RUNNING", "trials"):
        assert part in shown
    check_the_report_of_its_end(storage, read_study(spec_of(storage)))


def check_the_report_of_its_end(storage: Path, view: StudyView) -> None:
    own = storage / "studies/quick/report/report.html"
    made = delivered(spec_of(storage).layout)
    assert made.parent_run_id is not None
    (logged,) = storage.glob(f"artifacts/**/{made.parent_run_id}/artifacts/report/report.html")
    assert logged.read_bytes() == own.read_bytes()
    text = own.read_text()
    assert "<span class=pill>COMPLETE</span>" in text
    assert f"{view.facts.best_value:.4f}" in text
    pictures = {path.name.partition("-")[2] for path in logged.parent.glob("*.png")}
    assert {"learning_curves.png", "timeline.png", "score_by_learning_rate.png"} <= pictures
    assert not [path for path in own.parent.iterdir() if path.name.startswith(".")]


def spec_of(storage: Path) -> Any:
    from sweep.layout import StudyLayout
    from sweep.study_files import read_spec

    return read_spec(StudyLayout(storage, "quick"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("written")
    write_study(spec_in(folder, "budget.trials=30"), 30)
    return folder


def test_a_study_at_rest_is_shown_once_within_80_columns(written: Path) -> None:
    shown = told("watch", "written", "--once", "--storage", str(written))
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    for part in ("COMPLETE  30/30 trials", "best      trial", "defaults  trial 0", "pruning saved about", "full run"):
        assert part in shown
    rows = [line.split() for line in shown.splitlines()]
    assert ["1", "0.25", "30"] in [row[:3] for row in rows]
    best = next(row for row in rows if "★" in row)
    assert best[2] == "COMPLETE"


def test_a_study_at_rest_is_one_line_and_as_json_the_whole_view(written: Path) -> None:
    assert re.fullmatch(
        r"written COMPLETE 30/30 trials · best 0\.\d{4} \(trial \d+\) · defaults 0\.\d{4}\n",
        told("watch", "written", "--storage", str(written)),
    )
    view = json.loads(told("watch", "written", "--once", "--json", "--storage", str(written)))
    assert len(view["trials"]) == 30
    assert "***" not in json.dumps(view)


def test_the_report_verb_writes_where_it_is_told(written: Path, tmp_path: Path) -> None:
    said = told("report", "written", "--to", str(tmp_path / "r.html"), "--png", str(tmp_path / "p"), "--json",
                "--storage", str(written))  # fmt: skip
    assert json.loads(said)["report"] == str(tmp_path / "r.html")
    assert (tmp_path / "r.html").stat().st_size > 1_000_000
    assert len(list((tmp_path / "p").glob("*.png"))) >= 8
    refused = subprocess.run(
        sweep("report", "written", "--to", str(tmp_path), "--storage", str(written)), capture_output=True, text=True
    )
    assert refused.returncode == 2
    assert "is a folder" in refused.stderr


def test_watching_imports_no_library_that_trains_runs_or_records(written: Path) -> None:
    heavy = ("torch", "ray", "mlflow", "transformers", "datasets", "matplotlib", "plotly")
    code = (
        "import sys; from sweep.cli.main import app\n"
        f"sys.argv = ['sweep', 'watch', 'written', '--once', '--storage', {str(written)!r}]\n"
        "try: app()\nexcept SystemExit: pass\n"
        f"print('HEAVY', [name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"
