"""Questions are answered by parts of their paragraphs, in windows that every token is in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from objectives.data.batching import Ragged
from objectives.data.files import read_files
from objectives.data.preparation import PreparedData
from objectives.finetune.answers import exact_match, token_f1
from objectives.finetune.models import load_tokenizer
from objectives.finetune.task import Frame
from objectives.tasks.question_answering import ExtractiveQuestionAnswering, QuestionAnswering, _best_span
from sweep.errors import InvalidDataError
from tests.task_studies import question_rows, small_study, trained, under_test

XQUAD = Path(__file__).parents[3] / "shared/data/xquad/xquad.en.json"
NAMES = {part: part for part in ("question", "context", "answers")}


def test_answers_are_found_in_paragraphs_longer_than_a_window(tmp_path: Path) -> None:
    settings = {"epochs": 5, "max_length": 24, "accumulation": 1, "window_overlap": 4, "evaluate_every": 5}
    metrics = trained(small_study(tmp_path, "question-answering", question_rows(300), **settings))
    assert metrics["exact_match"] > 0.9
    assert metrics["f1"] >= metrics["exact_match"]


@pytest.mark.parametrize(("max_length", "overlap"), [(10, 0), (10, 3), (12, 100), (64, 8)])
def test_windows_hold_each_token_and_the_answer_where_it_is_whole(
    tmp_path: Path, max_length: int, overlap: int
) -> None:
    spec = small_study(tmp_path, "question-answering", question_rows(30), max_length=64)
    data = PreparedData.open(Path(under_test(spec).prepared()["folder"]))
    settings = {"window_overlap": overlap}
    frame = Frame(data=data, settings=settings, max_length=max_length, batch_size=4, device=torch.device("cpu"))
    whole = data.rows("train")
    windows = QuestionAnswering().examples(whole, frame)
    assert windows.lengths(10**6).max() <= max_length
    tokenizer, records = load_tokenizer(spec.objective.model), list(data.records("train"))
    ids = Ragged(values=windows.ids, offsets=windows.offsets)
    answered = set()
    for row, record in enumerate(records):
        mine = np.flatnonzero(windows.others["row"] == row)
        covered: set[int] = set()
        for window in mine:
            places = windows.others["places"][int(window)].reshape(-1, 2)  # type: ignore[union-attr]
            covered |= {character for start, end in places for character in range(start, end)}
            first, last = windows.labels[window]
            if first:
                assert tokenizer.decode(ids[int(window)][first : last + 1]) == record["answers"]["text"][0]
                answered.add(row)
        assert covered == {i for i, c in enumerate(record["context"]) if c != " "}
    if overlap or max_length == 64:
        assert answered == set(range(len(records)))


@pytest.mark.parametrize(
    ("answer", "right", "exact", "f1"),
    [
        ("The cat.", ["cat"], 1.0, 1.0),
        ("black cat", ["the cat", "dog"], 0.0, 2 / 3),
        ("", [], 1.0, 1.0),
        ("cat", [], 0.0, 0.0),
        ("Bat", ["cat"], 0.0, 0.0),
    ],
)
def test_answers_are_scored_as_squad_scores_them(answer: str, right: list[str], exact: float, f1: float) -> None:
    assert (exact_match(answer, right), token_f1(answer, right)) == (exact, pytest.approx(f1))


def test_the_best_span_ends_behind_its_start_and_is_no_longer_than_allowed() -> None:
    starts, ends = np.array([0.0, 1.0, 9.0, 0.0]), np.array([9.0, 1.0, 0.0, 8.0])
    assert _best_span(starts, ends, 30) == (17.0, 2, 3)
    assert _best_span(starts, ends, 1) == (9.0, 0, 0)


def test_questions_without_an_answer_are_learnt_to_have_none(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = question_rows(240)
    for row in rows[::2]:
        row["question"], row["answers"] = "now", {"text": [], "answer_start": []}
    settings = {"epochs": 9, "accumulation": 1, "evaluate_every": 9, "max_length": 48}
    metrics = trained(small_study(tmp_path, "question-answering", rows, **settings))
    assert metrics["exact_match"] > 0.7


def test_squad_files_and_columns_give_the_same_rows(tmp_path: Path) -> None:
    answers = {"text": ["rome"], "answer_start": [8]}
    flat = {"question": "where", "context": "anna in rome", "answers": answers}
    nested = {"question": "where", "id": "1", "answers": [{"text": "rome", "answer_start": 8}]}
    article = {"title": "t", "paragraphs": [{"context": "anna in rome", "qas": [nested]}]}
    contents = {
        "squad.json": json.dumps({"version": "1.1", "data": [article]}),
        "flat.json": json.dumps([flat]),
        "flat.jsonl": json.dumps({**flat, "answers": ["rome"]}),
        "flat.csv": "question,context,answers\nwhere,anna in rome,rome\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        task = QuestionAnswering()
        rows = read_files([str(tmp_path / name)], NAMES, task.clean, task.formats)
        assert rows.records() == [flat], name


@pytest.mark.parametrize(
    ("answers", "needle"),
    [
        ({"text": ["rome"], "answer_start": [7]}, "does not stand at character 7 of its context"),
        (["oslo"], "'oslo' to 'where' does not stand in its context"),
        ({"text": ["rome"], "answer_start": ["8"]}, "row 1: the answers are"),
        (3, "row 1: the answers are 3"),
    ],
)
def test_answers_that_are_no_part_of_the_paragraph_are_refused(answers: Any, needle: str) -> None:
    columns = {"question": ["where"], "context": ["anna in rome"], "answers": [answers]}
    with pytest.raises(InvalidDataError, match=needle):
        QuestionAnswering().clean(columns, "here")


@pytest.mark.skipif(not XQUAD.is_file(), reason=f"the XQuAD data is not at {XQUAD}")
def test_xquad_is_prepared_with_every_answer_in_its_place(tmp_path: Path) -> None:
    spec = small_study(tmp_path, "question-answering")
    data = {**spec.objective_settings()["data"], "train": [str(XQUAD)]}
    summary = ExtractiveQuestionAnswering().prepare({**spec.objective_settings(), "data": data}, tmp_path / "prepared")
    assert sum(summary["rows"].values()) == 1190
    rows = PreparedData.open(Path(summary["folder"])).rows("train")
    assert (rows.labels[:, 0] <= rows.labels[:, 1]).all()
    assert (rows.labels[:, 1] < np.diff(rows.offsets)).all()
