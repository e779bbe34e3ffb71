"""Answers row by row give the metrics of the evaluation, intervals, paired tests and flipped examples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sweep.errors import SweepError, UserError
from sweep.ports import Columns, PredictingObjective
from sweep.selection.assessment import assess
from sweep.selection.predictions import (
    check_columns,
    class_scores,
    flips,
    numbers,
    predict_to,
    read_predictions,
    same_rows,
)
from sweep.spec import parse_spec
from sweep.testing.checkpointing_objective import QuickObjective
from sweep.testing.toy_objectives import ToyObjective
from tests.unit.test_quick_objective import SPEC


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quick")
    spec = parse_spec(SPEC, place="study.yaml", folder=folder)
    return Path(QuickObjective().prepare(spec.objective_settings(), folder)["folder"])


def weights_of_means(prepared: Path) -> Any:
    """A good classifier without training: nearest mean of the training rows."""
    table = load_file(prepared / "rows.safetensors")["train"]
    means = np.stack([table[table[:, -1] == label, :-2].mean(axis=0) for label in range(3)])
    return np.ascontiguousarray(np.vstack([means.T, -0.5 * (means**2).sum(axis=1)]) / 2.25)


@pytest.fixture(scope="module")
def models(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A good model, and one that knows half of the features."""
    folder = tmp_path_factory.mktemp("models")
    good = weights_of_means(prepared)
    half = good.copy()
    half[:4] = 0
    for name, weights in (("good", good), ("half", half)):
        (folder / name).mkdir()
        save_file({"weights": weights}, folder / name / "model.safetensors")
    return folder / "good", folder / "half"


def assessed(*models: Path, prepared: Path, folder: Path, objective: Any = None, metric: str = "accuracy") -> Any:
    rows = [{"model": str(model), "prepared": str(prepared), "settings": {}} for model in models]
    objective = QuickObjective() if objective is None else objective
    return assess(objective, "quick", rows, "validation", metric, 0.05, folder)


def test_one_model_gets_its_metrics_and_an_interval_around_them(
    prepared: Path, models: tuple[Path, Path], tmp_path: Path
) -> None:
    found = assessed(models[0], prepared=prepared, folder=tmp_path)
    (one,) = found["models"]
    assert one["metrics"] == pytest.approx(QuickObjective().evaluate(models[0], prepared, "validation", {}))
    assert one["interval"][0] < one["metrics"]["accuracy"] < one["interval"][1]
    assert (one["rows"], found["difference"], found["note"]) == (240, None, None)


def test_two_models_on_the_same_rows_get_mcnemars_test_for_accuracy(
    prepared: Path, models: tuple[Path, Path], tmp_path: Path
) -> None:
    found = assessed(*models, prepared=prepared, folder=tmp_path)
    good, half = (one["metrics"]["accuracy"] for one in found["models"])
    assert found["difference"]["mean"] == pytest.approx(good - half)
    assert good - half > 0.05
    assert found["difference"]["method"] == "mcnemar"
    assert found["difference"]["p_value"] < 0.01
    assert found["difference"]["interval"][0] > 0


def test_other_metrics_are_compared_by_permutation(prepared: Path, models: tuple[Path, Path], tmp_path: Path) -> None:
    found = assessed(*models, prepared=prepared, folder=tmp_path, metric="loss")
    assert found["difference"]["method"] == "permutation"
    assert found["difference"]["mean"] < 0
    assert found["difference"]["p_value"] < 0.01


