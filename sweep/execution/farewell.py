"""An attempt whose node was told to go: it has a moment to commit its work before another attempt begins."""

from __future__ import annotations

import time
from pathlib import Path

from sweep.domain import AttemptEnd
from sweep.ports import Ended

_SECONDS = 15.0


class Farewell:
    """Waits for the last checkpoint of an attempt that nobody can ask any more.

    Args:
        attempt: (trial_number, attempt).
        checkpoints: The trial's folder of checkpoints.
    """

    def __init__(self, attempt: tuple[int, int], checkpoints: Path) -> None:
        self.attempt = attempt
        self._checkpoints = checkpoints
        self._known = self._committed()
        self._deadline = time.monotonic() + _SECONDS

    @property
    def is_over(self) -> bool:
        """Whether it has committed since, or will not."""
        return time.monotonic() > self._deadline or not self._committed() <= self._known

    @property
    def end(self) -> Ended:
        """How the attempt ended: by no fault of its own."""
        trial_number, attempt = self.attempt
        return Ended(trial_number=trial_number, attempt=attempt, end=AttemptEnd.PREEMPTED)

    def cut_short(self) -> None:
        """Wait no longer."""
        self._deadline = time.monotonic()

    def _committed(self) -> set[str]:
        try:
            return {folder.name for folder in self._checkpoints.iterdir() if not folder.name.startswith(".")}
        except OSError:
            return set()
