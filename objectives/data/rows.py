"""Rows of text and label, cleaned and checked."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.errors import InvalidDataError

_LABELS_ALWAYS_FINE = 10
_LONGEST_LABEL = 256
_LONGEST_SHOWN = 60
_LONGEST_TEXT = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Texts and their labels.

    Attributes:
        texts: One text a row, none empty.
        labels: One label name a row, none empty.
        origin: Where they come from, for messages.
        dropped: Rows left out because text or label was empty.
    """

    texts: Sequence[str]
    labels: Sequence[str]
    origin: str
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Sequence[int]) -> Rows:
        """The rows at ``indices``, in that order."""
        texts, labels = [self.texts[i] for i in indices], [self.labels[i] for i in indices]
        return Rows(texts=texts, labels=labels, origin=self.origin)

    def digest(self) -> str:
        """sha256 over the content, in order."""
        hasher = hashlib.sha256()
        for text, label in zip(self.texts, self.labels, strict=True):
            hasher.update(f"{len(text)}:{text}{len(label)}:{label}".encode(errors="surrogatepass"))
        return hasher.hexdigest()


def clean_rows(texts: Sequence[Any], labels: Sequence[Any], origin: str) -> Rows:
    """Drop rows with an empty text or label (None, NaN, blanks); turn labels into names.

    Raises:
        InvalidDataError: If nothing is left, a text is not text, or a label is not a class.
    """
    kept_texts: list[str] = []
    kept_labels: list[str] = []
    for number, (text, label) in enumerate(zip(texts, labels, strict=True), start=1):
        if _is_empty(text) or _is_empty(label):
            continue
        if not isinstance(text, str):
            raise InvalidDataError(
                f"{origin}: row {number}: the text is {shown(text)}, of type {type(text).__name__}. "
                "Name the column that holds text with `data.text`."
            )
        name = _label_name(label, origin, number)
        if len(name) > _LONGEST_LABEL:
            raise InvalidDataError(
                f"{origin}: row {number}: the label {shown(name)} has {len(name)} characters: this column does not "
                "hold classes. Check `data.label`."
            )
        for key, value in (("text", text), ("label", name)):
            if not _is_unicode(value):
                raise InvalidDataError(
                    f"{origin}: row {number}: the {key} {shown(value)} holds half of a character (a lone surrogate), "
                    "which no tokenizer takes. Remove it, or write the whole character."
                )
        kept_texts.append(text)
        kept_labels.append(name)
    if not texts:
        raise InvalidDataError(f"{origin}: no rows. Give a file with at least two rows of each class.")
    if not kept_texts:
        raise InvalidDataError(
            f"{origin}: in all {len(texts)} rows text or label is empty. Check `data.text` and `data.label`."
        )
    return Rows(texts=kept_texts, labels=kept_labels, origin=origin, dropped=len(texts) - len(kept_texts))


def shown(value: Any) -> str:
    """A value as it reads in a message: on one line, cut where it is long."""
    if isinstance(value, list | tuple | dict):
        return "{…}" if isinstance(value, dict) else "[…]"
    text = repr(value[: _LONGEST_SHOWN + 1] if isinstance(value, str | bytes) else value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"


def shortened(text: str) -> str:
    """A text for a person to recognise it by: on one line, cut where it is long, without half characters."""
    line = " ".join(text[: 4 * _LONGEST_TEXT].split()).encode("utf-8", "replace").decode("utf-8")
    return line if len(line) <= _LONGEST_TEXT else f"{line[: _LONGEST_TEXT - 1]}…"


def label_names(train: Rows) -> list[str]:
    """Distinct labels of the training rows, sorted: by value if all are whole numbers, else as text.

    Raises:
        InvalidDataError: If there are fewer than two, or nearly as many as rows.
    """
    names = sorted(set(train.labels))
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
        unseen = sorted(set(rows.labels) - set(names))
        if unseen:
            listed = ", ".join(map(shown, unseen[:5]))
            count = sum(label in set(unseen) for label in rows.labels)
            raise InvalidDataError(
                f"{rows.origin}: {count} {split} rows have labels that no training row has: {listed}. "
                f"Training knows {', '.join(map(shown, names[:10]))}. Add training rows or fix the labels."
            )


def _is_empty(value: Any) -> bool:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return True
    return isinstance(value, str) and not value.strip()


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_whole(name: str) -> bool:
    return name.removeprefix("-").isdecimal()


def _label_name(label: Any, origin: str, number: int) -> str:
    if isinstance(label, str):
        return label.strip()
    if isinstance(label, bool | int):
        return str(label)
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    raise InvalidDataError(
        f"{origin}: row {number}: the label is {shown(label)}, of type {type(label).__name__}. Classes are text or "
        "whole numbers: check `data.label`."
    )
