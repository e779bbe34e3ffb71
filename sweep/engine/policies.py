"""What follows when an attempt ends badly: another attempt, or the end of its trial."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sweep.domain import AttemptEnd, Setback, Trial, TrialState
from sweep.spec.model import OnSpec

FINAL_STATES = {
    AttemptEnd.FINISHED: TrialState.COMPLETE,
    AttemptEnd.STOPPED: TrialState.PRUNED,
    AttemptEnd.DIVERGED: TrialState.DIVERGED,
    AttemptEnd.OOM: TrialState.OOM,
    AttemptEnd.TIMEOUT: TrialState.TIMEOUT,
    AttemptEnd.FAILED: TrialState.FAILED,
    AttemptEnd.LOST: TrialState.FAILED,
}
"""How a trial ends when its last attempt ends so."""

SETBACKS = frozenset({AttemptEnd.OOM, AttemptEnd.TIMEOUT, AttemptEnd.FAILED, AttemptEnd.LOST})
"""Ends after which a trial may have another attempt."""

_CHANGING = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def deserves_another(setbacks: Sequence[Setback], policies: OnSpec, *, batch_size: int) -> bool:
    """Whether a trial gets another attempt after the newest of its setbacks.

    Args:
        setbacks: All of the trial, in order; at least one.
        policies: The spec's ``on``.
        batch_size: Rows of a micro-batch before it is halved.
    """
    newest = setbacks[-1]
    alike = [setback for setback in setbacks if setback.end is newest.end]
    if newest.end is AttemptEnd.OOM:
        # A micro-batch of one row cannot be halved.
        return len(alike) <= policies.oom.halvings and 2 ** len(alike) <= batch_size
    if newest.end is AttemptEnd.LOST:
        # Machines come and go: only losses that cost the same work again count.
        return sum(setback.step == newest.step for setback in alike) <= policies.lost.retries
    retries = policies.timeout.retries if newest.end is AttemptEnd.TIMEOUT else policies.failed.retries
    return len(alike) <= retries


def fingerprint(error: str) -> str:
    """What two tracebacks of the same fault have in common: all but their numbers."""
    return _CHANGING.sub("#", error.strip())


@dataclass(slots=True)
class FailureStreak:
    """Counts trials in a row that ended with the same traceback."""

    _fingerprint: str = ""
    _length: int = 0

    def add(self, trial: Trial) -> int:
        """Take the next finished trial; returns how many in a row have failed like it, 0 if it has not failed."""
        if trial.state is not TrialState.FAILED:
            self._length = 0
            return 0
        same = fingerprint(trial.error or "")
        self._length = self._length + 1 if same == self._fingerprint else 1
        self._fingerprint = same
        return self._length
