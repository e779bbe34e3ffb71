"""``sweep compare``: two trials of a real study side by side, their answers from clean processes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sweep import objective_jobs
from sweep.checkpoints import model_folder
from sweep.cli.main import app
from sweep.deployment.export import export_model
from sweep.domain import MetricRule, ranked
from sweep.execution.warm_client import WarmParent
from sweep.finale import lineage_of
from sweep.redaction import Redactor
from sweep.selection import Finalist, judge
from sweep.selection.test_split import openings
from sweep.study_files import write_facts
from sweep.testing.checkpointing_objective import QuickObjective
from tests.quick_study import TASK, QuickStudy, parent

__all__ = ["parent"]


@pytest.fixture(scope="module")
def study(parent: WarmParent, tmp_path_factory: pytest.TempPathFactory) -> QuickStudy:
    study = QuickStudy(tmp_path_factory.mktemp("compared"), parent, ("keep=4",))
    study.session()
    spec = study.spec
    data = {**QuickObjective().prepare({"data": {"split_seed": 0}}, spec.layout.prepared), "model": "none"}
    write_facts(spec.layout, spec.resolved(), data, {})
    return study


@pytest.fixture(autouse=True)
def quick_parent(parent: WarmParent, monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs come from a parent that has imported what the quick objective needs, which is no torch."""

    @contextlib.contextmanager
    def at_hand() -> Iterator[WarmParent]:
        yield parent

    monkeypatch.setattr(objective_jobs, "warm_parent", at_hand)


def compared(study: QuickStudy, *arguments: str) -> Any:
    result = CliRunner().invoke(app, ["compare", *arguments, "--storage", str(study.storage), "--json"])
    assert result.exception is None, result.output
    return json.loads(result.stdout)


def extremes(study: QuickStudy) -> tuple[int, int]:
    order = ranked(study.trials, study.spec.rule)
    return order[0].number, order[-1].number


def test_two_trials_come_side_by_side_with_a_paired_test_and_the_rows_that_flip(study: QuickStudy) -> None:
    best, worst = extremes(study)
    found = compared(study, f"quick:{best}", f"quick:{worst}")
    first, second = found["sides"]
    (pair,) = found["pairs"]
    assert (first["label"], second["label"]) == (f"quick:{best}", f"quick:{worst}")
    assert set(found["differing"]) == {"learning_rate"}
    assert first["curve"][-1]["step"] == 40
    for side, model in zip((first, second), pair["models"], strict=True):
        assert model["metrics"]["accuracy"] == pytest.approx(side["recorded"]["accuracy"])
        assert model["interval"][0] <= model["metrics"]["accuracy"] <= model["interval"][1]
    gap = second["recorded"]["accuracy"] - first["recorded"]["accuracy"]
    assert pair["difference"]["mean"] == pytest.approx(gap)
    assert pair["difference"]["method"] == "mcnemar"
    assert (len(pair["better"]) - len(pair["worse"])) / 240 == pytest.approx(gap)
    assert all(row["predictions"][0] == row["label"] != row["predictions"][1] for row in pair["worse"])
    assert [row["label"] for row in pair["classes"][0]] == ["0", "1", "2"]
    assert openings(study.spec.layout) == []


def test_a_study_stands_for_its_winner_by_the_verdict_where_there_is_one(study: QuickStudy) -> None:
    best, worst = extremes(study)
    assert compared(study, "quick", "quick:0")["sides"][0]["label"] == f"quick:{best}"
    finalist = Finalist(label=f"trial {worst}", trial_number=worst, scores={0: 0.9})
    verdict = judge([finalist], MetricRule(name="accuracy", direction="maximize"))
    path = study.spec.layout.folder / "verdict.json"
    path.write_text(json.dumps(verdict.to_json()))
    try:
        assert compared(study, "quick", "quick:0")["sides"][0]["label"] == f"quick:{worst}"
    finally:
        path.unlink()


def test_an_export_is_compared_with_a_trial_and_without_its_study(study: QuickStudy, tmp_path: Path) -> None:
    best, worst = extremes(study)
    trial = study.trials[best]
    data = json.loads((study.spec.layout.folder / "data.json").read_text())
    lineage = lineage_of(
        study.spec, trial, data=data, environment={}, run_id=None, now=time.time(), redactor=Redactor(())
    )
    export_model(model_folder(Path(trial.checkpoint or "")), lineage, tmp_path / "export")
    found = compared(study, str(tmp_path / "export"), f"quick:{worst}")
    assert found["sides"][0]["curve"] == []
    assert found["pairs"][0]["difference"]["mean"] < 0
    elsewhere = QuickStudy(tmp_path, None)
    (tmp_path / "studies").mkdir()
    alone = compared(elsewhere, str(tmp_path / "export"), str(tmp_path / "export"), "--split", "test")
    assert alone["pairs"][0]["difference"]["p_value"] == 1.0
    assert "goes unrecorded" in alone["test_split"][0]


