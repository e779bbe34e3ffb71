"""Training rows altered at random, anew in each epoch, so that a model does not learn them by heart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.data.batching import Indices, Ragged, TokenRows
from sweep.errors import UserError

SETTINGS = ("augment_delete", "augment_swap", "augment_mask")
_STREAM = 1
"""Tells its random numbers from those of the batches."""

Tokens = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Token deletion, swap and masking (the noise of Wei and Zou, arXiv:1901.11196, without a thesaurus).

    Attributes:
        delete: Share of the tokens that are left out; at least one stays.
        swap: Share of the tokens that change places with another one.
        mask: Share of the tokens that become ``mask_id``.
        mask_id: The tokenizer's mask, or its unknown token.
        special: Tokens that stay as and where they are.
    """

    delete: float
    swap: float
    mask: float
    mask_id: int
    special: tuple[int, ...]

    def of(self, rows: TokenRows, batch: Indices, seed: int, epoch: int) -> TokenRows:
        """Some rows, altered; the same for the same seed, epoch and row, whatever else is in the batch."""
        chosen = rows.take(batch)
        ids = Ragged(values=chosen.ids, offsets=chosen.offsets)
        altered = [
            self.altered(ids[i], np.random.default_rng((seed, epoch, int(row), _STREAM))) for i, row in enumerate(batch)
        ]
        new = Ragged.of(altered, chosen.ids.dtype)
        return TokenRows(
            ids=new.values, offsets=new.offsets, labels=chosen.labels, suffix=chosen.suffix, others=chosen.others
        )

    def altered(self, tokens: Tokens, generator: np.random.Generator) -> Tokens:
        """One row's tokens, altered."""
        ordinary = ~np.isin(tokens, self.special)
        kept = ~ordinary | (generator.random(len(tokens)) >= self.delete)
        if ordinary.any() and not (kept & ordinary).any():
            kept[generator.choice(np.flatnonzero(ordinary))] = True
        tokens, places = tokens[kept], np.flatnonzero(ordinary[kept])
        moving = places[generator.random(len(places)) < self.swap]
        for place, other in zip(moving, generator.choice(places, len(moving)), strict=True):
            tokens[[place, other]] = tokens[[other, place]]
        tokens[places[generator.random(len(places)) < self.mask]] = self.mask_id
        return tokens


def asks_for_augmentation(settings: Mapping[str, Any]) -> bool:
    """Whether the settings ask for any."""
    return any(settings[name] for name in SETTINGS)


def augmentation_of(settings: Mapping[str, Any], tokenizer: Any) -> Augmentation:
    """What the settings ask for.

    Raises:
        UserError: If the tokenizer has nothing to mask with.
    """
    delete, swap, mask = (float(settings[name]) for name in SETTINGS)
    mask_id = tokenizer.unk_token_id if tokenizer.mask_token_id is None else tokenizer.mask_token_id
    if mask and mask_id is None:
        raise UserError(f"augment_mask: {mask:g}, but the tokenizer has neither a mask nor an unknown token. Use 0.")
    special = tuple(sorted(set(tokenizer.all_special_ids)))
    return Augmentation(
        delete=delete, swap=swap, mask=mask, mask_id=-1 if mask_id is None else mask_id, special=special
    )
