from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from objectives.data.files import read_files
from objectives.data.labels import check_labels, label_names
from objectives.data.rows import Rows
from objectives.data.sources import open_source
from objectives.tasks.text_classification import Classification
from sweep.errors import InvalidDataError

TASK = Classification()
GOOD = [("good day", "yes"), ("bad day", "no")]


def _read(paths: Sequence[str]) -> Rows:
    return read_files(paths, {"text": "text", "label": "label"}, TASK.clean)


def _clean(texts: Sequence[object], labels: Sequence[object]) -> Rows:
    return TASK.clean({"text": list(texts), "label": list(labels)}, "here")


def _write_parquet(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"text": [t for t, _ in GOOD], "label": [la for _, la in GOOD]}), path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,label\n"good day",yes\nbad day,no\n'),
        ("a.csv", "\ufefftext,label\r\ngood day,yes\r\n\r\nbad day,no\r\n"),
        ("a.tsv", "text\tlabel\ngood day\tyes\nbad day\tno\n"),
        ("a.jsonl", '{"text": "good day", "label": "yes"}\n\n{"text": "bad day", "label": "no"}'),
        ("a.json", json.dumps([{"text": t, "label": la} for t, la in GOOD])),
        ("a.json", json.dumps({"data": [{"text": t, "label": la} for t, la in GOOD]})),
        ("a.json", json.dumps({"text": [t for t, _ in GOOD], "label": [la for _, la in GOOD]})),
        ("a.parquet", None),
    ],
)
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str, content: str | None) -> None:
    path = tmp_path / name
    if content is None:
        _write_parquet(path)
    else:
        path.write_text(content, encoding="utf-8", newline="")
    rows = _read([str(path)])
    assert list(zip(rows["text"], rows["label"], strict=True)) == GOOD


def test_tab_separated_file_with_bare_quotes_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"so called" day\tyes\nan "odd\tno\n', encoding="utf-8")
    assert _read([str(path)])["text"] == ['"so called" day', 'an "odd']


def test_bare_quotes_that_begin_fields_swallow_no_rows_of_a_tab_separated_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    texts = ['"to be' if i % 4 == 0 else 'or not"' if i % 4 == 2 else f"row {i}" for i in range(120)]
    path.write_text("text\tlabel\n" + "".join(f"{t}\tyes\n" for t in texts), encoding="utf-8")
    assert _read([str(path)])["text"] == texts


def test_quoted_line_breaks_and_quotes_of_a_tab_separated_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"two\nlines, ""quoted"""\tyes\n"plain"\tno\n', encoding="utf-8")
    assert _read([str(path)])["text"] == ['two\nlines, "quoted"', "plain"]


def test_line_separator_inside_json_text_does_not_end_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a\u2028b", "label": "x"}\n{"text": "c", "label": "y"}\n', encoding="utf-8")
    assert len(_read([str(path)])) == 2


@pytest.mark.parametrize(
    ("name", "content", "needles"),
    [
        ("a.csv", b"", ("empty",)),
        ("a.csv", b"text,label\n", ("no rows",)),
        ("a.csv", b"text,lable\na,b\n", ("'label'", "'lable'", "Did you mean 'lable'?", "data.label")),
        ("a.csv", b"Text,label\na,b\n", ("'text'", "Did you mean 'Text'?")),
        ("a.csv", b"text,label\na,x\nb,y,z\n", (":3:", "3 fields", "header has 2")),
        ("a.csv", b"text,label\na\n", (":2:", "1 fields")),
        ("a.csv", b'text,label\n"a,x\nb,y\n', ("quotes",)),
        ("a.csv", b"text,text,label\na,b,c\n", ("'text' twice",)),
        ("a.csv", "text,label\ncafé,x\n".encode("latin-1"), ("byte 14", "0xe9", "line 2", "iconv")),
        ("a.tsv", b"text\tlabel\na\tb\tc\n", (":2:", "3 fields")),
        ("a.csv", b"text;label\na;x\nb, c;y\n", (":1:", "'text;label'", "separated by ';'", "Convert")),
        ("a.csv", b"text\tlabel\na\tx\n", ("'text\\tlabel'", ".tsv")),
        ("a.tsv", b"text,label\na,x\n", ("separated by ','",)),
        ("a.jsonl", b'{"text": "a", "label": 1}\n{"text": "b\\ud800", "label": 1}\n', ("row 2", "text", "surrogate")),
        ("a.jsonl", b'{"text": "a", "label": "x\\udc00"}\n', ("row 1", "label", "surrogate", "Remove")),
        ("a.jsonl", b'{"text": "a", "label": 1}\n{oops\n', (":2:", "not JSON")),
        ("a.jsonl", b"[1]\n", (":1:", "object")),
        ("a.jsonl", b'{"text": ["a"], "label": 1}\n', ("row 1", "list")),
        ("a.jsonl", b'{"text": "a", "label": 1.5}\n', ("row 1", "1.5", "float")),
        ("a.jsonl", b'{"text": "a", "label": [1]}\n', ("row 1", "list")),
        ("a.jsonl", b'{"text": "", "label": 1}\n{"text": "a"}\n', ("all 2 rows", "empty")),
        ("a.json", b"3", ("list of objects",)),
        ("a.json", b'{"text": ["a"], "label": []}', ("different lengths",)),
        ("a.parquet", b"PAR0", ("parquet",)),
        ("a.xlsx", b"x", ("'.xlsx'", ".csv")),
    ],
)
def test_a_bad_file_is_told_with_place_and_remedy(
    tmp_path: Path, name: str, content: bytes, needles: tuple[str, ...]
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InvalidDataError) as caught:
        _read([str(path)])
    message = str(caught.value)
    assert message.startswith(str(path))
    for needle in needles:
        assert needle in message


