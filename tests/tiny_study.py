"""A whole study of a tiny classifier, driven as ``sweep run`` does it but on this host without Ray; in seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from objectives.testing import tiny_file, tiny_model, tiny_rows
from sweep import wiring
from sweep.execution.local import LocalExecutor
from sweep.execution.warm_client import WarmParent
from sweep.ports import Executor
from sweep.spec import parse_spec
from sweep.spec.model import StudySpec
from sweep.testing.doubles import SilentObserver

SPEC = """
study: {name}
objective:
  task: text-classification
  model: {folder}/base
  data: {{train: {folder}/rows.jsonl, validation_fraction: 0.2, test_fraction: 0.3, license: cc-by-4.0}}
  training: {{epochs: {epochs}, batch_size: 8, max_length: 16, precision: fp32, learning_rate: {rate}}}
search:
  learning_rate: {low}..{high} log
  pruner: none
metric: {{name: accuracy, from: best}}
budget: {{trials: {trials}}}
storage: {folder}/mlruns
"""


def materials(folder: Path, rows: int = 150) -> Path:
    """A base model and rows of three classes."""
    tiny_model(folder / "base")
    tiny_file(folder / "rows.jsonl", tiny_rows(rows))
    return folder


def tiny_spec(folder: Path, name: str, *overrides: str, good: bool = True, trials: int = 2) -> StudySpec:
    """A study over :func:`materials` whose models learn the task; or, unless ``good``, learn next to nothing."""
    values = {"epochs": 3, "rate": 1e-2, "low": "5e-3", "high": "2e-2"}
    if not good:
        values = {"epochs": 1, "rate": 1e-7, "low": "1e-8", "high": "1e-7"}
    text = SPEC.format(name=name, folder=folder, trials=trials, **values)
    return parse_spec(text, place="study.yaml", folder=folder, overrides=list(overrides))


def run(spec: StudySpec, note: Callable[[str], None] = lambda line: None) -> wiring.StudyResult:
    """Drive it to its end."""

    def local(spec: StudySpec, parent: WarmParent, *_: Any) -> Executor:
        return LocalExecutor(2, parent, spec.objective.task)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wiring, "start_executor", local)
        result = wiring.drive(spec, resuming=False, observer=SilentObserver(), note=note)
    assert result.loop.state == "COMPLETE"
    assert result.undelivered == 0
    return result


def sweep(folder: Path, *arguments: str, expect: int = 0, env: dict[str, str] | None = None) -> Any:
    """The real command line, in a folder that has ``mlruns``."""
    done = subprocess.run(
        [sys.executable, "-m", "sweep.cli.main", *arguments],
        cwd=folder,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == expect, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done
