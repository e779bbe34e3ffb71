"""Thousands of damaged data files: rows, or one clear error, in bounded time and memory."""

from __future__ import annotations

import csv
import gzip
import io
import json
import multiprocessing
import os
import resource
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]
import pytest

from objectives.data.labels import label_names
from objectives.data.sources import open_source
from objectives.data.splits import split_off
from objectives.tasks.text_classification import Classification
from sweep.errors import InvalidDataError

EACH = 300  # mutants of each of seven files, and each of them cut at many places: about 4,500
EACH_SLOW = 10_000
MEMORY_BYTES = 1 << 30
SECONDS_EACH = 10.0

ROWS = [{"text": f'row {i} says, "something" é\u2028x', "label": "ab"[i % 2]} for i in range(12)]
FRAGMENTS = [
    b"\x00", b"\xff\xfe", b'"', b"\n", b"\r", b",", b"\t", b"{", b"[", b"}", b"\xef\xbb\xbf", b"\xed\xa0\x80",
    b"NaN", b"null", b"1e999", b"9" * 5000, b"[" * 100_000, b'{"a":' * 3000, b"\\ud800", b"\x80", b'"label"',
    b"\x1f\x8b", b"PAR1", b"-Infinity",
]  # fmt: skip


def table(delimiter: str) -> bytes:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, ["text", "label"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return stream.getvalue().encode()


def parquet(columns: Any, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), sink, **options)
    return bytes(sink.getvalue().to_pybytes())


def good_files() -> dict[str, bytes]:
    rows = pa.Table.from_pylist(ROWS)
    return {
        "a.csv": table(","),
        "a.tsv": table("\t"),
        "a.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
        "a.json": json.dumps(ROWS).encode(),
        "plain.parquet": parquet(rows, compression="NONE"),
        "packed.parquet": parquet(rows, compression="ZSTD"),
        "words.parquet": parquet(rows, use_dictionary=False, data_page_version="2.0"),
    }


def read(path: Path) -> int:
    """Rows of a file, read as a study reads them."""
    data = {"train": [str(path)], "text": "text", "label": "label"}
    rows = open_source(data, Classification(), path.parent).read()["train"]
    names = label_names(rows)
    assert all(isinstance(name, str) for name in names)
    split_off(rows["label"], 0.5, 0)
    assert len(rows) == len(rows["label"])
    return len(rows)


def told_well(message: str) -> bool:
    """One printable line with a place, what is wrong, and what to do."""
    return message.isprintable() and len(message) < 700 and ": " in message and message.count(". ") >= 1


def tried(name: str, content: bytes, counts: Counter[str]) -> Iterator[str]:
    path = Path(name)
    path.write_bytes(content)
    began = time.perf_counter()
    try:
        read(path)
        counts[f"{name} read"] += 1
    except InvalidDataError as error:
        counts[f"{name} refused"] += 1
        if not told_well(str(error)):
            yield f"{name}: not told well: {error!r}"
    except Exception as error:  # noqa: BLE001  # the very thing that must not be
        yield f"{name} {content[:200]!r}: {type(error).__name__}: {error}"
    if time.perf_counter() - began > SECONDS_EACH:
        yield f"{name} {content[:200]!r}: took {time.perf_counter() - began:.0f} s"


def mutated(content: bytes, random: Random) -> bytes:
    mutant = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 5, 20))):
        at, change = random.randrange(len(mutant)), random.randrange(6)
        if change == 0:
            mutant[at] ^= 1 << random.randrange(8)
        elif change == 1:
            mutant[at] = random.randrange(256)
        elif change == 2:
            del mutant[at : at + random.randrange(1, 60)]
        elif change == 3:
            mutant[at:at] = random.choice(FRAGMENTS)
        elif change == 4:
            mutant[at:at] = mutant[at : at + random.randrange(1, 200)]
        else:
            mutant[at:at] = random.randbytes(4)
        mutant = mutant or bytearray(b"\n")
    return bytes(mutant)


