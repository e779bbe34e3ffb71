"""Wrong specs, as a user would hand them in: one clear error, exit code 2, nothing written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep import objective_jobs
from sweep.errors import UserError
from sweep.execution.warm_client import WarmParent
from sweep.spec import load_spec

from .conftest import Shell

GOOD = """\
study: intents
objective:
  task: text-classification
  model: bundled:minilm-l6
  data: {train: train.csv, text: text, label: category, validation_fraction: 0.2}
  training: {epochs: 2, batch_size: 4, max_length: 16, keep_layers: [0, 5]}
search:
  learning_rate: 1e-5..3e-3 log
  dropout: 0..0.5
metric: {name: accuracy, direction: maximize, from: best}
budget: {trials: 2}
storage: mlruns
"""

SPEC_MISTAKES = {
    "unknown key": ("batch_size:", "batch_sise:", r"did you mean"),
    "unknown section": ("budget:", "bugdet:", r"did you mean"),
    "reversed range": ("1e-5..3e-3", "3e-3..1e-5", r"above"),
    "log range from zero": ("1e-5..3e-3", "0..3e-3", r"above 0"),
    "negative dropout": ("0..0.5", "-0.1..0.5", r"dropout"),
    "dropout of one": ("0..0.5", "0..1", r"dropout"),
    "missing file": ("train.csv", "trian.csv", r"trian\.csv"),
    "a file type we cannot read": ("train.csv", "train.docx", r"docx"),
    "unknown bundled model": ("minilm-l6", "minilm-l7", r"minilm-l6"),
    "no such model folder": ("bundled:minilm-l6", "./models/none", r"models/none"),
    "typo in the metric": ("name: accuracy", "name: acuracy", r"did you mean.*accuracy"),
    "wrong direction": ("direction: maximize", "direction: maximise", r"maximize"),
    "direction that does not fit": ("name: accuracy", "name: loss", r"minimize"),
    "no trials": ("trials: 2", "trials: 0", r"trials"),
    "trials in words": ("trials: 2", "trials: many", r"trials"),
    "unknown task": ("text-classification", "text-clasification", r"did you mean"),
    "unknown hyperparameter": ("dropout:", "dropuot:", r"did you mean"),
    "a name that leaves the storage": ("study: intents", "study: ../intents", r"study"),
    "batch size of zero": ("batch_size: 4", "batch_size: 0", r"batch_size"),
    "fraction of one": ("validation_fraction: 0.2", "validation_fraction: 1.0", r"validation_fraction"),
    "not YAML": ("study: intents", "study: [intents", r"study\.yaml:\d+"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = "".join(f"sentence number {i} says something,{'ab'[i % 2]}\n" for i in range(40))
    (tmp_path / "train.csv").write_text("text,category\n" + rows, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("mistake", SPEC_MISTAKES, ids=lambda mistake: mistake.replace(" ", "-"))
def test_a_wrong_spec_is_told_with_its_line_and_writes_nothing(folder: Path, mistake: str) -> None:
    right, wrong, told = SPEC_MISTAKES[mistake]
    (folder / "study.yaml").write_text(GOOD.replace(right, wrong, 1), encoding="utf-8")
    before = sorted(folder.rglob("*"))
    result = Shell(folder)("run", "study.yaml", expect=2)
    assert result.stdout == ""
    assert re.search(told, result.stderr, re.IGNORECASE | re.DOTALL), result.stderr
    assert re.search(r"study\.yaml:\d+:", result.stderr), result.stderr
    assert len(result.stderr.strip().splitlines()) == 1, "one problem, one line"
    assert sorted(folder.rglob("*")) == before


@pytest.fixture(scope="module")
def parent() -> Iterator[WarmParent]:
    with objective_jobs.warm_parent() as warm:
        yield warm


def write_rows(folder: Path, rows: list[tuple[str, str]], header: str = "text,category") -> None:
    lines = [header, *(f"{text},{label}" for text, label in rows)]
    (folder / "train.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def wrong_column(folder: Path) -> str:
    write_rows(folder, [("a b", "x"), ("c d", "y")] * 10, header="text,intent")
    return r"category.*intent|intent.*category"


def one_class_only(folder: Path) -> str:
    write_rows(folder, [(f"a {i}", "x") for i in range(20)])
    return r"one class|only.*class|single class|one label"


def empty_data(folder: Path) -> str:
    write_rows(folder, [])
    return r"no rows|empty"


def empty_file(folder: Path) -> str:
    (folder / "train.csv").write_text("", encoding="utf-8")
    return r"empty|no rows|no columns|header"


def wrong_encoding(folder: Path) -> str:
    (folder / "train.csv").write_bytes(b"text,category\ncaf\xe9,x\nth\xe9,y\n" * 10)
    return r"UTF-8|utf-8|encod"


def unknown_hub_model(folder: Path) -> str:
    text = GOOD.replace("bundled:minilm-l6", "nobody/no-such-model")
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    return r"nobody/no-such-model"


@pytest.mark.parametrize(
    "spoil",
    [wrong_column, one_class_only, empty_data, empty_file, wrong_encoding, unknown_hub_model],
    ids=lambda spoil: spoil.__name__.replace("_", "-"),
)
def test_wrong_data_or_model_is_told_before_any_trial(folder: Path, parent: WarmParent, spoil: object) -> None:
    (folder / "study.yaml").write_text(GOOD, encoding="utf-8")
    assert callable(spoil)
    told = spoil(folder)
    before = sorted(folder.rglob("*"))
    spec = load_spec(folder / "study.yaml")
    with pytest.raises(UserError) as caught:
        objective_jobs.prepare(spec, parent, objective_jobs.objective_settings(spec))
    assert re.search(told, str(caught.value), re.IGNORECASE), caught.value
    assert caught.value.exit_code == 2
    assert "Traceback" not in str(caught.value)
    assert sorted(folder.rglob("*")) == before


def test_the_command_line_tells_wrong_data_with_exit_code_two(folder: Path) -> None:
    (folder / "study.yaml").write_text(GOOD.replace("label: category", "label: categroy"), encoding="utf-8")
    result = Shell(folder)("run", "study.yaml", expect=2)
    assert "category" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (folder / "mlruns" / "studies").exists()


def test_all_problems_are_told_at_once(folder: Path) -> None:
    text = GOOD.replace("1e-5..3e-3", "3e-3..1e-5").replace("trials: 2", "trials: 0").replace("epochs:", "epohs:")
    (folder / "study.yaml").write_text(text, encoding="utf-8")
    result = Shell(folder)("check", "study.yaml", expect=2)
    assert len(result.stderr.strip().splitlines()) == 3
