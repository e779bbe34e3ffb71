"""The end of a study: whatever becomes of the evaluation of its winner, it ends, and can be asked again."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sweep.ports import ModelKept, StudyOver
from sweep.tracking.spool import Entry, read_entries
from tests.integration.journey.conftest import LocalShell, Shell, end, wait_for

SPEC = """\
study: quick
objective:
  task: tests.fault.obstructed:Obstructed
  model: none
  training: {{steps: 6, obstacle: {obstacle}}}
search: {{learning_rate: 1e-3..1 log}}
budget: {{trials: 2}}
limits: {{evaluation_minutes: {minutes}}}
"""


@dataclass(frozen=True)
class Study:
    """A study whose winner's evaluation meets an obstacle."""

    shell: Shell
    spec: Path
    obstacle: Path

    def kept(self) -> list[ModelKept]:
        return [entry.record for entry in self._entries() if isinstance(entry.record, ModelKept)]

    def endings(self) -> list[str]:
        return [entry.record.state for entry in self._entries() if isinstance(entry.record, StudyOver)]

    def _entries(self) -> Iterable[Entry]:
        return read_entries(self.shell.folder / "mlruns/studies/quick/spool")

    def meets(self, what: str) -> None:
        self.obstacle.with_suffix(".met").unlink(missing_ok=True)
        self.obstacle.write_text(what)

    def met(self) -> bool:
        return self.obstacle.with_suffix(".met").exists()


def study_in(folder: Path, *, minutes: float = 60.0) -> Study:
    spec, obstacle = folder / "study.yaml", folder / "obstacle"
    spec.write_text(SPEC.format(obstacle=obstacle, minutes=minutes), encoding="utf-8")
    return Study(LocalShell(folder), spec, obstacle)


def test_a_study_ends_though_its_winner_cannot_be_evaluated_and_a_resume_tries_again(tmp_path: Path) -> None:
    study = study_in(tmp_path, minutes=1 / 60)

    def session_meets(obstacle: str, *arguments: str) -> str:
        study.meets(obstacle)
        told = study.shell(*arguments).stderr
        assert "warning: trial 0 has no score on the test split: " in told
        assert "`sweep resume quick` tries again" in told
        return told

    assert "took longer than 1 s and was ended" in session_meets("hang", "run", str(study.spec))
    assert {kept.trial_number for kept in study.kept()} == {0, 1}
    assert "ValueError: the judge is ill" in session_meets("fail", "resume", "quick")
    assert "gave {}, without 'accuracy'" in session_meets("nothing", "resume", "quick")
    assert all(kept.test is None for kept in study.kept())
    study.obstacle.unlink()
    again = study.shell("resume", "quick", "--evaluation-minutes", "5")
    assert "warning" not in again.stderr
    assert "test        accuracy" in again.stdout
    assert study.endings() == ["COMPLETE"] * 4
    assert any(kept.test is not None for kept in study.kept())


@pytest.mark.slow
def test_a_stop_during_the_evaluation_of_the_winner_ends_it_at_once_and_the_study_goes_on_later(
    tmp_path: Path,
) -> None:
    study = study_in(tmp_path)
    study.meets("hang")

    def interrupted(driver: subprocess.Popen[str], ask: Callable[[int], object]) -> None:
        try:
            wait_for("the evaluation", study.met)
            ask(driver.pid)
            assert driver.wait(30) == 130, study.shell.errors()
        finally:
            end(driver)

    interrupted(study.shell.start("run", str(study.spec)), lambda pid: os.kill(pid, signal.SIGINT))
    assert "stopped on request, before its winner was evaluated" in study.shell.errors()
    study.meets("hang")
    interrupted(study.shell.start("resume", "quick"), lambda pid: study.shell("stop", "quick"))
    assert study.endings() == ["PAUSED", "PAUSED"]
    assert "Traceback" not in study.shell.errors()
    study.obstacle.unlink()
    assert "test        accuracy" in study.shell("resume", "quick").stdout
    assert study.endings()[2:] == ["COMPLETE"]
