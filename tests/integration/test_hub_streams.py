"""Data sets of the Hub, downloaded or streamed, from a server that speaks the Hub's protocol."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.hub_double import Hub, hub

READ = """
import json, sys
from pathlib import Path
from objectives.data.labels import label_cell
from objectives.data.rows import clean_rows, text_cell
from objectives.data.sources import open_source
from objectives.data.task import DataTask
from sweep.errors import InvalidDataError

class Reading(DataTask):
    answer_columns = ()
    def __init__(self, columns): self.columns, self.is_corpus = columns, "label" not in columns
    def clean(self, columns, origin): return clean_rows(columns, origin, {"text": text_cell, "label": label_cell})
    def encode(self, *_): ...

for line in sys.stdin:
    order = json.loads(line)
    try:
        source = open_source(order["data"], Reading(order["columns"]), Path(order["folder"]))
        chunks = {split: rows.chunks() for split, rows in source.read().items()}
        splits = {split: [row for chunk in own for row in chunk.records()] for split, own in chunks.items()}
        answer = {"digest": source.digest, "name": source.name, "splits": splits}
    except InvalidDataError as err:
        answer = {"error": str(err)}
    print(json.dumps(answer), flush=True)
"""

TEXTS = {"text": "text"}
LABELLED = {"text": "text", "label": "label"}


@dataclass(frozen=True)
class Reader:
    """A process that reads data sets of a hub.

    Attributes:
        hub: Where they are.
        process: The process.
        folder: Where it keeps what it takes.
    """

    hub: Hub
    process: subprocess.Popen[str]
    folder: Path

    def read(self, source: str, columns: Mapping[str, str], **data: Any) -> dict[str, Any]:
        """Rows by split, digest and name; or the error."""
        usual = {"streaming": True, "max_rows": None, "shuffle_buffer": 0, "split_seed": 0}
        order = {"data": {"source": source, **usual, **data}, "columns": columns, "folder": str(self.folder)}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found

    def pieces(self) -> set[str]:
        """What was taken so far."""
        return {folder.name for folder in self.folder.glob("*")}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("hub")
    with (
        hub() as own,
        subprocess.Popen(
            [sys.executable, "-c", READ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=own.environment(folder / "home"),
        ) as process,
    ):
        yield Reader(own, process, folder / "prepared")
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def texts(count: int, begin: str = "text") -> list[dict[str, Any]]:
    return [{"text": f"{begin} {number}"} for number in range(count)]


def classes(values: list[int], *names: str) -> bytes:
    """A parquet file with texts and classes, as ``push_to_hub`` of datasets writes it."""
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": {"names": list(names), "_type": "ClassLabel"},
    }
    table = pa.table(
        {"text": [f"text {number}" for number in range(len(values))], "label": pa.array(values, pa.int64())}
    )
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), sink)
    return bytes(sink.getvalue())


def test_the_first_rows_of_a_stream_are_taken_and_what_lies_behind_is_not_fetched(reader: Reader) -> None:
    files = {f"data/train-{i:05}-of-00004.jsonl": lines(texts(300, f"file {i}")) for i in range(4)}
    reader.hub.repositories["us/large"] = {**files, "data/validation-00000-of-00001.jsonl": lines(texts(20, "other"))}
    found = reader.read("us/large", TEXTS, max_rows=310)
    assert found["name"] == "us/large, at most 310 rows of a split"
    assert found["splits"]["train"] == [*texts(300, "file 0"), *texts(10, "file 1")]
    assert found["splits"]["validation"] == texts(20, "other")
    assert {path for _, path in reader.hub.given} >= {"data/train-00000-of-00004.jsonl"}
    behind = reader.hub.given["us/large", "data/train-00003-of-00004.jsonl"]
    assert behind < len(files["data/train-00003-of-00004.jsonl"])


def test_a_stream_has_the_rows_of_a_download(reader: Reader) -> None:
    reader.hub.repositories["us/both"] = {"train.parquet": classes([0, 1] * 300, "bad", "good")}
    whole = reader.read("us/both", LABELLED, streaming=False)
    assert whole["splits"]["train"][1] == {"text": "text 1", "label": "good"}
    assert len(whole["splits"]["train"]) == 600
    assert reader.read("us/both", LABELLED)["splits"] == whole["splits"]
    assert reader.read("us/both", TEXTS)["splits"] == reader.read("us/both", TEXTS, streaming=False)["splits"]


def test_a_piece_is_taken_once_until_the_data_set_changes(reader: Reader) -> None:
    reader.hub.repositories["us/changing"] = {"train.jsonl": lines(texts(50))}
    first = reader.read("us/changing", TEXTS, max_rows=30)
    given, pieces = reader.hub.given["us/changing", "train.jsonl"], reader.pieces()
    assert reader.read("us/changing", TEXTS, max_rows=30) == first
    assert reader.hub.given["us/changing", "train.jsonl"] == given
    assert reader.pieces() == pieces
    reader.hub.repositories["us/changing"]["README.md"] = b"words"
    assert reader.read("us/changing", TEXTS, max_rows=30) == first, "other words, the same rows"
    assert reader.hub.given["us/changing", "train.jsonl"] > given
    whole = reader.read("us/changing", TEXTS, streaming=False)
    reader.hub.repositories["us/changing"]["train.jsonl"] = lines(texts(50, "new"))
    assert reader.read("us/changing", TEXTS, max_rows=30)["digest"] != first["digest"]
    assert reader.read("us/changing", TEXTS, streaming=False)["digest"] != whole["digest"]


def test_a_shuffled_stream_depends_on_the_seed_alone_and_reaches_beyond_the_first_rows(reader: Reader) -> None:
    # Sorted by class, as many data sets are.
    files = {f"train-{i}.jsonl": lines([{**row, "label": f"class {i}"} for row in texts(100)]) for i in range(4)}
    reader.hub.repositories["us/sorted"] = files
    plain = reader.read("us/sorted", LABELLED, max_rows=40)
    assert {row["label"] for row in plain["splits"]["train"]} == {"class 0"}
    drawn = reader.read("us/sorted", LABELLED, max_rows=40, shuffle_buffer=1000)
    assert {row["label"] for row in drawn["splits"]["train"]} == {f"class {i}" for i in range(4)}
    assert drawn["name"] == "us/sorted, at most 40 rows of a split, shuffled by a buffer of 1,000"
    other = reader.read("us/sorted", LABELLED, max_rows=40, shuffle_buffer=1000, split_seed=1)
    assert other["splits"]["train"] != drawn["splits"]["train"]
    for piece in reader.folder.glob("rows-*/train.jsonl"):
        piece.write_text("damaged")  # so that it is taken again
    assert reader.read("us/sorted", LABELLED, max_rows=40, shuffle_buffer=1000) == drawn


@pytest.mark.parametrize("streaming", [True, False])
def test_a_test_split_that_keeps_its_labels_secret_is_left_out(reader: Reader, streaming: bool) -> None:
    reader.hub.repositories["us/secret"] = {
        "data/train-00000-of-00001.parquet": classes([0, 1, -1], "bad", "good"),
        "data/test-00000-of-00001.parquet": classes([-1, -1], "bad", "good"),
    }
    found = reader.read("us/secret", LABELLED, streaming=streaming)
    assert found["splits"] == {"train": [{"text": "text 0", "label": "bad"}, {"text": "text 1", "label": "good"}]}
    assert set(reader.read("us/secret", TEXTS, streaming=streaming)["splits"]) == {"train", "test"}
    pieces = reader.pieces()
    reader.hub.repositories["us/secret"] = {
        "data/train-00000-of-00001.parquet": classes([-1, -1], "bad", "good"),
        "data/validation-00000-of-00001.parquet": classes([0, 1], "bad", "good"),
    }
    told = "us/secret[train]: no row has a class (data.label). Name another column, or another data set."
    assert reader.read("us/secret", LABELLED, streaming=streaming) == {"error": told}
    assert reader.pieces() == pieces


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"dev.jsonl": lines(texts(3))}, "'us/faulty' has no split `train`; found: validation. Use another, or files."),
        ({"train.jsonl": lines([{"body": "x"}])}, "us/faulty[train]: no column 'text'; columns found: 'body'."),
        ({"train.jsonl": lines(texts(3)) + b"{broken\n"}, "us/faulty[train]: the stream broke off: "),
        ({"train.jsonl": lines([{"text": ""}] * 3)}, "us/faulty[train]: in all 3 rows text is empty."),
        ({"train.csv": b"text\n"}, "us/faulty[train]: no rows. Name a data set that has some."),
        ({"train.jsonl": lines([{"text": 5}])}, "us/faulty[train]: row 1: the text is 5, of type int."),
        ({"README.md": b"words"}, "'us/faulty' cannot be loaded: "),
        (None, "'us/faulty' cannot be loaded: RepositoryNotFoundError: 404 Client Error. Repository Not Found"),
    ],
)
def test_a_stream_that_cannot_be_used_is_one_clear_error(
    reader: Reader, files: dict[str, bytes] | None, told: str
) -> None:
    reader.hub.repositories.pop("us/faulty", None)
    if files is not None:
        reader.hub.repositories["us/faulty"] = files
    found = reader.read("us/faulty", TEXTS)
    assert told in found["error"]
    assert "\n" not in found["error"]
    assert not list(reader.folder.glob(".tmp-*"))
