"""Data in many files: patterns, texts in folders by label, recordings in a folder with their table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from objectives.loading import load_objective
from objectives.testing import tiny_file, tiny_model, tiny_rows
from sweep.errors import InvalidDataError, InvalidSpecError
from sweep.spec import StudySpec, parse_spec, spec_from_resolved
from tests.language_tasks import SHAPES, recordings


def spec(folder: Path, data: str, task: str = "text-classification", model: str = "./model") -> StudySpec:
    length = ", max_length: 32" if task == "text-classification" else ""
    text = f"""
study: s
objective: {{task: {task}, model: '{model}', data: {{{data}}}, training: {{batch_size: 8{length}}}}}
search: {{learning_rate: 1e-3..1e-2 log}}
"""
    return parse_spec(text, place="study.yaml", folder=folder)


def prepared(study: StudySpec, folder: Path) -> Mapping[str, Any]:
    return load_objective(study.objective.task).prepare(study.objective_settings(), folder / "prepared")


def records(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    files = sorted(Path(found["folder"]).glob("*.texts.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_model(tmp_path / "model")
    return tmp_path


def test_a_pattern_stands_for_the_files_that_match_it(folder: Path) -> None:
    (folder / "shards" / "more").mkdir(parents=True)
    rows = tiny_rows(60)
    tiny_file(folder / "all.jsonl", rows)
    for number, name in enumerate(("0.jsonl", "1.jsonl", "more/2.jsonl")):
        tiny_file(folder / "shards" / name, rows[20 * number : 20 * number + 20])
    study = spec(folder, "train: 'shards/**/*.jsonl'")
    shards = [str(folder / "shards" / name) for name in ("0.jsonl", "1.jsonl", "more/2.jsonl")]
    assert list(study.objective.data.train) == shards
    assert spec_from_resolved(study.resolved()) == study
    assert records(prepared(study, folder)) == records(prepared(spec(folder, "train: all.jsonl"), folder))
    for data, told in (
        ("train: 'shards/*.csv'", r"train=shards/\*.csv matches no file \(/.*Paths start from the spec's folder"),
        (
            "train: 'shards/*.jsonl', validation: shards/1.jsonl",
            r"validation=shards/1.jsonl is already in objective.data",
        ),
        ("train: [shards/0.jsonl, 'shards/*.jsonl']", r"names /.*0.jsonl, which is already in objective.data.train"),
        ("train: shards", r"train=shards is a folder that holds no \*/\*.txt. Name a file in it, or a pattern such as"),
    ):
        with pytest.raises(InvalidSpecError, match=told):
            spec(folder, data)


def test_texts_in_folders_by_label_are_rows(folder: Path) -> None:
    rows = tiny_rows(60)
    for number, row in enumerate(rows):
        (folder / "texts" / row["label"]).mkdir(parents=True, exist_ok=True)
        (folder / "texts" / row["label"] / f"{number}.txt").write_text(row["text"])
    study = spec(folder, "train: texts")
    found = prepared(study, folder)
    assert found["labels"] == sorted({row["label"] for row in rows})
    by_text = {record["text"]: record["label"] for record in records(found)}
    assert by_text == {row["text"]: row["label"] for row in rows}
    assert spec_from_resolved(study.resolved()) == study

    (folder / "texts" / "food" / "empty.txt").write_text("\n")
    again = prepared(study, folder)
    assert again["data_hash"] != found["data_hash"]
    assert any("1 rows with an empty text" in warning for warning in again["warnings"])
    (folder / "texts" / "weather").rename(folder / "texts" / "weathers")
    assert prepared(study, folder)["data_hash"] != again["data_hash"]
    (folder / "secret.txt").write_text("not to be read")
    (folder / "texts" / "food" / "link.txt").symlink_to(folder / "secret.txt")
    with pytest.raises(InvalidDataError, match=r"link.txt: leads out of /.*texts. Copy the file"):
        prepared(study, folder)


def test_a_folder_of_recordings_with_their_table_is_read(tmp_path: Path) -> None:
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    rows = [{"file_name": row["audio"], "transcription": row["text"]} for row in recordings(sounds, 12)]
    tiny_file(sounds / "metadata.jsonl", rows)
    (tmp_path / "config.json").write_text(json.dumps(SHAPES["wav2vec2"]))
    study = spec(tmp_path, "train: sounds, text: transcription", "speech-recognition", "random:config.json")
    found = records(prepared(study, tmp_path))
    assert {(Path(row["audio"]).name, row["text"]) for row in found} == {
        (row["file_name"], row["transcription"]) for row in rows
    }
    (tmp_path / "0.wav").write_bytes((sounds / "0.wav").read_bytes())
    for name, told in (("../0.wav", "leads out of"), ("none.wav", r"row 1: 'none.wav' is no file in")):
        tiny_file(sounds / "metadata.jsonl", [{**rows[0], "file_name": name}, *rows[1:]])
        with pytest.raises(InvalidDataError, match=told):
            prepared(study, tmp_path)
    (sounds / "metadata.jsonl").unlink()
    with pytest.raises(InvalidSpecError, match=r"is a folder that holds no metadata.\*"):
        spec(tmp_path, "train: sounds", "speech-recognition", "random:config.json")
