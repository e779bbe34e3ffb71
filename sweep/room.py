"""Whether there is room on the disk for a study and its final, and for how much more of them."""

from __future__ import annotations

from contextlib import suppress

from sweep.checkpoints.space import Allowance, disk_use, head_room, model_bytes, needed_bytes
from sweep.errors import SweepError, UserError
from sweep.selection.verdict import Verdict
from sweep.selection.winner import read_verdict
from sweep.spec.model import StudySpec

_SOUPS_AT_ONCE = 2
"""Averages with weights that a final holds: the one being made, and the best."""

_BESIDE_A_SOUP_OF_ADAPTERS = 2
"""Plain models besides: the adapter that is merged next, and the average with it."""


def allowance(spec: StudySpec) -> Allowance:
    """What the spec lets a study take of the disk."""
    quota = spec.limits.disk_gb
    return Allowance(
        layout=spec.layout,
        quota_bytes=None if quota is None else int(quota * 1e9),
        reserve_bytes=int(spec.limits.free_disk_gb * 1e9),
    )


def coming_bytes(spec: StudySpec, *, checkpoint_bytes: int, running: int, merged_bytes: int = 0) -> int:
    """Estimate of what a study and its final will add to the checkpoints they have.

    Args:
        spec: The study.
        checkpoint_bytes: One resumable checkpoint.
        running: Trials side by side.
        merged_bytes: One model of an adapter and its base; 0 where none is trained.
    """
    own = _search_bytes(spec, checkpoint_bytes, running)
    final = _final_bytes(spec, checkpoint_bytes, running, merged_bytes)
    # The final begins when the search holds no more than the models that stay.
    kept = min(spec.keep + 1, spec.budget.trials) * model_bytes(checkpoint_bytes)
    return max(own, max(0, kept - disk_use(spec.layout)["checkpoints"]) + final) if final else own


def refuse_without_room(spec: StudySpec, *, checkpoint_bytes: int = 0, running: int = 1, merged_bytes: int = 0) -> None:
    """Refuse a study that the disk or its quota has no room for; its final has a folder, and a quota, of its own.

    Raises:
        UserError: If it has none; names bytes, limit and remedy.
    """
    own = allowance(spec)
    coming = coming_bytes(spec, checkpoint_bytes=checkpoint_bytes, running=running, merged_bytes=merged_bytes)
    objection = own.lack_of_space(coming)
    objection = objection or own.excess(own.used_bytes(), _search_bytes(spec, checkpoint_bytes, running))
    final = _final_bytes(spec, checkpoint_bytes, running, merged_bytes)
    if objection is None and final:
        theirs = allowance(spec.model_copy(update={"study": spec.layout.confirmation.study}))
        objection = theirs.excess(theirs.used_bytes(), final)
    if objection is not None:
        raise UserError(f"study {spec.study!r} has no room: {objection}.")


def _search_bytes(spec: StudySpec, checkpoint_bytes: int, running: int) -> int:
    running = min(running, spec.budget.trials)
    needed = needed_bytes(checkpoint_bytes, running=running, kept=min(spec.keep + 1, spec.budget.trials))
    return max(needed - disk_use(spec.layout)["checkpoints"], head_room(checkpoint_bytes, running))


def _final_bytes(spec: StudySpec, checkpoint_bytes: int, running: int, merged_bytes: int) -> int:
    """What the final will add: each of its runs keeps a model until the verdict. 0 where none is to come."""
    confirm = spec.confirm
    if confirm is None:
        return 0
    verdict = None
    with suppress(SweepError):
        verdict = read_verdict(spec.layout)
    finalists = min(confirm.finalists + 1, spec.budget.trials)
    runs = finalists * confirm.seeds - (_judged(verdict, confirm.seeds) if verdict else 0)
    if runs <= 0:
        return 0
    running = min(running, runs)
    needed = needed_bytes(checkpoint_bytes, running=running, kept=runs)
    if confirm.soup != "none":
        needed += _soups_bytes(checkpoint_bytes, merged_bytes)
    # After a verdict, what is there are models that stay.
    there = 0 if verdict else disk_use(spec.layout.confirmation)["checkpoints"]
    return max(needed - there, head_room(checkpoint_bytes, running))


def _soups_bytes(checkpoint_bytes: int, merged_bytes: int) -> int:
    if merged_bytes:
        return (_SOUPS_AT_ONCE + _BESIDE_A_SOUP_OF_ADAPTERS) * merged_bytes
    return _SOUPS_AT_ONCE * model_bytes(checkpoint_bytes)


def _judged(verdict: Verdict, seeds: int) -> int:
    """Runs that need not be trained any more; whom racing dropped gets none."""
    racers = [one for one in verdict.finalists if one.kind != "soup"]
    return sum(len(one.scores) if one.dropped_after is None else seeds for one in racers)
