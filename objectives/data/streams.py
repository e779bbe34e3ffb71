"""Documents as one stream of tokens, and the blocks it is cut into for language modelling."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Spans = npt.NDArray[np.int64]
"""Start and end of each block in a stream, ``[blocks, 2]``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStream:
    """Tokenised documents of a split with one separator before the first and after each: ``E d0 E d1 E``.

    Attributes:
        ids: Token ids, ``[tokens]``, int32.
        begins: Whether a token begins a word, ``[tokens]``, bool; separators do.
        separators: Place of each separator, ``[documents + 1]``, int64.
    """

    ids: npt.NDArray[np.int32]
    begins: npt.NDArray[np.bool_]
    separators: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)


def stream_of(documents: Iterable[tuple[Sequence[int], Sequence[bool]]], separator: int) -> TokenStream:
    """Join documents, each given by its token ids and whether each of them begins a word."""
    ids, begins, separators = [np.array([separator])], [np.array([True])], [0]
    place = 0
    for tokens, first in documents:
        ids += [np.asarray(tokens), np.array([separator])]
        begins += [np.asarray(first, dtype=bool), np.array([True])]
        place += len(tokens) + 1
        separators.append(place)
    return TokenStream(
        ids=np.concatenate(ids).astype(np.int32),
        begins=np.concatenate(begins),
        separators=np.array(separators, dtype=np.int64),
    )


def predicted_spans(stream: TokenStream, length: int, *, packed: bool) -> Spans:
    """Blocks for predicting each token from those before it in its block.

    A block begins with the last token of the one before it, which it does not predict again: whatever the length
    and the packing, each token of a document and the separator behind it is predicted exactly once, so that the
    mean negative log-likelihood of a split is always over the same tokens.

    Args:
        stream: Documents.
        length: Tokens a block; at least 2.
        packed: Whether blocks go on across documents; if not, each document begins a block of its own.
    """
    ends = (0, len(stream) - 1) if packed else stream.separators
    return _cut([(int(a), int(b) + 1) for a, b in itertools.pairwise(ends)], length, shared=1)


def masked_spans(stream: TokenStream, length: int, *, packed: bool) -> Spans:
    """Blocks for filling in masked tokens: each token of a document is in exactly one.

    Args:
        stream: Documents.
        length: Tokens a block, without the special tokens that will be put around it; at least 1.
        packed: Whether blocks go on across documents, separators among the tokens.
    """
    ends = (0, len(stream) - 1) if packed else stream.separators
    return _cut([(int(a) + 1, int(b)) for a, b in itertools.pairwise(ends)], length, shared=0)


def _cut(bounds: Iterable[tuple[int, int]], length: int, shared: int) -> Spans:
    """Cut ranges into blocks; each shares so many tokens with the one before it, and has more than those."""
    found = [
        np.stack([starts, np.minimum(starts + length, end)], axis=1)
        for start, end in bounds
        if len(starts := np.arange(start, end - shared, length - shared, dtype=np.int64))
    ]
    return np.concatenate(found) if found else np.empty((0, 2), dtype=np.int64)
