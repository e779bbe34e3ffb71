"""``sweep compare``."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sweep.cli.options import JsonOption, StorageOption, named_storages, print_json
from sweep.cli.text import number, setting, sparkline
from sweep.domain import GAP
from sweep.errors import UserError

if TYPE_CHECKING:
    from sweep.comparison import Pair, Side
    from sweep.layout import StudyLayout

SHOWN_FLIPS = 3
"""Rows shown each way; ``--json`` tells all."""


def compare(
    sides: Annotated[
        list[str],
        typer.Argument(
            metavar="A B…", help="STUDY:TRIAL, STUDY for its winner, or a folder written by `sweep export`."
        ),
    ],
    split: Annotated[
        Literal["validation", "test"],
        typer.Option("--split", help="Rows to compare on; each look at the test split is recorded."),
    ] = "validation",
    show_all: Annotated[bool, typer.Option("--all", help="Show equal hyperparameters and all settings, too.")] = False,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that an exported model brings along.")
    ] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put trials side by side: hyperparameters, curves, metrics, classes, rows that flip, a paired test.

    Every further one is compared with the first.

    Example: `sweep compare intents:3 intents:0`
    """
    from sweep.comparison import compare_sides, find_side
    from sweep.objective_jobs import warm_parent

    if len(sides) < 2:
        raise UserError("compare: name at least two, e.g. `sweep compare intents:3 intents:0`.")
    storages = named_storages(storage)
    found = [find_side(side, storages, trust_remote_code=trust_remote_code) for side in sides]
    said = _open_test(found) if split == "test" else []
    for line in said:
        typer.echo(line, err=True)
    with warm_parent() as parent:
        pairs = [compare_sides(parent, found[0], other, split) for other in found[1:]]
    if as_json:
        print_json(_as_json(found, pairs, split, said, show_all=show_all))
        return
    typer.echo("\n".join(_as_text(found, pairs, split, show_all=show_all)))


def _open_test(sides: Sequence[Side]) -> list[str]:
    """Record the look at the test split of each study; returns which look it is, in words."""
    from sweep.selection.test_split import TestOpening, record_opening, said

    lines: list[str] = []
    studies: dict[StudyLayout, list[str]] = {}
    for side in sides:
        if side.study is None:
            lines.append(f"warning: the study of {side.label} is not in this storage: this look goes unrecorded.")
        else:
            studies.setdefault(side.study, []).append(side.label)
    for layout, labels in studies.items():
        count = record_opening(layout, TestOpening(at=time.time(), reason="compare", models=tuple(labels)))
        lines.append(f"the test split of study {layout.study!r} is {said(count)}.")
    return lines


def _values(sides: Sequence[Side], *, show_all: bool) -> dict[str, list[Any]]:
    """Hyperparameters by name, one value a side; with ``show_all`` every setting, else those that differ."""
    settings = [{**side.shown, **side.hyperparameters} for side in sides]
    tables = settings if show_all else [side.hyperparameters for side in sides]
    names = list(dict.fromkeys(name for table in tables for name in table))
    # One study searches what the other fixes: its setting is its value.
    rows = {name: [own.get(name) for own in settings] for name in names}
    return (
        rows if show_all else {name: row for name, row in rows.items() if any(_plain(v) != _plain(row[0]) for v in row)}
    )


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _as_json(
    sides: Sequence[Side], pairs: Sequence[Pair], split: str, said: Sequence[str], *, show_all: bool
) -> dict[str, Any]:
    return {
        "split": split,
        "test_split": list(said),
        "sides": [
            {
                "reference": side.reference,
                "label": side.label,
                "metric": side.metric,
                "hyperparameters": dict(side.hyperparameters),
                "recorded": dict(side.recorded),
                "curve": [{"step": step, "value": value} for step, value in side.curve],
                "model": None if side.model is None else str(side.model),
            }
            for side in sides
        ],
        "differing": _values(sides, show_all=show_all),
        "pairs": [
            {"first": sides[0].label, "second": side.label, **asdict(pair)}
            for side, pair in zip(sides[1:], pairs, strict=True)
        ],
    }


