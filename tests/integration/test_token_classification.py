"""Entities are learnt, scored as seqeval scores them, and read from CoNLL files and columns."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from seqeval.metrics import f1_score, precision_score, recall_score

from objectives.data.conll import read_conll
from objectives.data.files import read_files
from objectives.data.preparation import PreparedData
from objectives.finetune.entities import entities
from objectives.finetune.models import load_tokenizer
from objectives.tasks.token_classification import Examination, Tagging, TokenClassification
from sweep.errors import InvalidDataError
from tests.task_studies import entity_rows, small_study, trained, under_test

WNUT = Path(__file__).parents[3] / "shared/data/wnut17"
NAMES = {"tokens": "tokens", "tags": "tags"}


def test_entities_are_learnt_and_shown_by_type(tmp_path: Path) -> None:
    spec = small_study(tmp_path, "token-classification", entity_rows(300), epochs=6)
    assert trained(spec)["entity_f1"] > 0.85
    report = json.loads((Path(under_test(spec).request().artifacts) / "classification_report.json").read_text())
    assert [entry["label"] for entry in report["classes"]] == ["LOC", "PER"]
    assert all(entry["f1"] > 0.7 and entry["support"] > 10 for entry in report["classes"])


def test_scores_are_those_of_seqeval() -> None:
    draw = np.random.default_rng(0)
    tags = ["O", "B-x", "I-x", "B-y", "I-y"]
    rows = [[[str(tag) for tag in draw.choice(tags, 9)] for _ in range(50)] for _ in range(2)]
    sums = {name: np.ones(50) for name in ("losses", "targets")}
    found = Examination(right=rows[0], given=rows[1], sums=sums).metrics
    assert found["entity_f1"] == pytest.approx(f1_score(*rows))
    assert found["entity_precision"] == pytest.approx(precision_score(*rows))
    assert found["entity_recall"] == pytest.approx(recall_score(*rows))


def test_tags_without_prefixes_mark_words_one_by_one() -> None:
    assert entities(["NOUN", "O", "VERB", "VERB"]) == [("NOUN", 0, 0), ("VERB", 2, 2), ("VERB", 3, 3)]


def test_the_first_sub_word_has_the_tag_and_the_others_none(tmp_path: Path) -> None:
    rows = [{"tokens": ["play-song", "rain,", "now"], "tags": ["B-x", "O", "O"]}] * 20
    spec = small_study(tmp_path, "token-classification", rows)
    data = PreparedData.open(Path(under_test(spec).prepared()["folder"]))
    train = data.rows("train")
    tokens = load_tokenizer(spec.objective.model).convert_ids_to_tokens(train.tokens(0, 32).tolist())
    assert len(tokens) == 8, tokens  # [CLS] play - song rain , now [SEP]
    assert data.labels == ["O", "B-x"]
    assert train.labels[0].tolist() == [-100, 1, -100, -100, 0, -100, 0, -100]


def test_words_beyond_the_length_count_as_missed(tmp_path: Path) -> None:
    rows = [{"tokens": ["the"] * 12 + ["anna"], "tags": ["O"] * 12 + ["B-PER"]}] * 40
    metrics = trained(small_study(tmp_path, "token-classification", rows, max_length=8, epochs=1))
    assert metrics["entity_recall"] == 0.0
    assert metrics["token_accuracy"] < 1.0


def test_conll_files_and_columns_give_the_same_rows(tmp_path: Path) -> None:
    contents = {
        "a.conll": "-DOCSTART- -X- O\n\nEU NNP B-ORG\nrejects VBZ O\n\n\nPeter\tB-PER\n",
        "a.jsonl": '{"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]}\n{"tokens": ["Peter"], "tags": ["B-PER"]}\n',
        "a.csv": "tokens,tags\nEU rejects,B-ORG O\nPeter,B-PER\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        rows = read_files([str(tmp_path / name)], NAMES, Tagging().clean, Tagging.formats)
        assert list(rows["tokens"]) == [["EU", "rejects"], ["Peter"]], name
        assert list(rows["tags"]) == [["B-ORG", "O"], ["B-PER"]], name


@pytest.mark.parametrize(
    ("name", "content", "needle"),
    [
        ("a.conll", "EU\tB-ORG\nrejects\n", "a.conll:2: 'rejects' is not a word and its tag"),
        (
            "a.jsonl",
            '{"tokens": ["a"], "tags": ["O"]}\n{"tokens": ["a", "b"], "tags": ["O"]}\n',
            "row 2: 2 words have 1",
        ),
        ("a.jsonl", '{"tokens": 7, "tags": ["O"]}\n', "the tokens are 7"),
        ("a.conll", "\n\n", "empty"),
    ],
)
def test_rows_that_are_no_words_and_tags_are_told_with_their_place(
    tmp_path: Path, name: str, content: str, needle: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(InvalidDataError, match=needle):
        read_files([str(tmp_path / name)], NAMES, Tagging().clean, Tagging.formats)


@pytest.mark.skipif(not WNUT.is_dir(), reason=f"the WNUT 2017 data is not at {WNUT}")
def test_wnut_17_is_prepared(tmp_path: Path) -> None:
    spec = small_study(tmp_path, "token-classification", entity_rows(20))
    text = spec.resolved()
    objective = text["objective"]
    objective["data"] |= {"train": [str(WNUT / "wnut17train.conll")], "test": [str(WNUT / "emerging.test.annotated")]}
    objective["data"] |= {"validation": [str(WNUT / "emerging.dev.conll")], "test_fraction": 0.0}
    settings = {**spec.objective_settings(), "data": objective["data"]}
    summary = TokenClassification().prepare(settings, tmp_path / "prepared")
    assert summary["rows"] == {"train": 3394, "validation": 1009, "test": 1287}
    assert len(summary["labels"]) == 13
    assert read_conll(WNUT, "@user\tO\n")["tokens"] == [["@user"]]
