"""Rows in folds, and what a trial makes of them."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectives.data.folds import fold_of_rows, validation_folds
from objectives.data.preparation import PreparedData
from objectives.data.rows import Rows
from objectives.finetune.folded import summary
from objectives.tasks.causal_language_modeling import CausalLanguageModeling
from objectives.tasks.text_classification import TextClassification
from objectives.testing import tiny_file, tiny_model, tiny_rows, tiny_settings
from sweep.checkpoints import FolderKeeper, read_manifest
from sweep.domain import Report, TrainRequest, fold_metric, whole_fit_metric
from sweep.errors import InvalidDataError
from sweep.ports import LeftEarly
from tests.task_studies import folded_study, under_test

labels_of_rows = st.lists(st.sampled_from("abcd"), min_size=1, max_size=80)


def spread(counts: Counter[int], folds: int) -> int:
    found = [counts[fold] for fold in range(folds)]
    return max(found) - min(found)


@given(labels_of_rows, st.integers(2, 10), st.integers(0, 5))
def test_folds_and_their_classes_differ_by_one_row_at_most(labels: list[str], folds: int, seed: int) -> None:
    found = fold_of_rows(labels, range(len(labels)), folds, seed).tolist()
    assert set(found) <= set(range(folds))
    assert spread(Counter(found), folds) <= 1
    for label in set(labels):
        own = Counter(fold for fold, other in zip(found, labels, strict=True) if other == label)
        assert spread(own, folds) <= 1


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 12)), min_size=1, max_size=80), st.integers(2, 6))
def test_a_group_is_never_parted_and_classes_are_even_but_for_the_largest(
    rows: list[tuple[str, int]], folds: int
) -> None:
    groups = [group for _, group in rows]
    found = fold_of_rows([label for label, _ in rows], groups, folds, 0).tolist()
    places: dict[int, set[int]] = {}
    for group, fold in zip(groups, found, strict=True):
        places.setdefault(group, set()).add(fold)
    assert all(len(own) == 1 for own in places.values())
    one_class = fold_of_rows(["a"] * len(rows), groups, folds, 0).tolist()
    assert spread(Counter(one_class), folds) <= max(Counter(groups).values())


def test_folds_depend_on_the_seed_alone() -> None:
    labels = ["a", "b"] * 20
    first, again, other = (fold_of_rows(labels, range(40), 5, seed).tolist() for seed in (1, 1, 2))
    assert first == again != other


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "model")


def prepared(model: Path, rows: list[dict[str, str]], **data: Any) -> dict[str, Any]:
    file = tiny_file(model.parent / "train.jsonl", rows)
    settings = tiny_settings(model, file, **{"folds": 3, "validation_fraction": 0.1, **data})
    return dict(TextClassification().prepare(settings, model.parent / "prepared"))


def texts(found: dict[str, Any], fold: int, split: str) -> set[str]:
    data = PreparedData(folder=Path(found["folder"]), meta=PreparedData.open(Path(found["folder"])).meta, fold=fold)
    rows = data.rows(split)
    return {rows.tokens(row, 99).tobytes().hex() for row in range(len(rows))}


def test_each_row_is_validated_on_once_and_never_trained_on_then(model: Path) -> None:
    found = prepared(model, tiny_rows(60))
    assert found["rows"] == {"train": 48, "test": 12}
    assert found["folds"] == [16, 16, 16]
    everything = texts(found, 3, "train")
    assert texts(found, 3, "validation") == everything
    held_out = [texts(found, fold, "validation") for fold in range(3)]
    for fold, own in enumerate(held_out):
        assert texts(found, fold, "train") == everything - own
    assert set.union(*held_out) == everything
    assert all(not one & other for one, other in itertools.combinations(held_out, 2))


def test_a_folds_records_are_those_of_its_rows(model: Path) -> None:
    folder = Path(prepared(model, tiny_rows(60))["folder"])
    whole = PreparedData.open(folder)
    records, of_rows = list(whole.records("train")), np.load(folder / "train.fold.npy")
    for fold in range(3):
        data = PreparedData(folder=folder, meta=whole.meta, fold=fold)
        for split, chosen in (("validation", of_rows == fold), ("train", of_rows != fold)):
            assert list(data.records(split)) == list(itertools.compress(records, chosen))
            assert len(data.rows(split)) == chosen.sum()
            assert data.rows(split).split == split
    everything = PreparedData(folder=folder, meta=whole.meta, fold=3)
    assert list(everything.records("validation")) == list(everything.records("train")) == records


def test_rows_that_are_nearly_the_same_stay_in_one_fold(model: Path) -> None:
    rows = tiny_rows(30)
    found = Path(prepared(model, [*rows, *({**row, "text": f"{row['text'].upper()} !"} for row in rows)])["folder"])
    groups = [record["text"].lower().removesuffix(" !") for record in PreparedData.open(found).records("train")]
    places: dict[str, set[int]] = {}
    for group, fold in zip(groups, np.load(found / "train.fold.npy").tolist(), strict=True):
        places.setdefault(group, set()).add(fold)
    assert all(len(own) == 1 for own in places.values())


def test_rows_with_the_same_text_stay_in_one_fold(model: Path) -> None:
    rows = tiny_rows(60)
    doubled = [dict(row) for row in rows for _ in range(2)]
    found = prepared(model, doubled, test_fraction=0.0)
    for fold in range(3):
        assert not texts(found, fold, "validation") & texts(found, fold, "train")


def test_a_final_that_draws_its_rows_anew_draws_other_folds_of_the_same_rows(model: Path) -> None:
    first, again, other = (prepared(model, tiny_rows(60), **more) for more in ({}, {}, {"validation_seed": 7}))
    assert first["folder"] == again["folder"] != other["folder"]
    assert texts(first, 3, "train") == texts(other, 3, "train")
    assert first["test_hash"] == other["test_hash"]
    assert texts(first, 0, "validation") != texts(other, 0, "validation")


def test_what_cannot_be_parted_is_refused_and_a_rare_class_told(model: Path) -> None:
    with pytest.raises(InvalidDataError, match=r"2 different rows are too few for 3 folds.*lower data\.folds"):
        prepared(model, [dict(row) for row in tiny_rows(2) for _ in range(5)], test_fraction=0.0)
    given = str(tiny_file(model.parent / "validation.jsonl", tiny_rows(10, seed=1)))
    with pytest.raises(InvalidDataError, match=r"the validation rows are given.*Leave data\.folds out"):
        prepared(model, tiny_rows(60), validation=(given,))
    corpus = Rows(columns={"text": ["one", "two", "three"]}, origin="corpus.txt")
    with pytest.raises(InvalidDataError, match=r"corpus\.txt: running text is not parted.*Leave data\.folds out"):
        validation_folds(corpus, {"folds": 2, "split_seed": 0}, CausalLanguageModeling(), [])
    rare = [*tiny_rows(60), {"text": "n100 play", "label": "rare"}]
    told = prepared(model, rare, test_fraction=0.0)["warnings"]
    assert told == ["1 rare classes have no row in some of the 3 folds, so their errors there go unseen: 'rare'."]


def test_the_summary_is_the_mean_with_its_spread_and_an_interval_for_dependent_folds() -> None:
    scores = [{"accuracy": value, "loss": 1.0, "epoch": 2.0} for value in (0.7, 0.8, 0.9)]
    found = summary(scores, "accuracy")
    assert found["accuracy"] == pytest.approx(0.8)
    assert found["accuracy_spread"] == pytest.approx(0.1)
    half = 4.302653 * 0.1 * math.sqrt(1 / 3 + 1 / 2)  # t of 2 degrees of freedom
    assert (found["accuracy_low"], found["accuracy_high"]) == pytest.approx((0.8 - half, 0.8 + half))
    assert {name: value for name, value in found.items() if name.startswith("fold/")} == {
        "fold/accuracy": 0.9,
        "fold/loss": 1.0,
    }
    assert summary(scores[:1], "accuracy") == {**scores[0], "fold/accuracy": 0.7, "fold/loss": 1.0}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, TrainRequest, list[Report], int]:
    """A trial in three folds, and how often it asked whether to leave."""
    tested = under_test(folded_study(tmp_path_factory.mktemp("whole"), epochs=1, dropout=0.1))
    objective, request, asked = tested.create(), tested.request("-whole"), itertools.count()
    objective.leaving = lambda: next(asked) < 0
    return tested, request, list(objective.train(request)), next(asked)


def test_a_report_has_its_fold_and_the_mean_and_the_last_one_the_model_of_all_rows(whole: Any) -> None:
    _, request, reports, _ = whole
    assert [report.fidelity for report in reports] == [1.0, 2.0, 3.0]
    own = [report.metrics[fold_metric("accuracy")] for report in reports]
    for count, report in enumerate(reports, start=1):
        assert report.metrics["accuracy"] == pytest.approx(np.mean(own[:count]))
        # A third of 48 rows is left out: four batches of eight, two in each optimizer step.
        assert report.step == (2 * count if count < 3 else 2 * 3 + 3)
    assert [whole_fit_metric("accuracy") in report.metrics for report in reports] == [False, False, True]
    shown = sorted(path.name for path in Path(request.artifacts).iterdir())
    assert shown == ["fold-1", "fold-2", "fold-3"]


def test_every_fold_begins_with_the_same_weights(tmp_path: Path) -> None:
    tested = under_test(folded_study(tmp_path, epochs=1))
    objective = tested.create()
    begun = [objective._begin(tested.request(), part=part) for part in range(4)]  # type: ignore[attr-defined]
    first = begun[0][0].model.state_dict()
    for course, loop, _, _ in begun[1:]:
        assert loop.step == 0
        assert all(bool((value == first[name]).all()) for name, value in course.model.state_dict().items())


def test_wherever_it_leaves_it_goes_on_there_and_ends_alike(whole: Any) -> None:
    tested, _, reports, asked = whole
    for times in range(1, asked, 2):
        name, objective, count = f"-left-{times}", tested.create(), itertools.count()
        request = tested.request(name)
        objective.leaving = lambda count=count, times=times: next(count) >= times
        with pytest.raises(LeftEarly):
            list(objective.train(request))
        newest = FolderKeeper(lambda _, folder=Path(request.checkpoints): folder).newest(0)  # type: ignore[misc]
        again, counted = tested.create(), itertools.count()
        again.leaving = lambda counted=counted: next(counted) < 0
        after = list(again.train(tested.request(name, attempt=2, start_from=newest)))
        assert tested.steady(after[-1]) == tested.steady(reports[-1]), times
        files = [read_manifest(Path(str(one.checkpoint))).files for one in (after[-1], reports[-1])]
        weights = [{n: f.sha256 for n, f in found.items() if n.endswith("tensors")} for found in files]
        assert weights[0] == weights[1], times
        # An evaluation begins anew, at most; no step is taken twice.
        assert next(counted) <= asked - times + 2
