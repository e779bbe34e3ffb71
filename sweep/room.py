"""Whether there is room on the disk for a study, and for how much more of it."""

from __future__ import annotations

from sweep.checkpoints.space import Allowance, disk_use, head_room, needed_bytes
from sweep.errors import UserError
from sweep.spec.model import StudySpec


def allowance(spec: StudySpec) -> Allowance:
    """What the spec lets a study take of the disk."""
    quota = spec.limits.disk_gb
    return Allowance(
        layout=spec.layout,
        quota_bytes=None if quota is None else int(quota * 1e9),
        reserve_bytes=int(spec.limits.free_disk_gb * 1e9),
    )


def coming_bytes(spec: StudySpec, *, checkpoint_bytes: int, running: int) -> int:
    """Estimate of what a study will add to the checkpoints it has.

    Args:
        spec: The study.
        checkpoint_bytes: One resumable checkpoint.
        running: Trials side by side.
    """
    running = min(running, spec.budget.trials)
    needed = needed_bytes(checkpoint_bytes, running=running, kept=min(spec.keep + 1, spec.budget.trials))
    return max(needed - disk_use(spec.layout)["checkpoints"], head_room(checkpoint_bytes, running))


def refuse_without_room(spec: StudySpec, *, checkpoint_bytes: int = 0, running: int = 1) -> None:
    """Refuse a study that the disk or its quota has no room for.

    Raises:
        UserError: If it has none; names bytes, limit and remedy.
    """
    objection = allowance(spec).objection(coming_bytes(spec, checkpoint_bytes=checkpoint_bytes, running=running))
    if objection is not None:
        raise UserError(f"study {spec.study!r} has no room: {objection}.")
