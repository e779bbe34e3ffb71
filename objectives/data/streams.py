"""Documents as one stream of tokens, and the blocks it is cut into for language modelling."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Offsets = npt.NDArray[np.int64]
"""Start of each part of a stream and the end of the last, ``[parts + 1]``."""


def stream_parts(documents: Sequence[Sequence[int]], separator: int) -> list[list[int]]:
    """Documents with a separator behind each, and one more before the first: joined they are ``E d0 E d1 E``."""
    parts = [[*tokens, separator] for tokens in documents]
    return [[separator, *parts[0]], *parts[1:]] if parts else []


def block_offsets(documents: Offsets, size: int, *, packed: bool, separator_is_free: bool = False) -> Offsets:
    """Cut a stream into blocks, one behind the other; only the first separator is in none.

    Whatever the size and the packing, each token of a document and the separator behind it is in exactly one block.

    Args:
        documents: Offsets of what :func:`stream_parts` made.
        size: Most tokens of a block; at least 1.
        packed: Whether blocks go on across documents; if not, each document begins a block of its own.
        separator_is_free: Whether a separator that ends a block goes beyond its size.
    """
    ends = documents.copy()
    ends[0] = 1
    if packed:
        ends = ends[[0, -1]]
    spared = int(separator_is_free)
    starts = [np.arange(start, max(end - spared, start + 1), size) for start, end in itertools.pairwise(ends.tolist())]
    return np.concatenate([*starts, ends[-1:]]).astype(np.int64)


def documents_of(documents: Offsets, blocks: Offsets) -> npt.NDArray[np.int64]:
    """The document in which each block begins, ``[blocks]``."""
    return np.searchsorted(documents, blocks[:-1], side="right") - 1
