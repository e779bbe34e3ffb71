"""A quick study on the bundled model and data, driven by the real command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.local_sweep import LOCAL_SWEEP

SPEC = """\
study: quick
objective:
  task: text-classification
  model: bundled:minilm-l6
  data: bundled:tweets
  training: {{epochs: 2, batch_size: 16, max_length: 32, keep_layers: [0, 5], train_rows: {rows}}}
search:
  learning_rate: 1e-5..1e-3 log
  dropout: 0..0.4
  weight_decay: 1e-4..0.3 log
  seed: 3
metric: {{name: accuracy, direction: maximize, from: best}}
budget: {{trials: {trials}}}
resources: {{workers: 2}}
storage: mlruns
"""

PATIENCE_SECONDS = 150


@dataclass(frozen=True)
class Shell:
    """Runs ``sweep`` in a folder, as a user would."""

    folder: Path
    patience_seconds: float = PATIENCE_SECONDS

    def write_spec(self, *, trials: int, rows: int = 160, name: str = "study.yaml") -> Path:
        path = self.folder / name
        path.write_text(SPEC.format(trials=trials, rows=rows), encoding="utf-8")
        return path

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "sweep.cli.main", *arguments]

    def __call__(self, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=self.patience_seconds,
        )
        assert result.returncode == expect, f"{arguments}: {result.returncode}\n{result.stdout}\n{result.stderr}"
        assert "Traceback" not in result.stderr
        return result

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json").stdout)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        log = (self.folder / "driver.err").open("a")
        with log:
            return subprocess.Popen(
                self.command(*arguments),
                cwd=self.folder,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def errors(self) -> str:
        return (self.folder / "driver.err").read_text(encoding="utf-8")


class LocalShell(Shell):
    """Without Ray."""

    def command(self, *arguments: str) -> list[str]:
        return [*LOCAL_SWEEP, *arguments]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A shell in a folder whose study ``quick`` of four trials is complete."""
    shell = Shell(tmp_path_factory.mktemp("finished"))
    shell("run", str(shell.write_spec(trials=4)))
    return shell


def wait_for(what: str, condition: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """Poll until the condition gives something true, and return it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds} s in vain: {what}")


def descendants(pid: int) -> list[psutil.Process]:
    """All processes below one, as far as they can be seen."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def end(process: subprocess.Popen[str]) -> None:
    """Kill a driver that a test left running."""
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
