"""Rows in folds: each row in one, classes spread evenly, and equal rows never parted."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from objectives.data.leakage import keys_of
from objectives.data.rows import Rows, shown
from objectives.data.task import DataTask
from sweep.errors import InvalidDataError


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


def validation_seed(data: Mapping[str, Any]) -> int:
    """Seed of the rows to validate on: the splits', or the one that draws these rows anew."""
    return int(data.get("validation_seed", data["split_seed"]))


def validation_folds(
    train: Rows, data: Mapping[str, Any], task: DataTask, warnings: list[str]
) -> npt.NDArray[np.int64]:
    """Fold of each training row, ``[rows]``, int64; warns of classes that some folds have no row of.

    Rows that are alike but for case, blanks or punctuation get into one fold, as the task's ``gist`` says.

    Raises:
        InvalidDataError: If there are fewer different rows than folds, or the rows are running text.
    """
    if task.is_corpus:
        raise InvalidDataError(
            f"{train.origin}: running text is not parted in folds: what is trained on are blocks across its rows. "
            "Leave data.folds out."
        )
    folds, keys = int(data["folds"]), [task.gist(key) for key in keys_of(train, task)]
    if len(set(keys)) < folds:
        raise InvalidDataError(
            f"{train.origin}: {len(set(keys))} different rows are too few for {folds} folds. "
            "Give more rows, or lower data.folds."
        )
    strata = task.strata(train)
    labels = [""] * len(train) if strata is None else strata
    found = fold_of_rows(labels, keys, folds, validation_seed(data))
    places: dict[str, set[int]] = {}
    for label, fold in zip(labels, found.tolist(), strict=True):
        places.setdefault(label, set()).add(fold)
    lacking = sorted(label for label, own in places.items() if len(own) < folds)
    if lacking:
        warnings.append(
            f"{len(lacking)} rare classes have no row in some of the {folds} folds, so their errors there go unseen: "
            f"{', '.join(map(shown, lacking[:5]))}."
        )
    return found
