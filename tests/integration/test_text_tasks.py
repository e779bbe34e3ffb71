"""The tasks on texts learn what their rows have to teach, and read them in every form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from objectives.data.batching import Ragged, TokenRows
from objectives.data.files import read_files
from objectives.data.pairs import encode_pairs, model_inputs
from objectives.finetune.models import load_tokenizer
from objectives.tasks.multi_label_classification import MultiLabel
from objectives.tasks.text_classification import Classification
from objectives.testing import tiny_model
from sweep.errors import InvalidDataError, UserError
from sweep.spec.tasks import sheet_of
from tests.task_studies import ROWS, TEXTS, pair_rows, rare_rows, small_study, topic_rows, trained, under_test


def test_the_second_of_two_sentences_is_read(tmp_path: Path) -> None:
    rows = pair_rows(200)
    pairs = small_study(tmp_path / "pairs", "text-classification", rows, data="text_pair: text_pair")
    assert trained(pairs)["accuracy"] > 0.9
    first = small_study(tmp_path / "first", "text-classification", rows)
    assert trained(first)["accuracy"] < 0.75


def test_pairs_are_neither_altered_nor_served_as_if_they_were_one_text(tmp_path: Path) -> None:
    study = small_study(tmp_path, "text-classification", pair_rows(20), data="text_pair: text_pair", augment_swap=0.1)
    with pytest.raises(UserError, match=r"augment_swap: .*Leave it 0"):
        under_test(study).request()
    settings = {**study.settings({}), "data": study.objective_settings()["data"]}
    with pytest.raises(UserError, match="models of two texts cannot be served"):
        Classification().serving(settings)


@pytest.mark.parametrize("max_length", [6, 9, 12, 40])
def test_pairs_are_cut_late_as_the_tokenizer_cuts_them(tmp_path: Path, max_length: int) -> None:
    tokenizer = load_tokenizer(str(tiny_model(tmp_path, TEXTS)))
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    first = ["menu", "song band " * 3, "song " * 14, "menu dinner eat"]
    second = ["song " * 12, "menu " * 4, "eat", "band album"]
    encoded = encode_pairs(tokenizer, 40, first, second)
    ids = Ragged.of(encoded.ids, np.int32)
    rows = TokenRows(ids=ids.values, offsets=ids.offsets, labels=None, suffix=1, others=encoded.others)
    found = model_inputs(rows, np.arange(4), max_length, tokenizer.pad_token_id)
    wanted = tokenizer(first, second, truncation=True, max_length=max_length, padding=True, return_tensors="np")
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert found[name].tolist() == wanted[name].tolist()


def test_a_rare_class_is_found_more_often_when_classes_are_balanced(tmp_path: Path) -> None:
    found = {}
    for weights in ("none", "balanced"):
        spec = small_study(
            tmp_path / weights,
            "text-classification",
            rare_rows(300),
            class_weights=weights,
            learning_rate=3e-3,
            accumulation=1,
        )
        tested = under_test(spec)
        list(tested.create().train(tested.request()))
        report = Path(tested.request().artifacts) / "classification_report.json"
        classes = {entry["label"]: entry for entry in json.loads(report.read_text())["classes"]}
        found[weights] = classes["rare"]["recall"]
    assert found["balanced"] > found["none"] + 0.3


@pytest.mark.parametrize("task", sorted(ROWS))
def test_small_micro_batches_make_the_step_of_the_large_batch(tmp_path: Path, task: str) -> None:
    steps = {}
    weights = {"class_weights": "balanced"} if "class_weights" in sheet_of(task).settings else {}
    rows = rare_rows(80) if task == "text-classification" else ROWS[task](80)
    for name, sizes in {"large": (8, 1), "small": (2, 4)}.items():
        settings: dict[str, Any] = {"batch_size": sizes[0], "accumulation": sizes[1], "dropout": 0.0}
        spec = small_study(tmp_path / name, task, rows, train_rows=8, **settings, **weights)
        tested = under_test(spec)
        _, loop, *_ = tested.create()._begin(tested.request())  # type: ignore[attr-defined]
        # The same rows a step, however they are cut: one step takes all that are drawn.
        loop.advance(1)
        slopes = [state["exp_avg"].flatten() for state in loop.optimizer.state.values()]
        steps[name] = (loop.take_loss(), torch.cat(slopes))
    assert steps["small"][0] == pytest.approx(steps["large"][0], rel=1e-5)
    torch.testing.assert_close(steps["small"][1], steps["large"][1], rtol=1e-3, atol=1e-6)


def test_several_labels_are_learnt(tmp_path: Path) -> None:
    metrics = trained(small_study(tmp_path, "multi-label-classification", topic_rows(240), epochs=6, accumulation=1))
    assert metrics["subset_accuracy"] > 0.75  # the most frequent set makes about 0.3
    assert metrics["micro_f1"] > 0.85
    assert metrics["macro_f1"] > 0.85


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "a.jsonl",
            '{"text": "x", "label": ["b", "a", "b"]}\n{"text": "y", "label": []}\n{"text": "z", "label": "a"}\n',
        ),
        ("a.csv", "text,label\nx,b | a\ny,\nz,a\n"),
        ("a.csv", 'text,label\nx,"b, a"\ny,\nz,a\n'),
        ("a.tsv", "text\tlabel\nx\tb;a\ny\t\nz\ta\n"),
    ],
)
def test_labels_are_lists_or_separated_text(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    rows = read_files([str(tmp_path / name)], {"text": "text", "label": "label"}, MultiLabel().clean)
    assert rows["label"] == [("a", "b"), (), ("a",)]


def test_labels_with_blanks_in_them_are_one_label(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\nx,new york\n", encoding="utf-8")
    rows = read_files([str(tmp_path / "a.csv")], {"text": "text", "label": "label"}, MultiLabel().clean)
    assert rows["label"] == [("new york",)]


def test_rows_that_all_have_the_same_labels_are_refused(tmp_path: Path) -> None:
    rows = [{"text": f"n{i}", "label": ["a", "b"]} for i in range(20)]
    tested = under_test(small_study(tmp_path, "multi-label-classification", rows))
    with pytest.raises(InvalidDataError, match="all 20 rows have the same labels"):
        tested.prepared()


def test_a_second_text_that_is_missing_leaves_the_row_out() -> None:
    columns = {"text": ["a", "b"], "text_pair": ["c", None], "label": ["x", "y"]}
    rows = Classification().clean(columns, "here")
    assert (rows.records(), rows.dropped) == ([{"text": "a", "text_pair": "c", "label": "x"}], 1)
