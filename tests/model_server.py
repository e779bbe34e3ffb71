"""Stock MLflow serving a registered model, and what plain transformers says of the same texts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.mlflow_server import free_port, until


def by_transformers(model: Path, texts: list[str], *, max_length: int) -> list[dict[str, float]]:
    classifier = AutoModelForSequenceClassification.from_pretrained(model).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    answers = []
    for text in texts:
        batch = tokenizer(
            text, truncation=True, max_length=max_length, return_token_type_ids=False, return_tensors="pt"
        )
        with torch.no_grad():
            row = classifier(**batch).logits[0].softmax(-1)
        answers.append({classifier.config.id2label[number]: float(value) for number, value in enumerate(row)})
    return answers


def check_answers(rows: list[dict[str, Any]], wanted: list[dict[str, float]]) -> None:
    assert len(rows) == len(wanted)
    for row, probabilities in zip(rows, wanted, strict=True):
        assert row["label"] == max(probabilities, key=probabilities.__getitem__)
        assert row["probability"] == pytest.approx(probabilities[row["label"]], abs=1e-5)
        assert row["probabilities"] == pytest.approx(probabilities, abs=1e-5)


@contextmanager
def served(uri: str, tracking: str, folder: Path) -> Iterator[Callable[[Any], Any]]:
    """A real ``mlflow models serve``, started where Sweep cannot be imported."""
    port = free_port()
    command = [sys.executable, "-P", "-m", "mlflow", "models", "serve", "-m", uri, "--env-manager", "local"]
    # MLflow leaves in the environment which registry a test of this process used.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHONPATH", "MLFLOW_"))}
    environment |= {"MLFLOW_TRACKING_URI": tracking, "MLFLOW_DISABLE_TELEMETRY": "true"}
    # A package of that name which breaks: whoever imports the real one by accident is found out.
    (folder / "sweep").mkdir(parents=True)
    (folder / "sweep" / "__init__.py").write_text("raise ImportError('not installed here')", encoding="utf-8")
    environment["PYTHONPATH"] = str(folder)
    # MLflow starts uvicorn by its name.
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    with (folder / "serve.log").open("ab") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )

    def answers() -> bool:
        assert process.poll() is None, (folder / "serve.log").read_text(encoding="utf-8")[-3000:]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5):
                return True
        except (urllib.error.URLError, OSError):
            return False

    def ask(body: Any) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())["predictions"]

    try:
        until(answers, 200, "the model is served")
        yield ask
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
