"""Stratified splits and draws that depend on the seed alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def stratified_order(labels: Sequence[str] | npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.int64]:
    """An order of the rows of which every beginning is stratified.

    The r-th row of a class of n rows, in random order, gets the place (r + 1/2) / n, so a class of one row
    comes in the middle: a small split never takes the only row of a class away from training.

    Args:
        labels: Label of each row, ``[rows]``.
        seed: Seed of the order.

    Returns:
        All row indices, ``[rows]``, int64; beginnings of different lengths are nested.
    """
    values = np.asarray(labels)
    generator = np.random.default_rng(seed)
    places = np.empty(len(values), dtype=np.float64)
    for name in np.unique(values):
        members = generator.permutation(np.flatnonzero(values == name))
        places[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.lexsort((generator.permutation(len(values)), places)).astype(np.int64)


def split_off(labels: Sequence[str], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Split a share of the rows off, stratified.

    Args:
        labels: Label of each row.
        fraction: Share to split off, in (0, 1); at least one row is.
        seed: Seed of the split.

    Returns:
        Indices of the rows that stay and of those split off, each ascending.
    """
    order = stratified_order(labels, seed)
    count = max(1, round(len(labels) * fraction))
    return sorted(order[count:].tolist()), sorted(order[:count].tolist())


def draw_rows(labels: npt.NDArray[np.int64], count: int | None, seed: int) -> npt.NDArray[np.int64]:
    """Indices of ``count`` rows, stratified, ascending; all rows for None or a count beyond them."""
    if count is None or count >= len(labels):
        return np.arange(len(labels), dtype=np.int64)
    return np.sort(stratified_order(labels, seed)[:count])