def test_models_on_other_rows_get_no_paired_test(prepared: Path, models: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    table = load_file(prepared / "rows.safetensors")
    table["validation"] = table["validation"][::-1].copy()
    save_file(table, tmp_path / "elsewhere" / "rows.safetensors")
    rows = [{"model": str(models[0]), "prepared": str(p), "settings": {}} for p in (prepared, tmp_path / "elsewhere")]
    found = assess(QuickObjective(), "quick", rows, "validation", "accuracy", 0.05, tmp_path)
    assert found["difference"] is None
    assert "not evaluated on the same rows" in found["note"]
    assert all(one["interval"] for one in found["models"])


def test_an_objective_that_does_not_tell_its_answers_says_what_is_missing(tmp_path: Path) -> None:
    found = assessed(tmp_path, tmp_path, prepared=tmp_path, folder=tmp_path, objective=ToyObjective())
    assert [one["metrics"] for one in found["models"]] == [{"accuracy": 0.5}] * 2
    assert [one["interval"] for one in found["models"]] == [None, None]
    assert found["difference"] is None
    assert "give the objective `predict` and `metrics`" in found["note"]
    assert not predict_to(ToyObjective(), tmp_path, tmp_path, "validation", {}, tmp_path / "none.json")
    assert list(tmp_path.iterdir()) == []


class Sloppy(QuickObjective):
    def predict(self, model: Path, prepared: Path, split: str, settings: Mapping[str, Any]) -> Columns:
        return {**super().predict(model, prepared, split, settings), "loss": [float("nan")] * 240}


def test_answers_that_break_the_contract_are_refused(prepared: Path, models: tuple[Path, Path], tmp_path: Path) -> None:
    assert isinstance(Sloppy(), PredictingObjective)
    with pytest.raises(UserError, match="cannot be written as JSON"):
        assessed(models[0], prepared=prepared, folder=tmp_path, objective=Sloppy())
    with pytest.raises(UserError, match="not 'f1'"):
        assessed(models[0], prepared=prepared, folder=tmp_path, metric="f1")
    columns = QuickObjective().predict(models[0], prepared, "validation", {})
    with pytest.raises(UserError, match="columns score are missing"):
        check_columns({name: column for name, column in columns.items() if name != "score"})
    with pytest.raises(UserError, match="one entry a row"):
        check_columns({**columns, "text": ["one"]})
    with pytest.raises(SweepError, match="cannot be read"):
        read_predictions(tmp_path / "missing.json")


def table(label: list[Any], prediction: list[Any], probability: list[float | None] | None = None) -> Columns:
    rows = range(len(label))
    score = [float(one == other) for one, other in zip(label, prediction, strict=True)]
    sure = [0.5] * len(label) if probability is None else probability
    return {
        "row": list(rows),
        "text": [f"text {i}" for i in rows],
        "label": label,
        "prediction": prediction,
        "probability": sure,
        "score": score,
    }


def test_flipped_rows_are_told_each_way_the_surest_first() -> None:
    label = ["a", "b", "a", "b"]
    first = table(label, ["a", "a", "b", "b"], [0.6, 0.5, 0.9, 0.8])
    second = table(label, ["b", "b", "a", "b"], [0.7, 0.3, None, 0.8])
    better, worse = flips(first, second)
    assert [row["row"] for row in better] == [2, 1]
    assert [row["row"] for row in worse] == [0]
    assert worse[0] == {
        "row": 0,
        "text": "text 0",
        "label": "a",
        "predictions": ["a", "b"],
        "probabilities": [0.6, 0.7],
        "change": -1.0,
    }
    assert same_rows(first, second)
    assert not same_rows(first, table(["a", "b", "b", "b"], ["a"] * 4))


def test_scores_of_classes_are_for_answers_that_are_classes() -> None:
    rows = class_scores(table(["a", "a", "b", "b", "a", "a"], ["a", "b", "b", "b", "c", "a"]))
    assert rows is not None
    assert [(row["label"], row["support"]) for row in rows] == [("a", 4), ("b", 2), ("c", 0)]
    assert rows[0] == {"label": "a", "precision": 1.0, "recall": 1 / 2, "f1": 2 / 3, "support": 4}
    assert rows[1]["precision"] == pytest.approx(2 / 3)
    assert class_scores(table([1.5, 2.5, 1.0], [1.5, 2.0, 1.0])) is None
    assert class_scores(table(list("abcdef"), list("ghijkl"))) is None


def test_metrics_are_given_columns_of_numbers_alone() -> None:
    columns = {**table(["a", "b"], ["a", "a"], [None, 0.5]), "loss": [0.1, 2]}
    assert set(numbers(columns)) == {"row", "score", "loss"}
