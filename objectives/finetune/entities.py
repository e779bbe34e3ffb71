"""Entities in rows of tags, and how many were found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from seqeval.metrics.sequence_labeling import get_entities

Entity = tuple[str, int, int]
"""Type, first and last word."""

OUTSIDE = "O"
_PREFIXES = ("B-", "I-", "E-", "S-", "L-", "U-")


def entities(tags: Sequence[str]) -> list[Entity]:
    """Entities of a row of tags, as the conlleval script counts them (Tjong Kim Sang and De Meulder 2003).

    Tags without a prefix such as ``B-`` mark words one by one, as parts of speech do: each is an entity of its own.
    """
    if any(tag.startswith(_PREFIXES) for tag in tags):
        return [(str(kind), int(first), int(last)) for kind, first, last in get_entities(list(tags))]
    return [(tag, place, place) for place, tag in enumerate(tags) if tag != OUTSIDE]


@dataclass(frozen=True, slots=True)
class Counts:
    """Entities by type.

    Attributes:
        hits: Found with the right type and the right words.
        given: Found.
        right: There.
    """

    hits: Counter[str] = field(default_factory=Counter)
    given: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)


def entity_counts(rows: Iterable[tuple[Sequence[Entity], Sequence[Entity]]]) -> Counts:
    """Count entities over rows of (right ones, given ones)."""
    counts = Counts()
    for right, given in rows:
        counts.right.update(kind for kind, *_ in right)
        counts.given.update(kind for kind, *_ in given)
        counts.hits.update(kind for kind, *_ in set(right) & set(given))
    return counts


def entity_scores(rows: Mapping[str, Any]) -> dict[str, float]:
    """Micro-averaged precision, recall and F1 of entities, accuracy of words, and loss, from counts of rows.

    Args:
        rows: ``hits``, ``given``, ``label_entities``, ``right_words``, ``label_words``, ``losses`` (summed over the
            words that have one) and ``targets`` (how many), each ``[rows]``.
    """
    total = {name: float(np.sum(rows[name])) for name in rows}
    hits, given, right = total["hits"], total["given"], total["label_entities"]
    return {
        "entity_f1": 2 * hits / max(1.0, given + right),
        "entity_precision": hits / max(1.0, given),
        "entity_recall": hits / max(1.0, right),
        "token_accuracy": total["right_words"] / max(1.0, total["label_words"]),
        "loss": total["losses"] / max(1.0, total["targets"]),
    }
