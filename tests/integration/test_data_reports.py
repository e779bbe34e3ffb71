"""A check tells of each task's data what a person would count, and warns of what would spoil the study."""

from __future__ import annotations

import json
import wave
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from objectives.loading import load_objective
from objectives.testing import tiny_file, tiny_rows
from sweep.cli.check import table
from sweep.cli.main import app
from sweep.errors import InvalidDataError
from sweep.spec.tasks import task_sheets
from tests.language_tasks import LESSONS, Lesson
from tests.task_studies import ROWS, question_rows, rare_rows, small_study, under_test

Facts = Mapping[str, Mapping[str, float]]


def checked(folder: Path, task: str, rows: Sequence[Mapping[str, Any]] = (), **more: Any) -> tuple[Facts, list[str]]:
    """Numbers by fact and split, and all warnings, of a study on a tiny model."""
    tested = under_test(small_study(folder, task, rows, **more))
    data = tested.create().prepare(tested.spec.objective_settings(), folder / "prepared")
    found = tested.create().check(tested.request())
    return _facts(found), [*data["warnings"], *found["warnings"]]


def learnt(lesson: Lesson, **changes: Any) -> tuple[Facts, list[str]]:
    """Likewise, of a lesson."""
    objective = load_objective(lesson.spec.objective.task)
    data = objective.prepare(lesson.settings, lesson.folder / "prepared")
    found = objective.check(lesson.request(data["folder"], "checked", **changes))
    return _facts(found), [*data["warnings"], *found["warnings"]]


def _facts(found: Mapping[str, Any]) -> Facts:
    json.dumps(found, allow_nan=False)
    return {fact["what"]: fact["values"] for fact in found["report"]}


def test_every_task_has_something_to_tell_of_its_example(tmp_path: Path) -> None:
    told = {}
    for task in ROWS:
        told[task], _ = checked(tmp_path / task, task)
    for name, kind in LESSONS.items():
        (tmp_path / name).mkdir()
        told[kind.task], _ = learnt(kind.written(tmp_path / name))
    assert set(told) == set(task_sheets())
    assert all(len(facts) >= 4 for facts in told.values())


def test_classes_and_lengths_of_texts_are_told_and_a_limit_that_cuts_is_warned_of(tmp_path: Path) -> None:
    rows = [{"text": " ".join(["song"] * (2 + number % 20)), "label": "ab"[number % 4 == 0]} for number in range(100)]
    facts, warnings = checked(tmp_path, "text-classification", rows, max_length=12)
    assert facts["label a"]["train"] == pytest.approx(0.75, abs=0.02)
    assert facts["tokens, longest"]["train"] == 23  # 21 words and the two tokens around them
    assert facts["rows beyond max_length 12"]["train"] == pytest.approx(11 / 20, abs=0.1)
    assert facts["max_length that holds 99 %"]["train"] == 23
    [warning] = [warning for warning in warnings if "max_length" in warning]
    assert warning.endswith("max_length: 23 holds 99 % of them.")
    assert facts["tokens unknown to the model"]["train"] == 0


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_classes_of_very_different_size_are_warned_of_unless_they_are_weighed(tmp_path: Path, weights: str) -> None:
    rows = [row for row in rare_rows(200) if row["label"] != "rare" or int(row["text"].split("n")[-1]) % 20 == 0]
    _, warnings = checked(tmp_path, "text-classification", rows, class_weights=weights)
    told = [warning for warning in warnings if "of very different size" in warning]
    assert len(told) == (weights == "none")
    assert all("class_weights: balanced" in warning and "macro_f1" in warning for warning in told)


