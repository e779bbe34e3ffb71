"""Corpora may be larger than memory: they are read in parts, and what is prepared is the same byte for byte."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from objectives.data import corpus
from objectives.data.arrays import GrowingArrays
from objectives.data.batching import Ragged
from objectives.data.corpus import documents_of, open_files, paragraphs_in
from objectives.data.files import read_columns
from objectives.data.sources import open_source
from objectives.loading import load_objective
from objectives.tasks.causal_language_modeling import CausalLanguageModeling
from objectives.testing import tiny_file
from sweep.errors import InvalidDataError
from sweep.spec import parse_spec
from tests.language_tasks import LESSONS, SHAPES, counting

PREPARE = """
import json, pathlib, resource, sys
from objectives.data import corpus
from objectives.loading import load_objective
order = json.load(sys.stdin)
corpus._CHUNK_DOCUMENTS = order["documents"]
load_objective(order["settings"]["task"]).prepare(order["settings"], pathlib.Path(order["folder"]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def whole_paragraphs(text: str) -> list[str]:
    """Paragraphs of a text in memory, as they are meant."""
    found = re.split(r"\n[ \t]*\n\s*", text.replace("\r\n", "\n").strip("\n"))
    return [paragraph for paragraph in found if paragraph.strip()]


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet="ab \n\n\r\t", max_size=60), st.lists(st.integers(1, 9), min_size=1, max_size=20))
def test_paragraphs_are_the_same_wherever_a_text_is_cut_into_blocks(text: str, sizes: list[int]) -> None:
    blocks, rest = [], text
    for size in [*sizes, len(text)]:
        blocks.append(rest[:size])
        rest = rest[size:]
    assert list(paragraphs_in(blocks)) == whole_paragraphs(text)


def test_a_paragraph_without_end_is_cut_at_lines_the_same_in_blocks_as_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "_LONGEST_DOCUMENT", 40)
    text = "".join(f"line {number}\n" for number in range(60)) + "\nshort\n\n" + "x" * 100
    whole = list(paragraphs_in([text]))
    assert "".join(whole).replace("\n", "") == text.replace("\n", "")
    assert max(map(len, whole)) <= 40
    assert all(piece.endswith("\n") for piece in whole[:5])
    for size in (7, 90, 91, 200):
        assert list(paragraphs_in([text[i : i + size] for i in range(0, len(text), size)])) == whole


def test_files_are_read_in_blocks_with_the_errors_of_whole_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "_BLOCK_BYTES", 5)
    file = tmp_path / "corpus.txt"
    file.write_bytes("\ufeffgrüße aus köln\r\n\r\nund ärger".encode())
    assert list(documents_of(file, "text")) == ["grüße aus köln", "und ärger"]
    for content, told in (
        (b"one\n\ntwo \xfc three", r"byte 9 \(0xfc, line 3\) is not UTF-8"),
        (b"one\n\ntwo \xc3", r"byte 9 \(0xc3, line 3\) is not UTF-8"),
        (b"one\n\ntw\0", "byte 7 is not UTF-8 text"),
        (b" \n \n", "the file is empty"),
        (gzip.compress(b"text"), "is compressed by gzip"),
    ):
        file.write_bytes(content)
        with pytest.raises(InvalidDataError, match=told):
            list(documents_of(file, "text"))
    packed = tmp_path / "corpus.txt.gz"
    packed.write_bytes(gzip.compress(b"one\n\ntwo"))
    assert list(documents_of(packed, "text")) == ["one", "two"]
    packed.write_bytes(gzip.compress(os.urandom(200) + b"text" * 99)[:-20])
    with pytest.raises(InvalidDataError, match=r"is no whole gzip file|not UTF-8|no text"):
        list(documents_of(packed, "text"))


