"""Data sets of the Hub: downloaded whole, or a stream of which a piece is taken once and kept in files."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from objectives.data.corpus import open_corpus
from objectives.data.files import Columns, pick
from objectives.data.rows import Rows, shown
from objectives.data.tables import reason_of
from objectives.data.task import DataTask
from sweep.checkpoints import committing, intact, read_manifest
from sweep.errors import InvalidDataError

Splits = Mapping[str, Rows]
Digests = Mapping[str, str]
Batches = Callable[[], Iterator[Columns]]
"""Begins to read all cells anew, by the parts of their columns, some rows at a time."""

_USUAL_NAMES = {"train": ("train",), "validation": ("validation", "valid", "dev"), "test": ("test",)}
_MISSING_CLASS = -1
_BATCH_ROWS = 256


def read_whole(source: str, names: Mapping[str, str], task: DataTask) -> tuple[Digests, Splits]:
    """A data set that is downloaded; running text stays on disk, rows for other tasks are held in memory.

    Args:
        source: ``id`` or ``id:configuration``.
        names: Columns by the parts they play.
        task: How it cleans them.

    Returns:
        sha256 of the content of its splits, and their rows.

    Raises:
        InvalidDataError: If it cannot be had, or lacks a split or a column.
    """
    import datasets

    loaded = _had(source, lambda *place: datasets.load_dataset(*place))
    splits = {}
    for split, name in _splits_of(source, loaded).items():
        batches = functools.partial(_batches, loaded[name], names, f"{source}[{name}]")
        if _has_answers(batches(), _classes(loaded[name], names), split, f"{source}[{name}]"):
            splits[split] = _rows(task, batches, f"{source}[{name}]")
    return {split: rows.digest() for split, rows in splits.items()}, splits


def read_stream(
    source: str, names: Mapping[str, str], task: DataTask, data: Mapping[str, Any], folder: Path
) -> tuple[Digests, Splits]:
    """A data set that is not downloaded: a piece of it is taken, once for each revision, and kept in files.

    Args:
        source: Likewise.
        names: Likewise.
        task: Likewise.
        data: Has ``max_rows``, the most that are taken of each split, or None for all; and ``shuffle_buffer``, how many
            rows wait for one of them to be drawn by ``split_seed``, where 0 takes them as they come.
        folder: Where prepared data lies.

    Returns:
        Likewise.

    Raises:
        InvalidDataError: Likewise.
    """
    import datasets

    builder = _had(source, lambda *place: datasets.load_dataset_builder(*place))
    wanted = {"source": source, "revision": builder.hash, "columns": dict(names), "max_rows": data["max_rows"]}
    if data["shuffle_buffer"]:
        wanted |= {"shuffle_buffer": data["shuffle_buffer"], "seed": data["split_seed"]}
    piece = folder / f"rows-{hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()[:16]}"
    if not intact(piece):
        streams = _had(source, lambda *_: builder.as_streaming_dataset())
        with committing(piece, wanted) as new:
            for split, name in _splits_of(source, streams).items():
                _take(_chosen(streams[name], data), names, new / f"{name}.jsonl", split, f"{source}[{name}]")
    files = {Path(name).stem: entry.sha256 for name, entry in read_manifest(piece, verify=False).files.items()}
    found = _splits_of(source, files)
    splits = {
        split: _rows(task, functools.partial(_taken, piece / f"{name}.jsonl"), f"{source}[{name}]")
        for split, name in found.items()
    }
    return {split: files[name] for split, name in found.items()}, splits


def _had(source: str, load: Callable[[str, str | None], Any]) -> Any:
    import datasets

    datasets.disable_progress_bars()
    name, _, configuration = source.partition(":")
    try:
        return load(name, configuration or None)
    # The library and its transports raise freely: whatever it is, the data set cannot be had.
    except Exception as err:
        raise InvalidDataError(
            f"data.source: {source!r} cannot be loaded: {_told(err)}. Check the id "
            "(`name` or `name:configuration`) and the network, or use files (`data: {train: …}`)."
        ) from err


def _splits_of(source: str, found: Iterable[str]) -> dict[str, str]:
    """Names of the splits that there are, by what they are for."""
    names = list(found)
    splits = {split: [name for name in usual if name in names] for split, usual in _USUAL_NAMES.items()}
    if not splits["train"]:
        raise InvalidDataError(
            f"data.source: {source!r} has no split `train`; found: {', '.join(names)}. Use another, or files."
        )
    return {split: own[0] for split, own in splits.items() if own}


def _rows(task: DataTask, batches: Batches, origin: str) -> Rows:
    if task.is_corpus:
        return open_corpus({origin: lambda: (text for batch in batches() for text in batch["text"])})
    columns: Columns = {}
    for batch in batches():
        for part, cells in batch.items():
            columns.setdefault(part, []).extend(cells)
    return task.clean(columns, origin)


def _batches(dataset: Any, names: Mapping[str, str], origin: str) -> Iterator[Columns]:
    """Cells of a data set or of a stream, classes by their names."""
    features = dataset.features or {}
    if features:  # if not, there is something wrong with the first rows of a stream, which reading them will tell
        for part, name in names.items():
            pick({column: [] for column in features}, name, part, origin)
        dataset = dataset.select_columns(list(names.values()))
    for batch in dataset.iter(batch_size=_BATCH_ROWS):
        cells = {part: pick(batch, name, part, origin) for part, name in names.items()}
        yield {part: [_cell(cell, features.get(names[part])) for cell in found] for part, found in cells.items()}


def _cell(value: Any, feature: Any) -> Any:
    if several := getattr(getattr(feature, "feature", None), "names", None):
        return None if value is None else [several[number] for number in value]
    if classes := getattr(feature, "names", None):
        return None if value is None or value == _MISSING_CLASS else classes[value]
    return value


def _classes(dataset: Any, names: Mapping[str, str]) -> set[str]:
    """Parts whose column holds the class of each row."""
    return {part for part, name in names.items() if getattr((dataset.features or {}).get(name), "names", None)}


def _has_answers(batches: Iterable[Columns], classes: set[str], split: str, origin: str) -> bool:
    """Whether some row has a class; those of a test split may be kept secret, those to train on may not."""
    lacking, is_empty = set(classes), True
    for batch in batches:
        lacking -= {part for part in lacking if any(cell is not None for cell in batch[part])}
        is_empty = False
        if not lacking:
            break
    if split == "train" and lacking and not is_empty:
        columns = ", ".join(f"data.{part}" for part in sorted(lacking))
        raise InvalidDataError(f"{origin}: no row has a class ({columns}). Name another column, or another data set.")
    return is_empty or not lacking


def _chosen(stream: Any, data: Mapping[str, Any]) -> Any:
    """The rows to take of a stream."""
    if data["shuffle_buffer"]:
        stream = stream.shuffle(seed=data["split_seed"], buffer_size=data["shuffle_buffer"])
    return stream if data["max_rows"] is None else stream.take(data["max_rows"])


def _take(stream: Any, names: Mapping[str, str], file: Path, split: str, origin: str) -> None:
    """Write the cells of a stream, a row to a line; nothing where the answers are kept secret."""
    count = 0
    with file.open("w", encoding="utf-8") as lines:
        for batch in _arriving(_batches(stream, names, origin), origin):
            for cells in zip(*batch.values(), strict=True):
                count += 1
                lines.write(_line(dict(zip(batch, cells, strict=True)), f"{origin}: row {count}"))
    if not count:
        raise InvalidDataError(f"{origin}: no rows. Name a data set that has some.")
    if not _has_answers(_taken(file), _classes(stream, names), split, origin):
        file.unlink()


def _arriving(batches: Iterator[Columns], origin: str) -> Iterator[Columns]:
    try:
        yield from batches
    except InvalidDataError:
        raise
    # As freely as when it is loaded: a connection that breaks off, a damaged file, rows of another shape.
    except Exception as err:
        raise InvalidDataError(
            f"{origin}: the stream broke off: {_told(err)}. Try again; nothing of it was kept."
        ) from err


def _line(cells: Mapping[str, Any], place: str) -> str:
    def refuse(value: Any) -> Any:
        raise InvalidDataError(
            f"{place}: holds {shown(value)}, of type {type(value).__name__}, which no task reads. Name other columns."
        )

    return json.dumps(cells, default=refuse) + "\n"


def _taken(file: Path) -> Iterator[Columns]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield {part: [cell] for part, cell in json.loads(line).items()}


def _told(err: Exception) -> str:
    return f"{type(err).__name__}: {reason_of(err)}".rstrip(".: ")
