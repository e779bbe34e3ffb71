"""Batches of similar length: less padding, the same rows, an order that depends on the seed alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

_BATCHES_PER_POOL = 25

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ragged:
    """Values of rows of different lengths, flat, as they lie on disk.

    Attributes:
        values: Values of all rows, one after another.
        offsets: Start of each row in ``values`` and the end of the last, ``[rows + 1]``, int64.
    """

    values: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Any], dtype: npt.DTypeLike) -> Ragged:
        """Rows of values, each a sequence, laid one after another."""
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        values = np.concatenate([np.asarray(row, dtype=dtype) for row in rows]) if rows else np.empty(0, dtype)
        return cls(values=values, offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> npt.NDArray[Any]:
        return self.values[int(self.offsets[row]) : int(self.offsets[row + 1])]

    def take(self, indices: Indices) -> Ragged:
        """The rows at ``indices``, in that order."""
        return Ragged.of([self[int(i)] for i in indices], self.values.dtype)


Array = npt.NDArray[Any] | Ragged
"""Values of rows: an array of one entry a row, or rows of different lengths."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRows:
    """Encoded rows of a split, flat, as they lie on disk.

    Attributes:
        ids: Token ids of all rows, one after another, int32; or what else a model reads, such as samples of sound.
        offsets: Start of each row in ``ids`` and the end of the last, ``[rows + 1]``, int64.
        labels: Right answers, as the task encodes them: a class of each row, ``[rows]``, int64; several,
            ``[rows, classes]``; a class of each token or target tokens, ragged; or None.
        suffix: Special tokens at the end of each row; truncation keeps them.
        others: Further values of each row, by name.
        split: Of which split they are.
    """

    ids: npt.NDArray[Any]
    offsets: npt.NDArray[np.int64]
    labels: Any
    suffix: int
    others: Mapping[str, Array] = field(default_factory=dict)
    split: str = ""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def lengths(self, max_length: int) -> Indices:
        """Tokens of each row after truncation, ``[rows]``."""
        return np.minimum(np.diff(self.offsets), max_length)

    def tokens(self, row: int, max_length: int) -> npt.NDArray[Any]:
        """Token ids of a row, truncated to ``max_length`` with its special tokens kept."""
        return self.cut(self.ids[int(self.offsets[row]) : int(self.offsets[row + 1])], max_length)

    def cut(self, values: npt.NDArray[Any], max_length: int) -> npt.NDArray[Any]:
        """A row's values, one a token, truncated like its tokens."""
        if len(values) <= max_length:
            return values
        return np.concatenate([values[: max_length - self.suffix], values[len(values) - self.suffix :]])

    def take(self, indices: Indices) -> TokenRows:
        """The rows at ``indices``, in that order."""
        ids = Ragged(values=self.ids, offsets=self.offsets).take(indices)
        return TokenRows(
            ids=ids.values,
            offsets=ids.offsets,
            labels=None if self.labels is None else _taken(self.labels, indices),
            suffix=self.suffix,
            others={name: _taken(values, indices) for name, values in self.others.items()},
            split=self.split,
        )


def _taken(values: Array, indices: Indices) -> Array:
    return values.take(indices) if isinstance(values, Ragged) else values[indices]


def padded(
    rows: TokenRows, indices: Indices, max_length: int, pad_id: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Token ids and attention mask of a batch, padded on the right to its longest row.

    Returns:
        Two arrays ``[batch, longest]``, int64; the mask is 1 on tokens and 0 on padding.
    """
    tokens = [rows.tokens(int(i), max_length) for i in indices]
    return stacked(tokens, pad_id), stacked([np.ones(len(row), dtype=np.int64) for row in tokens], 0)


def stacked(rows: Sequence[npt.NDArray[Any]], fill: int) -> npt.NDArray[np.int64]:
    """Rows of whole numbers, filled up on the right to the longest: ``[rows, longest]``, int64."""
    filled = np.full((len(rows), max(map(len, rows))), fill, dtype=np.int64)
    for line, values in enumerate(rows):
        filled[line, : len(values)] = values
    return filled


def epoch_batches(lengths: Indices, batch_size: int, seed: int, epoch: int) -> list[Indices]:
    """All rows once, in batches of similar length, in an order given by (seed, epoch).

    Rows are shuffled, cut into pools of 25 batches, sorted by length within a pool and cut into batches;
    the batches are then shuffled over the whole epoch.

    Args:
        lengths: Tokens of each row, ``[rows]``.
        batch_size: Rows a batch; one batch may be smaller.
        seed: Seed of the trial.
        epoch: 0-based epoch.

    Returns:
        Row indices of each batch, int64; ``ceil(rows / batch_size)`` batches.
    """
    generator = np.random.default_rng((seed, epoch))
    order = generator.permutation(len(lengths))
    pool = batch_size * _BATCHES_PER_POOL
    batches: list[Indices] = []
    for start in range(0, len(order), pool):
        members = order[start : start + pool]
        members = members[np.argsort(lengths[members], kind="stable")]
        batches.extend(members[i : i + batch_size] for i in range(0, len(members), batch_size))
    return [batches[i] for i in generator.permutation(len(batches))]


def sorted_batches(lengths: Indices, batch_size: int) -> list[Indices]:
    """All rows once, shortest first, for evaluation."""
    order = np.argsort(lengths, kind="stable")
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def cut(batch: Indices, parts: int) -> list[Indices]:
    """A batch in so many parts of nearly the same size, in order; fewer if it has fewer rows."""
    return list(np.array_split(batch, min(parts, len(batch))))


def grouped(batches: Sequence[Indices], accumulation: int) -> list[list[Indices]]:
    """Batches of each optimizer step; the last step of an epoch may have fewer."""
    return [list(batches[i : i + accumulation]) for i in range(0, len(batches), accumulation)]