def test_lines_of_json_are_read_one_by_one_and_errors_name_the_line(tmp_path: Path) -> None:
    file = tiny_file(tmp_path / "corpus.jsonl", [{"text": "a"}, {"text": ""}, {"other": 1}, {"text": "b"}])
    found = open_files([str(file)], "text")
    assert (len(found), found.dropped, list(found["text"])) == (2, 2, ["a", "b"])
    with pytest.raises(InvalidDataError, match=r"no column 'body'; columns found: 'text', 'other'"):
        open_files([str(file)], "body")
    with file.open("a") as stream:
        stream.write("[1]\n")
    with pytest.raises(InvalidDataError, match=r"corpus.jsonl:5: not a JSON object"):
        open_files([str(file)], "text")
    tiny_file(file, [{"text": 5}])
    with pytest.raises(InvalidDataError, match=r"row 1: the text is 5, of type int"):
        open_files([str(file)], "text")


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text(alphabet='a,"\n\r é', min_size=1, max_size=12), min_size=1, max_size=8),
    st.sampled_from(["\r\n", "\n", "\r"]),
    st.integers(1, 9),
)
def test_a_csv_file_is_read_in_parts_as_it_is_whole(texts: list[str], end: str, size: int) -> None:
    content = io.StringIO(newline="")
    table = csv.writer(content, lineterminator=end, quoting=csv.QUOTE_NONNUMERIC)
    table.writerows([["number", "text"], *enumerate(texts)])
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        file = Path(folder) / "a.csv"
        file.write_bytes(content.getvalue().encode())
        whole = read_columns(file, {"text": "text"})["text"]
        patch.setattr(corpus, "_BLOCK_BYTES", size)
        patch.setattr(corpus, "read_columns", None)  # which reads it whole
        assert list(documents_of(file, "text")) == whole == texts


