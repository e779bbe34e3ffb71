"""From a spec to a deployable checkpoint, by the command line, on a real model and real data."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from .conftest import Shell

SCORE_WITH_PLAIN_TRANSFORMERS = """
import json, sys
import numpy as np, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
folder, texts, labels, max_length = sys.argv[1], *map(json.loads, sys.argv[2:5])
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
tokenizer = AutoTokenizer.from_pretrained(folder)
hits = 0
with torch.no_grad():
    for text, label in zip(texts, labels):
        batch = tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")
        hits += model.config.id2label[int(model(**batch).logits.argmax())] == label
print(hits / len(texts))
"""


def runs_of(shell: Shell) -> tuple[MlflowClient, list[Run]]:
    client = MlflowClient(tracking_uri=f"sqlite:///{shell.folder}/mlruns/mlflow.db")
    experiments = client.search_experiments()
    assert [e.name for e in experiments] == ["quick"]
    return client, list(client.search_runs([experiments[0].experiment_id]))


def test_status_and_best_tell_the_study(finished: Shell) -> None:
    status = finished.json("status", "quick")
    assert status["state"] == "COMPLETE"
    assert sum(status["trials"].values()) == status["budget"]["trials"] == 4
    assert set(status["trials"]) <= {"COMPLETE", "PRUNED"}
    assert status["undelivered"] == 0
    best = finished.json("best", "quick", "-k", "10")
    assert best[0] == status["best"]
    assert {"trial_number", "value", "hyperparameters", "state", "run_id", "checkpoint", "test"} <= best[0].keys()
    assert [row["value"] for row in best] == sorted((row["value"] for row in best), reverse=True)
    assert best[0]["test"]["accuracy"] > 0.5
    assert Path(best[0]["checkpoint"]).is_dir()


def test_trial_zero_holds_the_defaults(finished: Shell) -> None:
    baseline = finished.json("status", "quick")["baseline"]
    assert baseline["trial_number"] == 0
    assert baseline["hyperparameters"] == {"learning_rate": 5e-05, "dropout": 0.1, "weight_decay": 0.01}


def test_mlflow_holds_one_experiment_one_parent_and_a_run_for_each_trial(finished: Shell) -> None:
    client, runs = runs_of(finished)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(parents) == 1
    assert parents[0].info.status == "FINISHED"
    assert len(children) == 4
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parents[0].info.run_id}
    assert Counter(run.data.tags["sweep.trial_number"] for run in children) == Counter("0123")
    for run in children:
        assert run.data.tags["sweep.study"] == "quick"
        assert run.data.tags["sweep.state"] in {"COMPLETE", "PRUNED"}
        assert run.info.status != "RUNNING"
        assert {"learning_rate", "dropout", "weight_decay"} <= run.data.params.keys()
        history = client.get_metric_history(run.info.run_id, "accuracy")
        steps = [point.step for point in history]
        assert steps
        assert steps == sorted(set(steps))
        files = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert any("log" in name for name in files), files
        assert any("curve" in name for name in files), files


def test_mlflow_and_the_study_name_the_same_winner(finished: Shell) -> None:
    _client, runs = runs_of(finished)
    best = finished.json("best", "quick", "-k", "10")
    ranks = {run.data.tags.get("sweep.rank"): run.info.run_id for run in runs}
    assert [ranks[str(rank)] for rank in range(1, len(best) + 1)] == [row["run_id"] for row in best]
    assert [run.info.run_id for run in runs if run.data.tags.get("sweep.best") == "true"] == [best[0]["run_id"]]
    mlflow.set_tracking_uri(f"sqlite:///{finished.folder}/mlruns/mlflow.db")
    models = mlflow.search_logged_models(
        experiment_ids=[runs[0].info.experiment_id],
        order_by=[{"field_name": "metrics.accuracy", "ascending": False}],
        output_format="list",
    )
    assert models[0].tags["sweep.trial_number"] == str(best[0]["trial_number"])


def test_an_export_scores_the_same_with_plain_transformers_in_another_process(finished: Shell) -> None:
    finished("export", "quick", "--to", "exported")
    best = finished.json("best", "quick")[0]
    rows = rows_of_the_test_split(finished)
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            SCORE_WITH_PLAIN_TRANSFORMERS,
            str(finished.folder / "exported"),
            json.dumps([row["text"] for row in rows]),
            json.dumps([row["label"] for row in rows]),
            "32",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(result.stdout) == pytest.approx(best["test"]["accuracy"], abs=1e-6)
    assert "reproduces its recorded scores" in finished("verify", "exported").stdout


def rows_of_the_test_split(shell: Shell) -> list[dict[str, Any]]:
    data = json.loads((shell.folder / "mlruns/studies/quick/data.json").read_text(encoding="utf-8"))
    lines = (Path(data["folder"]) / "test.texts.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_verify_notices_a_changed_weight_and_a_wrong_record(finished: Shell, tmp_path: Path) -> None:
    finished("export", "quick", "--to", str(tmp_path / "weights"))
    weights = tmp_path / "weights" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "differs from its recorded sha256" in finished("verify", str(tmp_path / "weights"), expect=1).stderr
    finished("export", "quick", "--to", str(tmp_path / "record"))
    lineage = json.loads((tmp_path / "record" / "sweep.json").read_text(encoding="utf-8"))
    lineage["validation"]["accuracy"] += 0.01
    (tmp_path / "record" / "sweep.json").write_text(json.dumps(lineage), encoding="utf-8")
    assert "does not reproduce" in finished("verify", str(tmp_path / "record"), expect=1).stderr


def test_a_name_that_is_taken_is_refused_and_nothing_changes(finished: Shell) -> None:
    before = finished.json("status", "quick")
    assert "already exists" in finished("run", "study.yaml", expect=2).stderr
    assert finished.json("status", "quick") == before


def test_a_study_is_found_by_name_from_another_folder(finished: Shell, tmp_path: Path) -> None:
    elsewhere = Shell(tmp_path)
    assert elsewhere.json("best", "quick", "--storage", str(finished.folder / "mlruns"))[0]["state"] == "COMPLETE"
