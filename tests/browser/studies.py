"""Studies of the quick objective to look at: real commands, history, checkpoints and tracker; no Ray."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweep.layout import StudyLayout
from sweep.spec import parse_spec
from sweep.spec.model import StudySpec
from tests import mlflow_server
from tests.local_sweep import LOCAL_SWEEP

SPEC = """\
study: {study}
objective:
  task: sweep.testing.checkpointing_objective:QuickObjective
  model: none
  data: bundled:tweets
  training: {{steps: 60, batch_size: 16, learning_rate: 0.003, weight_decay: 0.01, sleep_seconds: {sleep}}}
search:
  learning_rate: 1e-3..1.0 log
  dropout: 0..0.5
  batch_size: [4, 16, 64]
  weight_decay: {decays}
  seed: 3
  pruner: {pruner}
metric: {{name: accuracy, from: best}}
budget: {{trials: {trials}}}
resources: {{workers: 2}}
storage: mlruns
"""
ABSURD = "[1e-4, 1e-3, 1e-2, 0.1, 0.3, 1e+300]"
"""The last one makes trials diverge, so that MLflow is shown what is no number."""

VERDICT: dict[str, Any] = {
    "metric": {"name": "accuracy", "direction": "maximize"},
    "level": 0.05,
    "seeds": 3,
    "finalists": [
        {
            "label": f"trial {number}",
            "kind": "finalist" if number else "baseline",
            "trial_number": number,
            "hyperparameters": {},
            "search_score": 0.8 + 0.01 * rank,
            "scores": {"0": mean - 0.01, "1": mean, "2": mean + 0.01},
            "mean": mean,
            "spread": 0.01,
            "interval": [mean - 0.012, mean + 0.012],
            "rank": rank,
            "gain": None
            if number == 0
            else {
                "mean": mean - 0.72,
                "interval": [mean - 0.74, mean - 0.7],
                "p_value": 0.02,
                "probability_better": 0.98,
            },
            "optimism": None if number == 0 else 0.013,
            "dropped_after": None,
            "model_bytes": None,
            "latency_ms": None,
        }
        for rank, (number, mean) in enumerate([(3, 0.785), (5, 0.78), (0, 0.72)], 1)
    ],
    "winner": "trial 3",
    "tied": ["trial 3", "trial 5"],
    "is_significant": True,
    "probability_winner_beats_baseline": 0.98,
    "sentence": "Trial 3 beats the defaults by 0.065 on fresh seeds; trial 5 cannot be told apart from it.",
    "deploy": None,
    "test": {
        "opened_at": [1790000000.0],
        "winner": {"metrics": {"accuracy": 0.77}, "interval": [0.72, 0.82]},
        "baseline": {"metrics": {"accuracy": 0.7}, "interval": [0.64, 0.76]},
        "difference": {"mean": 0.07, "interval": [0.01, 0.12], "p_value": 0.01},
    },
}


def write_spec(
    folder: Path,
    study: str,
    *,
    trials: int,
    sleep: float = 0.0,
    pruner: str = "successive-halving",
    decays: str = "1e-4..0.5 log",
) -> StudySpec:
    text = SPEC.format(study=study, trials=trials, sleep=sleep, pruner=pruner, decays=decays)
    (folder / f"{study}.yaml").write_text(text, encoding="utf-8")
    return parse_spec(text, place=f"{study}.yaml", folder=folder)


def command(verb: str, *arguments: str) -> list[str]:
    return [*LOCAL_SWEEP, verb, *arguments]


def run_study(folder: Path, study: str, *, trials: int) -> StudySpec:
    """Run a study to its end."""
    spec = write_spec(folder, study, trials=trials, decays=ABSURD)
    result = subprocess.run(command("run", f"{study}.yaml"), cwd=folder, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stderr
    return spec


def write_verdict(layout: StudyLayout) -> None:
    (layout.folder / "verdict.json").write_text(json.dumps(VERDICT), encoding="utf-8")


@contextmanager
def running_study(folder: Path, study: str, *, trials: int, sleep: float) -> Iterator[StudySpec]:
    """A study that runs, each trial to its end; it is ended with the context."""
    spec = write_spec(folder, study, trials=trials, sleep=sleep, pruner="none")
    with (folder / f"{study}.log").open("w") as log:
        driver = subprocess.Popen(
            command("run", f"{study}.yaml"), cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
        try:
            yield spec
        finally:
            if driver.poll() is None:
                driver.send_signal(signal.SIGTERM)
            driver.wait(60)


@contextmanager
def served(folder: Path, study: str, **options: Any) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """`sweep ui` of a study: its address, and its process."""
    port = mlflow_server.free_port()
    arguments = [sys.executable, "-m", "sweep.cli.main", "ui", study, "--port", str(port)]
    with subprocess.Popen(
        arguments, cwd=folder, stdout=subprocess.PIPE, text=True, start_new_session=True, **options
    ) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert line.startswith("Sweep"), line
            yield f"http://127.0.0.1:{port}", server
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)


def until(condition: Callable[[], Any], what: str, seconds: float = 90) -> Any:
    """Wait for a condition, as long as a browser on a busy machine may take; returns what it gave."""
    return mlflow_server.until(condition, seconds, what)