def batch(folder: Path, each: int, seed: int, answer: Any) -> None:
    """Read all mutants in a process of limited memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY_BYTES, resource.RLIM_INFINITY))
    os.chdir(folder)
    counts: Counter[str] = Counter()
    complaints: list[str] = []
    for number, (name, content) in enumerate(good_files().items()):
        random = Random(f"{seed}-{number}")
        cuts = [content[:end] for end in range(0, len(content), 1 if each >= EACH_SLOW else 1 + len(content) // each)]
        for mutant in [*(mutated(content, random) for _ in range(each)), *cuts]:
            complaints += tried(name, mutant, counts)
    answer.send((complaints, dict(counts)))


def check_batch(folder: Path, each: int, seed: int) -> None:
    here, there = multiprocessing.get_context("spawn").Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=batch, args=(folder, each, seed, there))
    process.start()
    there.close()
    try:
        complaints, counts = here.recv()
    except EOFError:
        raise AssertionError(f"the process of the mutants died (exit code {process.exitcode})") from None
    finally:
        process.join()
    assert not complaints, "\n".join(complaints[:10])
    assert sum(counts.values()) >= 7 * each
    for name in good_files():
        assert counts.get(f"{name} refused", 0) > each / 5, counts
    assert all(counts.get(f"{name} read", 0) > 0 for name in good_files()), counts


def test_thousands_of_damaged_data_files_give_rows_or_one_clear_error(tmp_path: Path) -> None:
    check_batch(tmp_path, EACH, 7)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [1, 2])
def test_many_more_damaged_data_files_give_rows_or_one_clear_error(tmp_path: Path, seed: int) -> None:
    check_batch(tmp_path, EACH_SLOW, seed)


FOUR = ["a", "b", "c", "d"]
TWO = [1, 2, 1, 2]
WIDE = ",".join(f"c{i}" for i in range(200_000))

REFUSED: dict[str, tuple[bytes, str]] = {
    "utf-16.csv": ("text,label\na,b\n".encode("utf-16"), "iconv -f utf-16"),
    "utf-16-without-mark.csv": ("text,label\na,b\n".encode("utf-16-le"), "iconv -f utf-16"),
    "nul.csv": (b"text,label\na\0b,x\n", "byte 12 is not UTF-8 text"),
    "packed.csv": (gzip.compress(b"text,label\na,b\n"), "compressed by gzip"),
    "latin.csv": ("text,label\ncafé,b\n".encode("latin-1"), "iconv -f latin1"),
    "wide.csv": (f"{WIDE}\n{WIDE}\n".encode(), "no column 'text'"),
    "same.csv": (f"{WIDE},c1\n".encode(), "'c1' twice"),
    "long-label.csv": (b"text,label\na," + b"9" * 5000 + b"\nb," + b"9" * 5000 + b"\n", "5000 characters"),
    "one-line.jsonl": (b'{"text":"a","label":1}{"text":"b","label":2}\n', ":1: not JSON"),
    "huge-number.jsonl": (b'{"text":"a","label":' + b"9" * 5000 + b"}\n", "4300 digits"),
    "deep.jsonl": (b'{"text":' + b"[" * 200_000 + b"\n", "recursion"),
    "deep.json": (b"[" * 200_000, "recursion"),
    "infinite.jsonl": (b'{"text":"a","label":Infinity}\n', "inf, of type float"),
    "long-value.jsonl": (json.dumps({"text": ["x" * 5_000_000], "label": 1}).encode(), "of type list"),
    "empty.parquet": (b"", "not a readable parquet file"),
    "magic.parquet": (b"PAR1PAR1", "not a readable parquet file"),
    "list.parquet": (parquet({"text": [[x] for x in FOUR], "label": TWO}), "of type list"),
    "struct.parquet": (parquet({"text": [{"a": x} for x in FOUR], "label": TWO}), "of type dict"),
    "decimal.parquet": (parquet({"text": FOUR, "label": [Decimal(1), Decimal(2)] * 2}), "Decimal"),
    "date.parquet": (parquet({"text": FOUR, "label": [date(2020, 1, 1)] * 4}), "date"),
    "late.parquet": (parquet({"text": FOUR, "label": pa.array([1, 2, 3, 2**62], pa.timestamp("us"))}), "out of range"),
    "bytes.parquet": (parquet({"text": [b"a"] * 4, "label": TWO}), "of type bytes"),
    "null.parquet": (parquet({"text": pa.nulls(4), "label": TWO}), "all 4 rows"),
    "twice.parquet": (parquet(pa.table([FOUR, FOUR, TWO], names=["text", "text", "label"])), "two columns have"),
    "missing.parquet": (parquet({"txt": FOUR, "lbl": TWO}), "Did you mean 'txt'?"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_something_else_is_told_as_what_it_is(tmp_path: Path, name: str) -> None:
    content, told = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    began = time.perf_counter()
    with pytest.raises(InvalidDataError) as caught:
        read(tmp_path / name)
    assert told in str(caught.value)
    assert told_well(str(caught.value).replace(str(tmp_path), ""))
    assert time.perf_counter() - began < SECONDS_EACH


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("marks.jsonl", b'\xef\xbb\xbf{"text":"a","label":1}\r\n{"text":"b","label":2}\r\n', 2),
        ("mixed.jsonl", b'{"text":"a","label":1}\n{"text":"b","label":"1"}\n{"text":"c","label":true}\n', 3),
        ("not-a-number.jsonl", b'{"text":"a","label":NaN}\n{"text":"b","label":1}\n{"text":"c","label":2}\n', 2),
        ("nul.jsonl", b'{"text":"a\\u0000b","label":1}\n{"text":"b","label":2}\n', 2),
        ("long.jsonl", json.dumps({"text": "x" * 5_000_000, "label": 1}).encode() + b'\n{"text":"b","label":2}', 2),
        ("coded.parquet", parquet({"text": pa.array(FOUR).dictionary_encode(), "label": pa.array(TWO)}), 4),
        (
            "others.parquet",
            parquet({"text": FOUR, "label": TWO, "when": pa.array([1, 2, 3, 2**62], pa.timestamp("us"))}),
            4,
        ),
    ],
)
def test_an_odd_file_that_makes_sense_is_read(tmp_path: Path, name: str, content: bytes, rows: int) -> None:
    (tmp_path / name).write_bytes(content)
    assert read(tmp_path / name) == rows


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


@pytest.mark.timeout(60)  # before, reading them never ended
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (pipe, "is no regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "is no regular file"),
        (listening, "is no regular file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.symlink_to(path), "cannot be read"),
        (lambda path: path.symlink_to("nowhere"), "cannot be read"),
    ],
    ids=["pipe", "device", "socket", "folder", "loop", "nowhere"],
)
def test_what_is_no_regular_file_is_refused_and_not_waited_for(
    tmp_path: Path, make: Callable[[Path], object], told: str
) -> None:
    make(tmp_path / "a.csv")
    with pytest.raises(InvalidDataError, match=told):
        read(tmp_path / "a.csv")


def test_a_file_that_changes_between_its_digest_and_its_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(table(","))
    source = open_source({"train": [str(path)], "text": "text", "label": "label"}, Classification(), tmp_path)
    path.write_bytes(table(",") + b"one more,a\r\n")
    with pytest.raises(InvalidDataError, match=r"a\.csv: was changed while it was read\. Try again"):
        source.read()
