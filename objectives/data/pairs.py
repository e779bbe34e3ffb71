"""Two texts in one row: encoded together, truncated as a tokenizer truncates them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.data.batching import Indices, Ragged, TokenRows, padded, stacked
from objectives.data.task import Encoded
from objectives.data.tokens import encodings

_PARTS, _TYPES = "parts", "types"
_SPECIAL = -1


def encode_pairs(tokenizer: Any, max_length: int, first: Sequence[str], second: Sequence[str]) -> Encoded:
    """Token ids of pairs; beside each token, which text it is of, and its type where the model wants one."""
    ids, parts, types = [], [], []
    for chunk in encodings(tokenizer, max_length, first, second, return_attention_mask=False):
        ids += chunk["input_ids"]
        types += chunk.get("token_type_ids", [])
        for row in range(len(chunk["input_ids"])):
            parts.append([_SPECIAL if part is None else part for part in chunk.sequence_ids(row)])
    others = {_PARTS: Ragged.of(parts, np.int8)}
    return Encoded(ids=ids, others={**others, _TYPES: Ragged.of(types, np.int8)} if types else others)


def model_inputs(rows: TokenRows, batch: Indices, max_length: int, pad_id: int) -> dict[str, npt.NDArray[np.int64]]:
    """What a model reads of a batch of single texts or of pairs, padded on the right, each ``[batch, longest]``, int64.

    Args:
        rows: Encoded rows; pairs as :func:`encode_pairs` made them.
        batch: Indices of rows.
        max_length: Tokens; longer rows are truncated.
        pad_id: Padding token.
    """
    if _PARTS not in rows.others:
        ids, mask = padded(rows, batch, max_length, pad_id)
        return {"input_ids": ids, "attention_mask": mask}
    kept = [_kept(_ragged(rows, _PARTS)[int(i)], max_length) for i in batch]
    tokens = Ragged(values=rows.ids, offsets=rows.offsets)
    inputs = {
        "input_ids": stacked([tokens[int(i)][places] for i, places in zip(batch, kept, strict=True)], pad_id),
        "attention_mask": stacked([np.ones(len(places), dtype=np.int64) for places in kept], 0),
    }
    if _TYPES in rows.others:
        types = _ragged(rows, _TYPES)
        inputs["token_type_ids"] = stacked([types[int(i)][places] for i, places in zip(batch, kept, strict=True)], 0)
    return inputs


def _ragged(rows: TokenRows, name: str) -> Ragged:
    found = rows.others[name]
    if not isinstance(found, Ragged):
        raise TypeError(f"{name} is an array of one entry a row")
    return found


def _kept(parts: npt.NDArray[np.int8], max_length: int) -> npt.NDArray[np.int64]:
    """Places of the tokens that stay: the longer text loses its end first, as in ``longest_first`` truncation."""
    lengths = [int((parts == part).sum()) for part in (0, 1)]
    room = max_length - (len(parts) - sum(lengths))
    if sum(lengths) > room:
        shorter, longer = (0, 1) if lengths[0] <= lengths[1] else (1, 0)
        lengths[longer] = max(lengths[shorter], room - lengths[shorter])
        if sum(lengths) > room:
            lengths[shorter], lengths[longer] = room // 2, room - room // 2
    rank = np.where(parts == 0, np.cumsum(parts == 0), np.cumsum(parts == 1))
    limit = np.select([parts == 0, parts == 1], lengths, default=len(parts))
    return np.flatnonzero((parts == _SPECIAL) | (rank <= limit))
