from __future__ import annotations

import json
from pathlib import Path

import pytest

from sweep import objective_jobs
from sweep.cli.lr_find import _lines
from sweep.study_files import read_spec
from tests.tiny_study import materials, run, sweep, tiny_spec

SPEC = """
study: rates
objective:
  model: {folder}/base
  data: {{train: {folder}/rows.jsonl}}
  training: {{epochs: 3, batch_size: 8, max_length: 16, precision: fp32}}
search: {{learning_rate: auto}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return materials(tmp_path_factory.mktemp("rates"))


def test_the_command_finds_a_range_and_draws_it_and_leaves_no_study(folder: Path) -> None:
    (folder / "study.yaml").write_text(SPEC.format(folder=folder), encoding="utf-8")
    refused = sweep(folder, "lr-find", "study.yaml", "--output", "rates.jpg", expect=2)
    assert "rates.jpg: is no .png or .html file in a folder that exists" in refused.stderr
    found = json.loads(sweep(folder, "lr-find", "study.yaml", "--json", "--output", "rates.html").stdout)
    assert 1e-6 < found["low"] < found["high"] < 1
    assert found["study"] == "rates"
    assert "Learning-rate range test" in (folder / "rates.html").read_text(encoding="utf-8")
    assert not (folder / "mlruns/studies").exists()
    lines = _lines(found)
    assert lines[-1] == f"  learning_rate: {found['low']:g}..{found['high']:g} log"
    assert sum("← searched" in line for line in lines) >= 2


def test_a_study_searches_the_range_that_it_finds_when_it_begins_and_keeps_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tests: list[str] = []
    find = objective_jobs.find_learning_rate

    def counted(spec: object, *rest: object) -> dict[str, object]:
        tests.append("ran")
        return find(spec, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(objective_jobs, "find_learning_rate", counted)
    spec = tiny_spec(folder, "auto", "search.learning_rate=auto", "search.weight_decay=0.05..0.2")
    assert spec.search.finds_rate
    told: list[str] = []
    result = run(spec, told.append)
    rows = result.data["rows"]
    assert told[:2] == [
        "starting workers, preparing data",
        f"data ready: train {rows['train']}, validation {rows['validation']}, test {rows['test']} rows",
    ]
    assert any(line.startswith("warning: trial 0 takes weight_decay 0.05: the built-in") for line in told)
    stored = read_spec(spec.layout, needed=None)
    assert not stored.search.finds_rate
    space = stored.search.space["learning_rate"]
    assert (space.low, space.high) == tuple(result.data["learning_rate"].values())  # type: ignore[union-attr]
    assert 1e-6 < space.low < space.high < 1  # type: ignore[union-attr]
    drawn = [trial.hyperparameters["learning_rate"] for trial in result.trials]
    assert drawn[0] == 1e-2  # the defaults, as written
    assert space.low <= drawn[1] <= space.high  # type: ignore[union-attr, operator]
    assert tests == ["ran"]
    refused = sweep(folder, "export", "auto", "--to", "out", "--adapter", expect=2)
    assert "this model is no adapter" in refused.stderr