def _as_text(sides: Sequence[Side], pairs: Sequence[Pair], split: str, *, show_all: bool) -> list[str]:
    letters = [chr(ord("A") + i) for i in range(len(sides))]
    lines = [
        f"{letter}  {side.label}   {side.metric} {number(side.recorded.get(side.metric))} (recorded, {_rows(side)})"
        + (f" · train–validation gap {number(side.recorded[GAP])}" if GAP in side.recorded else "")
        for letter, side in zip(letters, sides, strict=True)
    ]
    rows = [[name, *map(setting, values)] for name, values in _values(sides, show_all=show_all).items()]
    lines += ["", *(_table(["", *letters], rows) if rows else ["The hyperparameters are the same."])]
    lines += _curves(letters, sides)
    for letter, pair in zip(letters[1:], pairs, strict=True):
        lines += ["", *_pair_lines("A", letter, sides[0].metric, pair, split)]
    return lines


def _rows(side: Side) -> str:
    return f"mean over {side.folds} folds" if side.folds else "validation"


def _curves(letters: Sequence[str], sides: Sequence[Side]) -> list[str]:
    told = [(letter, side) for letter, side in zip(letters, sides, strict=True) if side.curve]
    values = [value for _, side in told for _, value in side.curve]
    if not values:
        return []
    low, high = min(values), max(values)
    lines = ["", f"{sides[0].metric} by evaluation, from {number(low)} to {number(high)}"]
    for letter, side in told:
        line = sparkline([value for _, value in side.curve], low, high)
        (first, start), (last, end) = side.curve[0], side.curve[-1]
        where = ("fold 1", f"fold {side.folds}, as means") if side.folds else (f"step {first}", f"step {last}")
        lines.append(f"{letter}  {line}  {number(start)} at {where[0]}, {number(end)} at {where[1]}")
    return lines


def _pair_lines(first: str, second: str, metric: str, pair: Pair, split: str) -> list[str]:
    lines = []
    if pair.models:
        rows = pair.models[0]["rows"]
        lines.append(f"On the {split} split" + (f" ({rows} rows)" if rows else ""))
        names = [name for name in pair.models[0]["metrics"] if all(name in one["metrics"] for one in pair.models)]
        table = [[name, *(number(one["metrics"][name]) for one in pair.models)] for name in names]
        intervals = [one["interval"] for one in pair.models]
        if all(intervals):
            table.append([f"{metric}, 95 %", *(f"[{number(low)}, {number(high)}]" for low, high in intervals)])
        lines += _table(["", first, second], table)
    if pair.difference is not None:
        low, high = pair.difference["interval"]
        test = {"mcnemar": "McNemar's exact test", "permutation": "paired permutation test"}
        lines.append(
            f"{second} − {first}: {metric} {pair.difference['mean']:+.4f} [{low:+.4f}, {high:+.4f}], "
            f"p = {pair.difference['p_value']:.4g} ({test[pair.difference['method']]})"
        )
    if pair.note:
        lines.append(f"note: {pair.note}")
    if pair.classes:
        lines += ["", *_classes(first, second, *pair.classes)]
    lines += _flips(first, second, "better", pair.better) + _flips(first, second, "worse", pair.worse)
    return lines


def _classes(
    first: str, second: str, ones: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]]
) -> list[str]:
    found = [{row["label"]: row for row in rows} for rows in (ones, others)]
    rows = []
    for label in dict.fromkeys([*found[0], *found[1]]):
        values = [table[label]["f1"] if label in table else 0.0 for table in found]
        support = (found[0].get(label) or found[1][label])["support"]
        rows.append([str(label), str(support), *map(number, values), f"{values[1] - values[0]:+.4f}"])
    return _table(["F1 by class", "rows", first, second, f"{second} − {first}"], rows)


def _flips(first: str, second: str, way: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    lines = [
        "",
        f"{second} answers {len(rows)} row{'s' if len(rows) > 1 else ''} {way} than {first}"
        + (":" if len(rows) <= SHOWN_FLIPS else ", e.g.:"),
    ]
    for row in rows[:SHOWN_FLIPS]:
        said = ", ".join(
            f"{side} {answer}" + ("" if sure is None else f" ({sure:.2f})")
            for side, answer, sure in zip((first, second), row["predictions"], row["probabilities"], strict=True)
        )
        lines.append(f"  row {row['row']}, {row['label']}: {said}   {row['text']}")
    return lines


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    ]