def test_a_parquet_file_is_read_in_parts_as_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"text {number}" if number % 3 else None for number in range(2500)]
    parquet.write_table(pyarrow.table({"number": list(range(2500)), "text": texts}), tmp_path / "a.parquet")
    whole = read_columns(tmp_path / "a.parquet", {"text": "text"})["text"]
    monkeypatch.setattr(corpus, "read_columns", None)
    assert list(documents_of(tmp_path / "a.parquet", "text")) == whole == texts


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.csv", b"text\none\n", r"a.csv: no column 'body'; columns found: 'text'"),
        ("a.csv", b"body,text\none\n", r"a.csv:2: 1 fields where the header has 2"),
        ("a.csv", b'body\n"one\n', r"a.csv:\d: unexpected end of data"),
        ("a.csv", b"body\n", r"a.csv: no rows"),
        ("a.csv", b"body\none\xfc\n", r"a.csv: byte 8 \(0xfc, line 2\) is not UTF-8"),
        ("a.csv", b"", r"a.csv: the file is empty"),
        ("a.csv", b"\xef\xbb\xbf", r"a.csv: the file is empty"),
        ("a.parquet", b"PAR1", r"a.parquet: not a readable parquet file"),
        ("b.parquet", None, r"b.parquet: no column 'body'; columns found: 'text'"),
        ("c.parquet", None, r"c.parquet: cannot be read"),
    ],
)
def test_a_table_of_texts_that_cannot_be_used_is_one_clear_error(
    tmp_path: Path, name: str, content: bytes | None, told: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    parquet.write_table(pyarrow.table({"text": ["one"]}), tmp_path / "b.parquet")
    with pytest.raises(InvalidDataError, match=told):
        open_files([str(tmp_path / name)], "body")


def test_a_corpus_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    file = tiny_file(tmp_path / "corpus.jsonl", counting(20))
    task = CausalLanguageModeling()
    [found] = open_source({"train": [str(file)]}, task, tmp_path).read().values()
    assert len(list(found.chunks())) == 1
    tiny_file(file, [*counting(19), {"text": "another"}])
    with pytest.raises(InvalidDataError, match="was changed while it was read"):
        list(found.chunks())


def test_arrays_that_grow_are_what_numpy_saves(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    parts = [[draw.integers(0, 99, length) for length in draw.integers(0, 9, count)] for count in (1, 40, 7)]
    wide = draw.random((48, 3))
    with GrowingArrays(tmp_path, "train") as arrays:
        for part, values in zip(parts, np.split(wide, [1, 41]), strict=True):
            arrays.append({"ids": Ragged.of(part, "int32"), "labels": values})
    whole = Ragged.of([row for part in parts for row in part], "int32")
    for name, values in {"ids": whole.values, "ids.offsets": whole.offsets, "labels": wide}.items():
        np.save(tmp_path / "whole.npy", values)
        assert (tmp_path / f"train.{name}.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.mark.parametrize(
    "other",
    [
        {"labels": np.zeros((2, 3), "float32")},
        {"labels": np.zeros((2, 4))},
        {"labels": np.array([["long", "er", "texts"]] * 2)},
        {"labels": Ragged.of([[1.0, 2.0, 3.0]], "float64")},
        {"labels": np.zeros((2, 3)), "more": np.zeros(2)},
        {},
    ],
)
def test_rows_whose_arrays_are_not_those_of_the_rows_before_are_refused(tmp_path: Path, other: Any) -> None:
    with GrowingArrays(tmp_path, "train") as arrays:
        arrays.append({"labels": np.zeros((2, 3))})
        with pytest.raises(TypeError, match="train"):
            arrays.append(other)


def lesson_settings(folder: Path, task: str, shape: str, **data: Any) -> dict[str, Any]:
    (folder / "config.json").write_text(json.dumps(SHAPES[shape]))
    values = {
        "study": "corpus",
        "objective": {
            "task": task,
            "model": "random:config.json",
            "data": {"validation_fraction": 0.1, "test_fraction": 0.1, "vocabulary_size": 300, **data},
            "training": {"max_length": 32},
        },
        "search": {"learning_rate": "1e-4..1e-1 log"},
    }
    return parse_spec(yaml.safe_dump(values), place="study.yaml", folder=folder).objective_settings()


def files_of(prepared: Mapping[str, Any]) -> dict[str, bytes]:
    folder = Path(prepared["folder"])
    names = [path for path in folder.rglob("*") if path.suffix in (".npy", ".jsonl") or path.parent.name == "tokenizer"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in names}


@pytest.mark.parametrize("name", ["causal", "masked"])
def test_a_corpus_is_prepared_in_parts_as_it_would_be_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    kind = LESSONS[name]
    rows = counting(120)
    tiny_file(tmp_path / "a.jsonl", rows[:50])
    (tmp_path / "b.txt").write_text("\n\n".join(row["text"] for row in rows[50:]))
    plan = lesson_settings(tmp_path, kind.task, kind.shape, train=["a.jsonl", "b.txt"])
    # As rows in memory, in one part.
    tiny_file(tmp_path / "all.jsonl", rows)
    memory = lesson_settings(tmp_path, kind.task, kind.shape, train="all.jsonl")
    objective = load_objective(kind.task)
    objective._task.is_corpus = False  # type: ignore[attr-defined]
    whole = objective.prepare(memory, tmp_path / "whole")
    monkeypatch.setattr(corpus, "_CHUNK_DOCUMENTS", 7)
    monkeypatch.setattr(corpus, "_BLOCK_BYTES", 64)
    parts = load_objective(kind.task).prepare(plan, tmp_path / "parts")
    assert files_of(parts) == files_of(whole)
    assert parts["rows"] == whole["rows"] == {"train": 97, "validation": 11, "test": 12}
    assert parts["lengths"] == whole["lengths"]
    again = load_objective(kind.task).prepare(plan, tmp_path / "parts")
    assert again["reused"]
    assert again["folder"] == parts["folder"]


def test_running_text_of_the_hub_is_prepared_like_a_file_and_what_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A folder of that name stands for the repository.
    monkeypatch.chdir(tmp_path)
    (tmp_path / "us" / "corpus").mkdir(parents=True)
    tiny_file(tmp_path / "us" / "corpus" / "train.jsonl", counting(120))
    tiny_file(tmp_path / "first.jsonl", counting(120)[:100])
    plans = [
        lesson_settings(tmp_path, "causal-language-modeling", "gpt2", **data)
        for data in (
            {"train": "first.jsonl"},
            {"source": "us/corpus", "streaming": True, "max_rows": 100},
            {"train": "us/corpus/train.jsonl"},
            {"source": "us/corpus"},
            {"source": "us/corpus", "streaming": True, "max_rows": 3},
            {"source": "us/missing", "streaming": True},
            {"source": "us/corpus", "streaming": True, "text": "body"},
        )
    ]
    objective = load_objective("causal-language-modeling")
    first, part, file, whole = (objective.prepare(plan, tmp_path / "prepared") for plan in plans[:4])
    assert files_of(part) == files_of(first)
    assert files_of(whole) == files_of(file)
    assert part["data_name"] == "us/corpus, at most 100 rows of a split"
    with pytest.raises(InvalidDataError, match=r"us/corpus\[train\]: 3 rows are too few .* Raise data.max_rows\."):
        objective.prepare(plans[4], tmp_path / "few")
    for plan, told in (
        (plans[5], "'us/missing' cannot be loaded"),
        (plans[6], r"us/corpus\[train\]: no column 'body'"),
    ):
        with pytest.raises(InvalidDataError, match=told):
            objective.prepare(plan, tmp_path / "failed")
        assert not (tmp_path / "failed").exists()


def generated(megabytes: float) -> Iterator[str]:
    """Paragraphs of numbered words, some thousand different ones."""
    draw = np.random.default_rng(0)
    words = np.array([f"w{number:x}" for number in range(5000)])
    size = 0
    while size < megabytes * 1e6:
        for length in draw.integers(5, 200, 400):
            text = " ".join(draw.choice(words, length))
            size += len(text) + 2
            yield text


def written(file: Path, megabytes: float) -> None:
    """Such paragraphs as a file of the format that its suffix tells."""
    with file.open("w", newline="") as stream:
        if file.suffix == ".txt":
            stream.writelines(f"{text}\n\n" for text in generated(megabytes))
        elif file.suffix == ".jsonl":
            stream.writelines(json.dumps({"text": text}) + "\n" for text in generated(megabytes))
        elif file.suffix == ".csv":
            csv.writer(stream).writerows([["text"], *([text] for text in generated(megabytes))])
        else:
            parquet.write_table(pyarrow.table({"text": list(generated(megabytes))}), file)


def prepared_by_another(
    settings: Mapping[str, Any], folder: Path, documents: int = corpus._CHUNK_DOCUMENTS
) -> subprocess.Popen[str]:
    """A process that prepares a corpus, so many documents at a time, and prints the most memory that it took."""
    process = subprocess.Popen(
        [sys.executable, "-c", PREPARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder.parent
    )
    assert process.stdin is not None
    json.dump({"settings": settings, "folder": str(folder), "documents": documents}, process.stdin)
    process.stdin.close()
    return process


def kilobytes(folder: Path, megabytes: float, name: str = "corpus.txt", **data: Any) -> int:
    """Most memory that a process takes to prepare a corpus."""
    (folder / "us" / "corpus").mkdir(parents=True)
    written(folder / name, megabytes)
    settings = lesson_settings(folder, "causal-language-modeling", "gpt2", **(data or {"train": name}))
    with prepared_by_another(settings, folder / "prepared") as process:
        assert process.stdout is not None
        found = int(process.stdout.read())
    assert process.returncode == 0
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("corpus.txt", {}),
        ("corpus.csv", {}),
        ("corpus.parquet", {}),
        ("us/corpus/train.jsonl", {"source": "us/corpus", "streaming": True}),
        ("us/corpus/train.parquet", {"source": "us/corpus"}),
    ],
)
def test_six_times_the_corpus_takes_little_more_memory(tmp_path: Path, name: str, data: dict[str, Any]) -> None:
    small, large = (kilobytes(tmp_path / str(size), size, name, **data) for size in (0.5, 3))
    # As encodings in memory, each of these megabytes takes more than 40.
    assert large - small < 40_000, (small, large)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_200_megabytes_are_prepared_within_150_megabytes_more_than_one(tmp_path: Path) -> None:
    small, large = kilobytes(tmp_path / "small", 1), kilobytes(tmp_path / "large", 200)
    assert large - small < 150_000, (small, large)


def test_a_preparation_that_is_killed_leaves_nothing_half_used(tmp_path: Path) -> None:
    written(tmp_path / "corpus.txt", 0.3)
    settings = lesson_settings(tmp_path, "causal-language-modeling", "gpt2", train="corpus.txt")
    folder = tmp_path / "prepared"
    with prepared_by_another(settings, folder, documents=20) as process:
        while process.poll() is None and not any(file.stat().st_size > 1e4 for file in folder.rglob("train.ids.npy")):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert list(folder.rglob("train.ids.npy"))  # it was in the midst of it
    assert not list(folder.rglob("meta.json"))
    found = load_objective("causal-language-modeling").prepare(settings, folder)
    assert not found["reused"]
    undisturbed = load_objective("causal-language-modeling").prepare(settings, tmp_path / "undisturbed")
    assert files_of(found) == files_of(undisturbed)