def test_rows_that_differ_from_training_rows_in_case_and_punctuation_alone_are_warned_of(tmp_path: Path) -> None:
    rows = [{"text": f"Play song {number}!", "label": "ab"[number % 2]} for number in range(40)]
    tiny_file(tmp_path / "validation.jsonl", [
        {"text": "play  SONG 1", "label": "b"},
        {"text": "Play song 2!", "label": "a"},
        {"text": "play song 99", "label": "a"},
        {"text": "?!", "label": "a"},
    ])  # fmt: skip
    spec = small_study(tmp_path, "text-classification", rows)
    settings = spec.objective_settings()
    settings["data"] |= {"validation": [str(tmp_path / "validation.jsonl")], "test_fraction": 0.0}
    found = load_objective("text-classification").prepare(settings, tmp_path / "prepared")
    assert found["warnings"] == [
        "1 validation rows have a text that is also a training text: scores will flatter.",
        "1 validation rows differ from a training text in case, blanks or punctuation alone: scores will flatter.",
    ]


def test_several_labels_and_scores_are_counted(tmp_path: Path) -> None:
    several = [{"text": f"song n{number}", "label": ["a", "b"][: number % 3]} for number in range(90)]
    facts, _ = checked(tmp_path / "several", "multi-label-classification", several)
    assert facts["labels a row, mean"]["train"] == pytest.approx(1.0, abs=0.05)
    assert facts["rows without a label"]["train"] == pytest.approx(1 / 3, abs=0.05)
    assert facts["label a"]["train"] == pytest.approx(2 / 3, abs=0.05)
    scores = [{"text": f"song n{number}", "score": float(number)} for number in range(50)]
    facts, _ = checked(tmp_path / "scores", "text-regression", scores)
    ends = [facts["score, lowest"].values(), facts["score, highest"].values()]
    assert (min(ends[0]), max(ends[1])) == (0.0, 49.0)


def test_entities_are_counted_by_type_and_words_beyond_the_limit_by_share(tmp_path: Path) -> None:
    row = {"tokens": ["anna", "boris", "is", "in", "rome", "now"], "tags": ["B-PER", "I-PER", "O", "O", "B-LOC", "O"]}
    facts, _ = checked(tmp_path, "token-classification", [row] * 30, max_length=5)
    assert facts["entities, PER"]["train"] == facts["entities, LOC"]["train"] == 0.5
    assert facts["entities a row, mean"]["train"] == 2
    assert facts["words a row, mean"]["train"] == 6
    assert facts["words beyond max_length"]["train"] == 0.5  # five tokens hold three words


def test_answers_that_are_lost_are_told_with_the_setting_that_keeps_them(tmp_path: Path) -> None:
    rows = question_rows(40)
    words = " ".join(f"w{number}" for number in range(40))
    long = {"text": [" ".join(words.split()[8:28])], "answer_start": [words.index("w8 ")]}
    rows += [{"question": f"who n{number}", "context": words, "answers": long} for number in range(30)]
    facts, warnings = checked(tmp_path, "question-answering", rows, max_length=20, window_overlap=2, longest_answer=5)
    assert facts["answers that no window holds"]["train"] > 0.1
    assert facts["answers of more than 5 tokens"]["train"] > 0.1
    assert facts["questions on a context of train"]["validation"] > 0
    told = " ".join(warnings)
    assert "Set window_overlap: 20" in told
    assert "Set longest_answer: 20" in told
    assert "give data.validation" in told