def test_each_look_at_the_test_split_is_recorded_and_counted_aloud(study: QuickStudy) -> None:
    arguments = ("quick:0", "quick:1", "--split", "test")
    assert compared(study, *arguments)["test_split"] == [
        "the test split of study 'quick' is opened for the first time."
    ]
    result = CliRunner().invoke(app, ["compare", *arguments, "--storage", str(study.storage)])
    assert "the test split of study 'quick' is opened for the second time." in result.stderr
    found = openings(study.spec.layout)
    assert [(one.reason, tuple(one.models)) for one in found] == [("compare", ("quick:0", "quick:1"))] * 2


def test_the_plain_text_says_the_same(study: QuickStudy) -> None:
    best, worst = extremes(study)
    result = CliRunner().invoke(app, ["compare", f"quick:{best}", f"quick:{worst}", "--storage", str(study.storage)])
    assert result.exit_code == 0
    for piece in (
        f"A  quick:{best}   accuracy ",
        "learning_rate",
        "On the validation split (240 rows)",
        "(McNemar's exact test)",
        "F1 by class",
        "rows worse than A",
    ):
        assert piece in result.stdout
    every = CliRunner().invoke(
        app, ["compare", f"quick:{best}", f"quick:{worst}", "--all", "--storage", str(study.storage)]
    )
    assert result.stdout.count(" · train–validation gap ") == 2
    best_of_all = CliRunner().invoke(app, ["best", "quick", "-k", "1", "--storage", str(study.storage)])
    assert "     train–validation gap " in best_of_all.stdout
    assert "batch_size" in every.stdout
    assert "batch_size" not in result.stdout


def test_no_secret_of_a_setting_is_shown(study: QuickStudy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shutil.copytree(study.storage / "studies", tmp_path / "studies")
    spec = tmp_path / "studies" / "quick" / "spec.yaml"
    spec.write_text(spec.read_text().replace("    batch_size: 16", "    batch_size: 16\n    own_token: ${OWN_TOKEN}"))
    monkeypatch.setenv("OWN_TOKEN", "hunter2-hunter2")
    result = CliRunner().invoke(app, ["compare", "quick:0", "quick:1", "--all", "--storage", str(tmp_path)])
    assert "own_token" in result.output
    assert "hunter2" not in result.output


def test_what_cannot_be_compared_says_why(study: QuickStudy, tmp_path: Path) -> None:
    lost = QuickStudy(tmp_path, None)
    shutil.copytree(study.storage / "studies", tmp_path / "studies")
    for reference, words in (
        ("quick:99", "has no trial 99"),
        ("quick:x", "'x' is no trial number"),
        ("nothing", "no study 'nothing'"),
    ):
        result = CliRunner().invoke(app, ["compare", reference, "quick:0", "--storage", str(tmp_path)])
        assert words in str(result.exception)
    result = CliRunner().invoke(app, ["compare", "quick:0"])
    assert "name at least two" in str(result.exception)
    data = tmp_path / "studies" / "quick" / "data.json"
    data.write_text(data.read_text().replace(str(study.storage), str(tmp_path)))
    (pair,) = compared(lost, "quick:0", "quick:1")["pairs"]
    assert "is gone" in pair["note"]


def test_the_command_does_it_by_itself(study: QuickStudy) -> None:
    best, worst = extremes(study)
    command = [sys.executable, "-m", "sweep.cli.main", "compare", f"quick:{best}", f"quick:{worst}"]
    result = subprocess.run(
        [*command, "--json", "--storage", str(study.storage)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=dict(os.environ),
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["pairs"][0]["difference"]["method"] == "mcnemar"


def test_answers_come_from_a_clean_process_and_none_from_an_objective_without_them(
    study: QuickStudy, parent: WarmParent
) -> None:
    trial = study.trials[0]
    where = {"model": model_folder(Path(trial.checkpoint or "")), "split": "validation", "settings": {}}
    data = json.loads((study.spec.layout.folder / "data.json").read_text())
    answers = objective_jobs.predict_model(parent, task=TASK, prepared=data["folder"], **where)
    assert answers is not None
    assert len(answers["row"]) == 240
    silent = "sweep.testing.toy_objectives:ToyObjective"
    assert objective_jobs.predict_model(parent, task=silent, prepared=data["folder"], **where) is None
