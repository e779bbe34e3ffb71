"""Classes: from cells to names, and which there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from objectives.data.rows import Rows, shown, whole_characters
from sweep.errors import InvalidDataError

_LABELS_ALWAYS_FINE = 10
_LONGEST_LABEL = 256


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
    if len(names) > max(_LABELS_ALWAYS_FINE, len(train) // 2):
        raise InvalidDataError(
            f"{train.origin}: {len(names)} different labels in {len(train)} rows, such as {shown(names[0])}: "
            "this column does not hold classes. Check `data.label`."
        )
    if all(_is_whole(name) for name in names):
        return sorted(names, key=int)
    return names


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
