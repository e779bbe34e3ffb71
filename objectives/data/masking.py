"""Hiding tokens for masked language modelling, as in Devlin et al., arXiv:1810.04805, section 3.1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IGNORED = -100
"""Label of a token that is not to be predicted."""

_SHARE = 0.15
_MASKED, _RANDOM = 0.8, 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Masker:
    """Chooses 15 % of a row's tokens: 80 % of them become the mask, 10 % another token, 10 % stay.

    Attributes:
        mask_id: The mask token.
        ordinary: Ids that a random token is drawn from: the vocabulary without special tokens, ``[ids]``.
        special: Ids never chosen.
        whole_words: Whether all tokens of a word are chosen together.
    """

    mask_id: int
    ordinary: npt.NDArray[np.int64]
    special: frozenset[int]
    whole_words: bool = False

    def mask(
        self, ids: npt.NDArray[np.int64], begins: npt.NDArray[np.bool_], seed: Sequence[int]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Hide tokens of a row; the same seed hides the same ones.

        Args:
            ids: Token ids, ``[tokens]``.
            begins: Whether each begins a word, ``[tokens]``.
            seed: Non-negative numbers, such as (trial seed, epoch, row).

        Returns:
            Token ids with some hidden, and the labels: the right id where one was chosen, else :data:`IGNORED`;
            at least one is chosen if any token is ordinary.
        """
        generator = np.random.default_rng(seed)
        candidates = np.flatnonzero(~np.isin(ids, list(self.special)))
        chosen = self._chosen(candidates, begins, generator)
        hidden, labels = ids.copy(), np.full_like(ids, IGNORED)
        labels[chosen] = ids[chosen]
        fate = generator.random(len(chosen))
        hidden[chosen[fate < _MASKED]] = self.mask_id
        other = chosen[(fate >= _MASKED) & (fate < _MASKED + _RANDOM)]
        hidden[other] = generator.choice(self.ordinary, len(other))
        return hidden, labels

    def _chosen(
        self, candidates: npt.NDArray[np.int64], begins: npt.NDArray[np.bool_], generator: np.random.Generator
    ) -> npt.NDArray[np.int64]:
        count = min(len(candidates), max(1, round(_SHARE * len(candidates))))
        if not self.whole_words:
            return np.sort(generator.permutation(candidates)[:count])
        words = np.cumsum(begins)[candidates]
        chosen: list[int] = []
        for word in generator.permutation(np.unique(words)):
            members = candidates[words == word]
            # As in the original: a word that would go beyond the share is left out, unless it is the first.
            if not chosen or len(chosen) + len(members) <= count:
                chosen.extend(members.tolist())
            if len(chosen) >= count:
                break
        return np.sort(np.array(chosen, dtype=np.int64))
