"""The examples of the tasks: specs that hold, rows that are the published ones, splits that share nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from objectives.examples import published
from objectives.examples.__main__ import SPECS, write_example, write_spec
from objectives.examples.published import TATOEBA, Published
from objectives.examples.rows import EXAMPLES
from objectives.loading import task_names
from sweep.errors import InvalidDataError
from sweep.spec import load_spec
from tests.benchmarks.task_table import ROOT

DATA = ROOT.parent / "shared" / "data"
SPLITS = ("train", "validation", "test")


def test_every_task_has_an_example() -> None:
    assert {*EXAMPLES, "text-classification"} == set(task_names())


@pytest.mark.parametrize("task", sorted(EXAMPLES))
def test_the_spec_holds_and_has_a_test_split(task: str, tmp_path: Path) -> None:
    for split in SPLITS:
        (tmp_path / f"{split}.jsonl").touch()
    spec = load_spec(write_spec(task, tmp_path))
    assert spec.objective.task == task
    assert bool(spec.objective.data.test) != bool(spec.objective.data.test_fraction)


def _written(task: str, folder: Path) -> dict[str, list[dict[str, Any]]]:
    source = EXAMPLES[task].published
    if source is not None and not (DATA / source.name).is_dir():
        pytest.skip(f"{DATA / source.name} is not there: this data set does not come with the repository")
    assert write_example(task, DATA, folder).read_text() == (SPECS / f"{task}.yaml").read_text()
    files = {split: folder / f"{split}.jsonl" for split in SPLITS}
    return {s: [json.loads(line) for line in f.read_text().splitlines()] for s, f in files.items() if f.exists()}


@pytest.mark.parametrize(
    ("task", "parts"),
    [
        ("multi-label-classification", ["text"]),
        ("question-answering", ["context"]),
        ("speech-recognition", ["audio"]),
        ("translation", ["english"]),
        ("translation", ["chinese"]),
    ],
)
def test_no_row_of_one_split_is_in_another(task: str, parts: list[str], tmp_path: Path) -> None:
    splits = _written(task, tmp_path)
    keys = {split: [tuple(row[part] for part in parts) for row in rows] for split, rows in splits.items()}
    if set(keys) == {"train"}:  # drawn by the spec: no row may come twice
        assert len(set(keys["train"])) == len(keys["train"]) > 1000
        return
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not set(keys.get(one, ())) & set(keys.get(other, ())), (one, other)


def test_the_same_files_give_the_same_rows(tmp_path: Path) -> None:
    once, again = (_written("multi-label-classification", tmp_path / name) for name in ("once", "again"))
    assert once == again
    assert len(once["test"]) == 700
    assert len({label for row in once["train"] for label in row["label"]}) == 39


def test_ratings_come_with_the_bundled_tweets(tmp_path: Path) -> None:
    rows = _written("text-regression", tmp_path)["train"]
    assert len(rows) == 4200
    assert all(-4 <= row["score"] <= 4 for row in rows)


def test_data_that_is_missing_is_named_with_its_page_and_licence(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match=r"tree/a7cfaa2.*CC BY 2\.0 FR.*cmn\.txt.*--data"):
        write_example("translation", None, tmp_path)
    with pytest.raises(InvalidDataError, match=r"tatoeba_en_zh: there is no cmn\.txt\. Fetch it from https://github"):
        write_example("translation", tmp_path, tmp_path / "example")
    assert not (tmp_path / "example").exists()


def test_data_that_is_not_the_published_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / TATOEBA.name).mkdir()
    (tmp_path / TATOEBA.name / "cmn.txt").write_text("Hi.\t嗨。\n", encoding="utf-8")
    with pytest.raises(InvalidDataError, match=r"are not those of https://github.com/sunlanchang"):
        write_example("translation", tmp_path, tmp_path / "example")


def test_every_data_set_is_at_a_fixed_revision() -> None:
    sets = [value for value in vars(published).values() if isinstance(value, Published)]
    assert len(sets) == 6
    for each in sets:
        assert each.page.startswith("https://github.com/"), each
        assert len(each.page.partition("/tree/")[2].partition("/")[0]) == 40, each
