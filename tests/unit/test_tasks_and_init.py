"""The tasks are listed from their literals, and what is begun for one is a spec that fits it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from objectives.testing import tiny_file
from sweep.cli.main import app
from sweep.spec import load_spec
from sweep.spec.tasks import sheet_of, task_sheets


def test_tasks_are_listed_with_columns_metrics_and_settings_without_heavy_libraries() -> None:
    code = (
        "import sys; from sweep.cli.main import app; app(['tasks', '--json'], standalone_mode=False); "
        "assert not {'torch', 'transformers', 'datasets', 'ray', 'optuna', 'mlflow'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = {entry["task"]: entry for entry in json.loads(done.stdout)}
    assert set(found) == set(task_sheets())
    entry = found["question-answering"]
    assert entry["columns"] == {"question": "question", "context": "context", "answers": "answers"}
    assert next(iter(entry["metrics"])) == "f1"
    assert entry["settings"]["longest_answer"]["default"] == 30
    assert all(set(each["example"]) <= set(each["columns"]) and each["example"] for each in found.values())
    assert all(setting["help"] for each in found.values() for setting in each["settings"].values())


def test_one_task_is_shown_in_full_and_a_wrong_name_is_corrected() -> None:
    result = CliRunner().invoke(app, ["tasks", "translation"])
    assert result.exit_code == 0
    for part in (
        "columns    text, target",
        "metric     chrf, maximize",
        "setting    beams: 1 (from 1, to 64)",
        '"good day"',
    ):
        assert part in result.stdout
    assert "Did you mean translation?" in str(CliRunner().invoke(app, ["tasks", "tranlation"]).exception)


@pytest.mark.parametrize("task", sorted(task_sheets()))
def test_what_init_writes_fits_the_task(task: str, tmp_path: Path) -> None:
    sheet = sheet_of(task)
    tiny_file(tmp_path / "rows.jsonl", [sheet.example])
    study = tmp_path / "mine.yaml"
    arguments = ["init", str(study), "--task", task, "--data", str(tmp_path / "rows.jsonl")]
    first = next(iter(sheet.columns))
    result = CliRunner().invoke(app, [*arguments, "--column", f"{first}=body"])
    assert result.exit_code == 0, result.output
    spec = load_spec(study)
    assert spec.objective.task == task
    assert spec.objective.model == sheet.model
    assert spec.objective.data.columns[first] == "body"
    assert spec.metric.name == next(iter(sheet.metrics))
    assert set(sheet.settings) == set(spec.objective.training.extra)
    text = study.read_text()
    assert not any(f"    {name}: " in text for name in sheet.unused)
    assert max(map(len, text.splitlines())) <= 110


def test_init_says_what_a_task_needs_where_there_is_no_data_for_it(tmp_path: Path) -> None:
    def told(*arguments: str) -> str:
        return str(CliRunner().invoke(app, ["init", str(tmp_path / "mine.yaml"), *arguments]).exception)

    assert "no bundled data for it. Name a file with --data; translation reads text and target" in told(
        "--task", "translation"
    )
    assert "Did you mean translation?" in told("--task", "translatoin")
    assert "score: is no column that text-classification reads. It reads text" in told("--column", "score=a")
    assert "is not PART=NAME" in told("--column", "score")
    assert not list(tmp_path.iterdir())
