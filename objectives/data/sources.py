"""Where rows come from: the bundled data, a data set of the Hub, or files."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from objectives.bundled.tweets import DATA_NAME, TWEETS_SHA256, read_tweets, tweets_file
from objectives.data.corpus import open_files
from objectives.data.files import Columns, check_regular, pick, read_files
from objectives.data.hub import read_stream, read_whole
from objectives.data.rows import Rows
from objectives.data.splits import split_off
from objectives.data.task import DataTask
from sweep.errors import InvalidDataError

_SPLITS = ("train", "validation", "test")
_TWEETS_TEST_ROWS = 600
_TWEETS_TEST_SEED = 2014


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Rows that are not read yet.

    Attributes:
        name: Short name for people.
        digest: sha256 of the content.
        read: Reads the rows of the splits that the source itself has; ``train`` at least.
    """

    name: str
    digest: str
    read: Callable[[], Mapping[str, Rows]]


def open_source(data: Mapping[str, Any], task: DataTask, folder: Path) -> Source:
    """Find the rows that a spec's ``data`` names.

    Args:
        data: The ``data`` part of the objective's settings.
        task: Which columns it needs, and how it cleans them.
        folder: Where prepared data lies; what is taken of a stream stays there.

    Raises:
        InvalidDataError: If they cannot be found or read.
    """
    source = data.get("source")
    if source is None:
        return _files(data, task)
    if not str(source).startswith("bundled:"):
        return _hub(str(source), data, task, folder)
    if source != DATA_NAME:
        near = difflib.get_close_matches(str(source), [DATA_NAME], n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise InvalidDataError(f"data.source: {source!r} is not bundled.{hint} The bundled data is {DATA_NAME!r}.")
    return _tweets(task)


def column_names(data: Mapping[str, Any], columns: Mapping[str, str | None]) -> dict[str, str]:
    """Names of the columns to read, by the parts they play: those that ``data`` names, and a task's usual ones."""
    chosen = {part: data.get(part) or usual for part, usual in columns.items()}
    return {part: str(name) for part, name in chosen.items() if name is not None}


def _tweets(task: DataTask) -> Source:
    file = tweets_file()

    def read() -> Mapping[str, Rows]:
        texts, labels = read_tweets(file)
        found: Columns = {"text": list(texts), "label": list(labels)}
        needed = [part for part, usual in task.columns.items() if usual is not None]
        rows = task.clean({part: pick(found, part, part, DATA_NAME) for part in needed}, DATA_NAME)
        # Its own fixed test split: comparable between studies whatever their split seed is.
        train, test = split_off(labels, _TWEETS_TEST_ROWS / len(rows), _TWEETS_TEST_SEED)
        return {"train": rows.take(train), "test": rows.take(test)}

    split = f"{_TWEETS_TEST_ROWS}/{_TWEETS_TEST_SEED}"
    return Source(name=DATA_NAME, digest=_digest([TWEETS_SHA256, split]), read=read)


def _files(data: Mapping[str, Any], task: DataTask) -> Source:
    files = {split: [str(path) for path in data.get(split) or ()] for split in _SPLITS}
    if not files["train"]:
        raise InvalidDataError("data: neither `source` nor `train` is given. Name a training file.")
    names = column_names(data, task.columns)
    parts, stamps = [], {}
    for split, paths in files.items():
        for path in paths:
            try:
                if task.folder is not None and Path(path).is_dir():
                    for file in task.folder.files(Path(path)):
                        check_regular(file)
                        stamps[str(file)] = _stamp(str(file))
                        with file.open("rb") as stream:
                            name = file.relative_to(path).as_posix()
                            parts.append(f"{split}:{name}:{hashlib.file_digest(stream, 'sha256').hexdigest()}")
                    continue
                check_regular(Path(path))
                stamps[path] = _stamp(path)
                with Path(path).open("rb") as stream:
                    parts.append(f"{split}:{Path(path).suffix}:{hashlib.file_digest(stream, 'sha256').hexdigest()}")
                for named in task.files_named_in(Path(path), names):
                    stamps[str(named)] = _stamp(str(named))
                    with named.open("rb") as stream:
                        parts.append(f"{split}:{hashlib.file_digest(stream, 'sha256').hexdigest()}")
            except OSError as err:
                near = _near_file(Path(path)) if isinstance(err, FileNotFoundError) else ""
                raise InvalidDataError(
                    f"data.{split}: {path}: cannot be read ({err.strerror}).{near} Paths are relative to the spec."
                ) from err

    def refuse_changes() -> None:
        changed = next((path for path, stamp in stamps.items() if _stamp(path) != stamp), None)
        if changed is not None:
            raise InvalidDataError(f"{changed}: was changed while it was read. Try again once it is whole.")

    def read() -> Mapping[str, Rows]:
        if task.is_corpus:
            return {s: open_files(p, names["text"], refuse_changes) for s, p in files.items() if p}
        rows = {s: read_files(p, names, task.clean, task.formats, task.folder) for s, p in files.items() if p}
        refuse_changes()
        return rows

    name = Path(files["train"][0]).name + (f" and {len(files['train']) - 1} more" if files["train"][1:] else "")
    return Source(name=name, digest=_digest(parts), read=read)


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _near_file(path: Path) -> str:
    siblings = [p.name for p in path.parent.iterdir() if p.name != path.name] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, siblings, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _hub(source: str, data: Mapping[str, Any], task: DataTask, folder: Path) -> Source:
    names = column_names(data, task.columns)
    if not data.get("streaming"):
        digests, splits = read_whole(source, names, task)
        return Source(name=source, digest=_digest_of(digests), read=lambda: splits)
    digests, splits = read_stream(source, names, task, data, folder)
    bounds = "" if data["max_rows"] is None else f", at most {data['max_rows']:,} rows of a split"
    drawn = f", shuffled by a buffer of {data['shuffle_buffer']:,}" if data["shuffle_buffer"] else ""
    return Source(name=f"{source}{bounds}{drawn}", digest=_digest_of(digests), read=lambda: splits)


def _digest_of(splits: Mapping[str, str]) -> str:
    return _digest([f"{split}:{digest}" for split, digest in splits.items()])


def _digest(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
