"""Batches of similar length: less padding, the same rows, an order that depends on the seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_BATCHES_PER_POOL = 25

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRows:
    """Tokenised rows of a split, flat, as they lie on disk.

    Attributes:
        ids: Token ids of all rows, one after another, int32.
        offsets: Start of each row in ``ids`` and the end of the last, ``[rows + 1]``, int64.
        labels: Class of each row, ``[rows]``, int64.
        suffix: Special tokens at the end of each row; truncation keeps them.
    """

    ids: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    suffix: int

    def __len__(self) -> int:
        return len(self.labels)

    def lengths(self, max_length: int) -> Indices:
        """Tokens of each row after truncation, ``[rows]``."""
        return np.minimum(np.diff(self.offsets), max_length)

    def tokens(self, row: int, max_length: int) -> npt.NDArray[np.int32]:
        """Token ids of a row, truncated to ``max_length`` with its special tokens kept."""
        start, end = int(self.offsets[row]), int(self.offsets[row + 1])
        if end - start <= max_length:
            return self.ids[start:end]
        kept = max_length - self.suffix
        return np.concatenate([self.ids[start : start + kept], self.ids[end - self.suffix : end]])


def padded(
    rows: TokenRows, indices: Indices, max_length: int, pad_id: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Token ids and attention mask of a batch, padded on the right to its longest row.

    Returns:
        Two arrays ``[batch, longest]``, int64; the mask is 1 on tokens and 0 on padding.
    """
    tokens = [rows.tokens(int(i), max_length) for i in indices]
    width = max(map(len, tokens))
    ids = np.full((len(tokens), width), pad_id, dtype=np.int64)
    mask = np.zeros((len(tokens), width), dtype=np.int64)
    for line, values in enumerate(tokens):
        ids[line, : len(values)] = values
        mask[line, : len(values)] = 1
    return ids, mask


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
