"""Language and speech on real corpora: English prose everywhere, and others where they lie beside the repository."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
import yaml

from objectives.loading import load_objective
from objectives.testing import tiny_file
from sweep.domain import Report
from sweep.spec import parse_spec
from tests.language_tasks import SHAPES, Lesson

CORPORA = Path(__file__).parents[3] / "shared" / "data"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def _taught(
    folder: Path, task: str, shape: Mapping[str, Any], training: Mapping[str, Any], **data: Any
) -> list[Report]:
    (folder / "config.json").write_text(json.dumps(shape))
    objective: dict[str, Any] = {"task": task, "model": "random:config.json", "data": data}
    values = {
        "study": "corpus",
        "objective": {**objective, "training": {"precision": "fp32", "weight_decay": 0.0, **training}},
        "search": {"learning_rate": "1e-4..1e-1 log"},
    }
    lesson = Lesson(spec=parse_spec(yaml.safe_dump(values), place="study.yaml", folder=folder), folder=folder)
    prepared = load_objective(task).prepare(lesson.settings, folder / "prepared")
    return list(load_objective(task).train(lesson.request(str(prepared["folder"]), "corpus")))


def _corpus(name: str) -> Path:
    if not (CORPORA / name).is_dir():
        pytest.skip(f"{CORPORA / name} is not there: this corpus does not come with the repository")
    return CORPORA / name


def test_a_model_of_english_prose_is_better_than_word_counts(tmp_path: Path) -> None:
    rows = [{"text": text} for topic in sorted(topics)[:40] for text in topics[topic].split("\n\n") if text.strip()]
    tiny_file(tmp_path / "prose.jsonl", rows)
    training = {"steps": 150, "batch_size": 16, "max_length": 32, "learning_rate": 1e-2}
    first, *_, last = _taught(
        tmp_path, "causal-language-modeling", SHAPES["gpt2"], training, train="prose.jsonl", vocabulary_size=300
    )
    # By their frequencies alone, 70 tokens are as likely as one another.
    assert last.metrics["perplexity"] < 62 < first.metrics["perplexity"]


@pytest.mark.slow
def test_shakespeare_is_learnt(tmp_path: Path) -> None:
    text = (_corpus("tinyshakespeare") / "input.txt").read_text()
    (tmp_path / "plays.txt").write_text(text[:300_000])
    training = {"steps": 400, "batch_size": 16, "max_length": 64, "learning_rate": 5e-3}
    shape = {**SHAPES["gpt2"], "n_layer": 2, "resid_pdrop": 0.0}
    first, *_, last = _taught(
        tmp_path, "causal-language-modeling", shape, training, train="plays.txt", vocabulary_size=512
    )
    assert last.metrics["perplexity"] < 75 < first.metrics["perplexity"]


@pytest.mark.slow
def test_short_english_sentences_are_translated_into_chinese(tmp_path: Path) -> None:
    lines = (_corpus("tatoeba_en_zh") / "cmn.txt").read_text().splitlines()[:2000]
    tiny_file(tmp_path / "pairs.jsonl", [dict(zip(("text", "target"), x.split("\t"), strict=False)) for x in lines])
    training = {
        "steps": 600,
        "batch_size": 32,
        "max_length": 32,
        "learning_rate": 5e-3,
        "max_new_tokens": 16,
        "target_language": "zh",
    }
    first, *_, last = _taught(
        tmp_path, "translation", SHAPES["t5"], training, train="pairs.jsonl", vocabulary_size=1000
    )
    assert last.metrics["chrf"] > 3 > first.metrics["chrf"]
    assert last.metrics["loss"] < 0.6 * first.metrics["loss"]


@pytest.mark.slow
def test_spoken_digits_are_recognised(tmp_path: Path) -> None:
    files = sorted(_corpus("fsdd_subset").glob("*.wav"))
    for split, chosen in (("train", [f for f in files if f.stem[-1] != "0"]), ("validation", files[::5])):
        rows = [{"audio": str(file), "text": DIGITS[int(file.name[0])]} for file in chosen]
        tiny_file(tmp_path / f"{split}.jsonl", rows)
    shape = {**SHAPES["whisper"], "d_model": 64, "max_source_positions": 100, "num_mel_bins": 40, "dropout": 0.0}
    training = {"steps": 800, "batch_size": 8, "learning_rate": 2e-3, "max_new_tokens": 8}
    first, *_, last = _taught(
        tmp_path,
        "speech-recognition",
        shape,
        training,
        train="train.jsonl",
        validation="validation.jsonl",
        vocabulary_size=300,
    )
    # Always the same digit is wrong nine times in ten.
    assert last.metrics["wer"] < 0.5 < first.metrics["wer"]
