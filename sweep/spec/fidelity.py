"""How far a trial trains, and where it is evaluated and compared."""

from __future__ import annotations

from sweep.domain import FidelityUnit, RungLadder

DEFAULT_EPOCHS = 3.0
MAX_EVALUATIONS = 1000
_NEAR_RUNG = 1 / 3
_NEAR_END = 0.1
_EXACT = 1e-9


def ladder_to(max_fidelity: float, first_rung: float, reduction_factor: int, unit: FidelityUnit) -> RungLadder | None:
    """The rungs of successive halving (Li et al., arXiv:1810.05934), or None where there is no room for one.

    Args:
        max_fidelity: A full run.
        first_rung: Share of it at which trials are first compared; in (0, 1).
        reduction_factor: eta.
        unit: Rungs in steps are whole.
    """
    lowest = first_rung * max_fidelity
    if unit == "steps":
        lowest = max(1.0, float(round(lowest)))
    if not 0 < lowest < max_fidelity * (1 - _EXACT):
        return None
    return RungLadder(min_fidelity=lowest, max_fidelity=max_fidelity, reduction_factor=reduction_factor)


def interval(max_fidelity: float, every: float | None, unit: FidelityUnit) -> float:
    """Fidelity between two evaluations: as asked for, or one epoch, or a quarter of the steps.

    Very long runs are evaluated ``MAX_EVALUATIONS`` times where nothing else is asked for.
    """
    if every is not None:
        return every
    return max(1.0, max_fidelity / MAX_EVALUATIONS) if unit == "epochs" else max_fidelity / 4


def evaluations(max_fidelity: float, every: float, ladder: RungLadder | None, whole: bool) -> tuple[float, ...]:
    """Fidelities to evaluate at, ascending; the last is the full run.

    Args:
        max_fidelity: A full run.
        every: Fidelity between evaluations; after ``MAX_EVALUATIONS`` of them only the rungs are left.
        ladder: Its rungs are evaluated exactly; a multiple of ``every`` within a third of one (10 % of the end) and
            half of ``every`` gives way to it.
        whole: Whether fidelities are whole numbers.
    """
    near = dict.fromkeys(ladder.rungs if ladder else (), _NEAR_RUNG) | {max_fidelity: _NEAR_END}
    count = int(min(max_fidelity / every * (1 + _EXACT), MAX_EVALUATIONS))
    multiples = [index * every for index in range(1, count + 1)]
    if whole:
        multiples = sorted({float(max(1, round(multiple))) for multiple in multiples})
    # An evaluation with its checkpoint costs a good part of an epoch: none where a rung has just been.
    # Half an interval at most: in long runs a share of the level would swallow several epochs.
    apart = [
        m for m in multiples if all(abs(m - level) > min(share * level, every / 2) for level, share in near.items())
    ]
    return tuple(sorted({*near, *(m for m in apart if m < max_fidelity)}))