def test_language_models_are_told_tokens_and_blocks(tmp_path: Path) -> None:
    lesson = LESSONS["causal"].written(tmp_path)
    facts, _ = learnt(lesson, packing=True)
    tokens = facts["tokens"]["train"]
    assert facts["blocks of 32 tokens"]["train"] == -(-(tokens - 1) // 32)
    assert 4 <= facts["tokens of a document, median"]["train"] <= facts["tokens of a document, longest"]["train"]


def test_sources_and_targets_of_translations_are_measured_apart(tmp_path: Path) -> None:
    facts, warnings = learnt(LESSONS["translation"].written(tmp_path), max_new_tokens=2)
    assert facts["tokens of a target, longest"]["train"] >= 3
    assert facts["rows beyond max_new_tokens 2"]["train"] > 0.3
    assert any("max_new_tokens" in warning and "holds 99 %" in warning for warning in warnings)


def test_sound_is_counted_in_seconds_and_recordings_too_short_for_ctc_are_told(tmp_path: Path) -> None:
    lesson = LESSONS["ctc"].written(tmp_path)
    table = tmp_path / "train.jsonl"
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    seconds = {row["audio"]: _seconds(tmp_path / row["audio"]) for row in rows}
    tiny_file(table, [{**row, "text": "high " * 30 if number < 30 else row["text"]} for number, row in enumerate(rows)])
    facts, warnings = learnt(lesson, beams=4)
    assert sum(facts["seconds of sound"].values()) == pytest.approx(sum(seconds.values()), rel=0.01)
    assert facts["seconds of a recording, longest"]["train"] == pytest.approx(max(seconds.values()))
    assert 0.1 < facts["recordings too short for their text"]["train"] < 0.5
    assert any("too short for their text by CTC" in warning for warning in warnings)
    assert any(warning.startswith("beams: without effect") for warning in warnings)


def test_a_check_needs_no_recording_any_more_once_the_data_is_prepared(tmp_path: Path) -> None:
    lesson = LESSONS["decoder"].written(tmp_path)
    whole, _ = learnt(lesson)
    seconds = sum(_seconds(file) for file in tmp_path.glob("*.wav"))
    for file in tmp_path.glob("*.wav"):
        file.unlink()
    folder = next((tmp_path / "prepared").glob("*/meta.json")).parent
    found = load_objective(lesson.spec.objective.task).check(lesson.request(str(folder), "again"))
    assert _facts(found) == whole
    assert sum(whole["seconds of sound"].values()) == pytest.approx(seconds, rel=0.01)


def _seconds(file: Path) -> float:
    with wave.open(str(file), "rb") as sound:
        return sound.getnframes() / sound.getframerate()


def test_recordings_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    lesson = LESSONS["ctc"].written(tmp_path)
    for number in (3, 4, 5):
        (tmp_path / f"{number}.wav").write_bytes(b"no sound")
    with pytest.raises(InvalidDataError, match=r"[123] of \d+ recordings cannot be heard; the first: .*wav: cannot be"):
        load_objective("speech-recognition").prepare(lesson.settings, tmp_path / "prepared")


def test_only_some_rows_of_a_long_split_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = checked(tmp_path / "whole", "text-classification", tiny_rows(400))
    monkeypatch.setattr("objectives.finetune.report.SAMPLE_ROWS", 50)
    part, _ = checked(tmp_path / "part", "text-classification", tiny_rows(400))
    assert part["label food"] == whole["label food"]
    assert np.isclose(part["tokens, median"]["train"], whole["tokens, median"]["train"], atol=2)


@pytest.mark.slow
def test_check_prints_the_table_and_says_what_a_task_needs_when_a_column_is_missing(tmp_path: Path) -> None:
    small_study(tmp_path, "token-classification")
    study = tmp_path / "study.yaml"
    study.write_text(
        "study: small\n"
        "objective:\n"
        "  task: token-classification\n"
        "  model: ./model\n"
        "  data: {train: train.jsonl, validation_fraction: 0.2}\n"
        "  training: {epochs: 1, max_length: 32, precision: fp32}\n"
        "search: {learning_rate: 1e-3..1e-2 log}\n"
    )
    result = CliRunner().invoke(app, ["check", str(study), "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["task"]["columns"] == {"tokens": "tokens", "tags": "tags"}
    [line] = [line for line in table(["train", "validation"], found["report"]) if "entities, PER" in line]
    assert line.count("%") == 2
    wrong = CliRunner().invoke(app, ["check", str(study), "--set", "objective.data.tags=labels"])
    assert "no column 'labels'" in str(wrong.exception)
    assert str(wrong.exception).splitlines()[-1] == (
        "token-classification reads tokens and tags, of csv, tsv, jsonl, json, parquet, conll, annotated files with "
        'rows such as {"tokens": ["anna", "is", "in", "rome"], "tags": ["B-PER", "O", "O", "B-LOC"]}.'
    )
