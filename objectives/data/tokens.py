"""Text to tokens, some rows at a time: what a tokenizer gives takes much more memory than the ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

_CHUNK_ROWS = 1024


def encodings(tokenizer: Any, max_length: int | None, *texts: Sequence[Any], **options: Any) -> Iterator[Any]:
    """What a tokenizer makes of texts, or of pairs of texts: one encoding for every 1,024 rows.

    Args:
        tokenizer: A transformers tokenizer.
        max_length: Tokens; longer rows are truncated.
        *texts: The texts; for pairs, the second texts too.
        **options: Further options of the tokenizer.
    """
    for start in range(0, len(texts[0]), _CHUNK_ROWS):
        chunk = [list(part[start : start + _CHUNK_ROWS]) for part in texts]
        yield tokenizer(*chunk, **{"truncation": True, "max_length": max_length, **options})


def token_ids(tokenizer: Any, max_length: int, *texts: Sequence[Any]) -> list[list[int]]:
    """Token ids of each text, or of each pair of texts."""
    chunks = encodings(tokenizer, max_length, *texts, return_attention_mask=False)
    return [ids for chunk in chunks for ids in chunk["input_ids"]]