def test_of_several_files_the_one_to_blame_is_named_with_its_own_row(tmp_path: Path) -> None:
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    paths[0].write_text('{"text": "a", "label": 1}\n' * 3, encoding="utf-8")
    paths[1].write_text('{"text": "a", "label": 1}\n{"text": 7, "label": 1}\n', encoding="utf-8")
    with pytest.raises(InvalidDataError) as caught:
        _read([str(path) for path in paths])
    assert str(caught.value).startswith(f"{paths[1]}: row 2: the text is 7")


def test_rows_of_several_files_follow_one_another_and_those_left_out_are_counted(tmp_path: Path) -> None:
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    paths[0].write_text('{"text": "a", "label": 1}\n{"text": "", "label": 1}\n', encoding="utf-8")
    paths[1].write_text('{"text": " ", "label": 2}\n{"text": "b", "label": 2}\n', encoding="utf-8")
    rows = _read([str(path) for path in paths])
    assert (rows["text"], rows["label"], rows.dropped) == (["a", "b"], ["1", "2"], 2)


def test_long_field_of_a_csv_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"text,label\n{'long ' * 40_000},x\nshort,y\n", encoding="utf-8")
    before = csv.field_size_limit()
    assert len(_read([str(path)])["text"][0]) == 200_000
    assert csv.field_size_limit() == before


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\n", encoding="utf-8")
    data = {"train": (str(tmp_path / "trian.csv"),), "text": "text", "label": "label"}
    with pytest.raises(InvalidDataError, match=r"trian\.csv.*Did you mean 'train\.csv'"):
        open_source(data, TASK, tmp_path)


def test_unknown_bundled_data_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match="Did you mean 'bundled:tweets'"):
        open_source({"source": "bundled:tweet", "text": "text", "label": "label"}, TASK, tmp_path)


def test_unreachable_hub_data_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match=r"'no-such/set' cannot be loaded: .* or use files"):
        open_source({"source": "no-such/set", "text": "text", "label": "label"}, TASK, tmp_path)


def test_rows_with_empty_text_or_label_are_left_out_and_counted() -> None:
    rows = _clean(["a", " ", None, "b", "c"], ["x", "x", "x", float("nan"), "y"])
    assert (list(rows["text"]), list(rows["label"]), rows.dropped) == (["a", "c"], ["x", "y"], 3)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ([10, 9, 10, 9], ["9", "10"]),
        (["b", "a", "b"], ["a", "b"]),
        ([1.0, 0.0], ["0", "1"]),
        ([True, False], ["False", "True"]),
        ([" b ", "a"], ["a", "b"]),
        (["-1", "1", "0"], ["-1", "0", "1"]),
    ],
)
def test_labels_are_sorted_and_keep_their_names(given: list[object], names: list[str]) -> None:
    assert label_names(_clean(["t"] * len(given), given)) == names


def _rows(*labels: str) -> Rows:
    return Rows(columns={"text": ["t"] * len(labels), "label": labels}, origin="here.csv")


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: label_names(_rows("x", "x")), "here.csv: all 2 rows have the one label 'x'"),
        (lambda: label_names(_rows(*map(str, range(30)))), "30 different labels in 30 rows"),
        (
            lambda: check_labels({"validation": _rows("x", "z", "z")}, ["x", "y"]),
            "here.csv: 2 validation rows have labels that no training row has: 'z'",
        ),
    ],
)
def test_labels_that_cannot_be_learnt_are_refused(act: Callable[[], object], message: str) -> None:
    with pytest.raises(InvalidDataError) as caught:
        act()
    assert message in str(caught.value)
