"""Classes: from cells to names, and which there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from objectives.data.rows import Rows, is_empty, shown, whole_characters
from sweep.errors import InvalidDataError

_LABELS_ALWAYS_FINE = 10
_LONGEST_LABEL = 256
_MARKS = ("|", ";", ",")


def label_cell(cell: Any, place: str, part: str) -> str:
    """The name of a class.

    Raises:
        InvalidDataError: If the cell holds none.
    """
    name = _label_name(cell, place, part)
    if len(name) > _LONGEST_LABEL:
        raise InvalidDataError(
            f"{place}: the {part} {shown(name)} has {len(name)} characters: this column does not "
            f"hold classes. Check `data.{part}`."
        )
    return whole_characters(name, place, part)


def label_names(train: Rows) -> list[str]:
    """Distinct labels of the training rows, sorted: by value if all are whole numbers, else as text.

    Raises:
        InvalidDataError: If there are fewer than two, or nearly as many as rows.
    """
    names = sorted(set(train["label"]))
    if len(names) < 2:
        raise InvalidDataError(
            f"{train.origin}: all {len(train)} rows have the one label {shown(names[0])}; nothing can be learnt. "
            "Give rows of at least two classes, or check `data.label`."
        )
    _refuse_too_many(names, train)
    if all(_is_whole(name) for name in names):
        return sorted(names, key=int)
    return names


def _refuse_too_many(names: Sequence[str], train: Rows) -> None:
    if len(names) > max(_LABELS_ALWAYS_FINE, len(train) // 2):
        raise InvalidDataError(
            f"{train.origin}: {len(names)} different labels in {len(train)} rows, such as {shown(names[0])}: "
            "this column does not hold classes. Check `data.label`."
        )


def check_labels(splits: Mapping[str, Rows], names: Sequence[str]) -> None:
    """Refuse labels that training never sees.

    Raises:
        InvalidDataError: If a split has a label that is not in ``names``.
    """
    for split, rows in splits.items():
        unseen = sorted(set(rows["label"]) - set(names))
        if unseen:
            listed = ", ".join(map(shown, unseen[:5]))
            count = sum(label in set(unseen) for label in rows["label"])
            raise InvalidDataError(
                f"{rows.origin}: {count} {split} rows have labels that no training row has: {listed}. "
                f"Training knows {', '.join(map(shown, names[:10]))}. Add training rows or fix the labels."
            )


def split_labels(cells: Sequence[Any]) -> list[Any]:
    """Cells of several classes; texts are split at the one mark of the column: ``|``, else ``;``, else ``,``."""
    mark = next((mark for mark in _MARKS if any(isinstance(cell, str) and mark in cell for cell in cells)), None)
    if mark is None:
        return list(cells)
    return [[part for part in c.split(mark) if part.strip()] if isinstance(c, str) else c for c in cells]


def several_cell(cell: Any, place: str, part: str) -> tuple[str, ...]:
    """Names of several classes, each once, in order.

    Raises:
        InvalidDataError: If the cell holds anything else.
    """
    if is_empty(cell):
        return ()
    return tuple(sorted({label_cell(c, place, part) for c in (cell if isinstance(cell, list | tuple) else [cell])}))


def several_names(train: Rows) -> list[str]:
    """Distinct classes of training rows that have any number of them, sorted as text.

    Raises:
        InvalidDataError: If all rows have the same ones, or there are nearly as many as rows.
    """
    names = sorted({name for row in train["label"] for name in row})
    if len(set(train["label"])) < 2:
        raise InvalidDataError(
            f"{train.origin}: all {len(train)} rows have the same labels; nothing can be learnt. Check `data.label`."
        )
    _refuse_too_many(names, train)
    return names


def check_several(splits: Mapping[str, Rows], names: Sequence[str]) -> None:
    """Refuse labels that training never sees.

    Raises:
        InvalidDataError: If a split has a label that is not in ``names``.
    """
    for split, rows in splits.items():
        flat = [name for row in rows["label"] for name in row]
        check_labels({split: Rows(columns={"label": flat}, origin=rows.origin)}, names)


def _is_whole(name: str) -> bool:
    return name.removeprefix("-").isdecimal()


def _label_name(label: Any, place: str, part: str) -> str:
    if isinstance(label, str):
        return label.strip()
    if isinstance(label, bool | int):
        return str(label)
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    raise InvalidDataError(
        f"{place}: the {part} is {shown(label)}, of type {type(label).__name__}. Classes are text or "
        f"whole numbers: check `data.{part}`."
    )
