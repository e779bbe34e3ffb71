"""Documents as one stream of tokens, and the blocks it is cut into for language modelling."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.data.batching import Array, Ragged, TokenRows

Offsets = npt.NDArray[np.int64]
"""Start of each part of a stream and the end of the last, ``[parts + 1]``."""


def stream_parts(documents: Sequence[Sequence[int]], separator: int, *, begins: bool = True) -> list[list[int]]:
    """Documents with a separator behind each, and one more before the first: joined they are ``E d0 E d1 E``.

    Args:
        documents: Their tokens.
        separator: The token that parts them.
        begins: Whether the stream begins with these documents; if not, others come before them.
    """
    parts = [[*tokens, separator] for tokens in documents]
    return [[separator, *parts[0]], *parts[1:]] if parts and begins else parts


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Documents:
    """Which documents the tokens of each block belong to; kept beside the blocks.

    Attributes:
        first: The document in which each block begins, ``[blocks]``.
        ends: Places within each block of the separators that end a document.
    """

    first: npt.NDArray[np.int64]
    ends: Ragged

    @classmethod
    def of(cls, documents: Offsets, blocks: Offsets) -> Documents:
        """Those of blocks that a stream was cut into by :func:`block_offsets`."""
        ends = documents[1:] - 1
        offsets = np.searchsorted(ends, blocks).astype(np.int64)
        block = np.repeat(np.arange(len(blocks) - 1), np.diff(offsets))
        return cls(first=offsets[:-1], ends=Ragged(values=ends - blocks[block], offsets=offsets))

    @classmethod
    def beside(cls, rows: TokenRows) -> Documents:
        """Those that lie beside blocks as :attr:`beside_rows`."""
        others: Mapping[str, Any] = rows.others
        return cls(first=others["document"], ends=others["ends"])

    @property
    def beside_rows(self) -> dict[str, Array]:
        """As further values of rows."""
        return {"document": self.first, "ends": self.ends}

    def count(self, lengths: npt.NDArray[np.int64]) -> int:
        """Documents up to the last one that a block of these lengths has a token of."""
        return 1 + max(int(self.at(block, length - 1)) for block, length in enumerate(lengths.tolist()))

    def at(self, block: int, places: Any) -> Any:
        """The document of a place within a block, or of each of several."""
        return self.first[block] + np.searchsorted(self.ends[block], places)
