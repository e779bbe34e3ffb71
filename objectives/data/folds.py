"""Rows in folds: each row in one, classes spread evenly, and equal rows never parted."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import numpy.typing as npt


def fold_of_rows(
    labels: Sequence[Hashable], groups: Sequence[Hashable], folds: int, seed: int
) -> npt.NDArray[np.int64]:
    """Which fold each row is in.

    Groups go one by one, the larger first, then class by class in random order, to the fold that has fewest rows of
    their classes; of those, to the smallest. Where no group has two rows, the sizes of two folds differ by one at most,
    and so do their rows of each class.

    Args:
        labels: Label of each row, by which the folds are stratified.
        groups: Group of each row: rows of one group get into one fold.
        folds: How many; at least 2.
        seed: Seed of the order, and of which fold gets what is left over.

    Returns:
        Fold of each row, 0-based, ``[rows]``, int64.
    """
    classes = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    generator = np.random.default_rng(seed)
    shuffled = [list(members.values())[i] for i in generator.permutation(len(members))]
    rank = generator.permutation(folds)
    counts, sizes = np.zeros((len(classes), folds), dtype=np.int64), np.zeros(folds, dtype=np.int64)
    found = np.empty(len(labels), dtype=np.int64)
    # Class by class: what is left over of one goes where those before left least.
    for rows in sorted(shuffled, key=lambda own: (-len(own), classes[labels[own[0]]])):
        own = [classes[labels[row]] for row in rows]
        fold = min(range(folds), key=lambda one: (counts[own, one].sum(), sizes[one], rank[one]))
        found[rows] = fold
        np.add.at(counts[:, fold], own, 1)
        sizes[fold] += len(rows)
    return found
