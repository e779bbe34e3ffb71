"""Whose fault it is that a record does not arrive: its own, if the tracker takes others meanwhile."""

from __future__ import annotations

import logging

from sweep.errors import is_disk_full
from sweep.tracking.failures import FAILURES, reason
from sweep.tracking.tracker import Tracker

FAILURES_IN_A_ROW = 5
"""So often the same record must fail before it is suspected; each time its requests are repeated as well."""

PROBES = 3
"""So often the tracker must take something else, each time at once: hardly by luck where three of ten calls fail."""

_log = logging.getLogger(__name__)


class Blame:
    """Counts how often the same record, or run, failed in a row."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._key: object = None
        self._error: Exception | None = None
        self._count = 0
        self._is_suspected = False

    def is_on(self, key: object, error: Exception) -> bool:
        """Whether a record, or a run by its id, is at fault for an error that might pass: no repetition will help then.

        A tracker that is down, only reads, or fails by chance is at fault itself. So is one that recovers between the
        last failure and the probe: a suspected record must fail once more, between two probes that succeed.
        """
        if error is self._error or is_disk_full(error):
            # It was judged where it came up, in a part of the record; or a full disk takes small things still.
            return False
        self._error = error
        if key is not self._key and key != self._key:
            self._key, self._count, self._is_suspected = key, 0, False
        self._count += 1
        was_suspected = self._is_suspected
        self._is_suspected = self._count >= FAILURES_IN_A_ROW and self._takes_others()
        return was_suspected and self._is_suspected

    def _takes_others(self) -> bool:
        try:
            for _ in range(PROBES):
                self._tracker.probe()
        except FAILURES as err:
            _log.warning("the tracker takes nothing else either: %s", reason(err))
            return False
        return True
