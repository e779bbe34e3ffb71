"""Ranks, the winner's tag and its star: written only where they changed, and seldom while a study runs."""

from __future__ import annotations

import time

from sweep.tracking import words
from sweep.tracking.memory import StudyMemory
from sweep.tracking.tracker import Tracker

LEADERS = 20
"""Trials whose ranks are kept up to date while a study runs; the others get theirs at its end."""

PAUSE_SECONDS = 5.0


class Ranks:
    """Writes the difference between the ranking and what MLflow shows of it."""

    def __init__(self, tracker: Tracker, memory: StudyMemory) -> None:
        self._tracker = tracker
        self._memory = memory
        self._last = 0.0

    def update_leaders(self) -> None:
        """The first ranks, at most every few seconds."""
        now = time.monotonic()
        if now - self._last < PAUSE_SECONDS or self._memory.begun is None or self._memory.over is not None:
            return
        self._last = now
        self._update(LEADERS)

    def update_all(self) -> None:
        """All ranks."""
        self._update(None)

    def _update(self, limit: int | None) -> None:
        ranking = self._memory.ranking()
        for rank, number in enumerate(ranking[:limit], start=1):
            self._show(number, rank, is_best=rank == 1)
        winner = ranking[0] if ranking else None
        for number, shown in list(self._tracker.tags.items()):
            if number != winner and words.BEST in shown:
                self._show(number, int(shown.get(words.RANK, "0")) or None, is_best=False)

    def _show(self, number: int, rank: int | None, *, is_best: bool) -> None:
        run_id, _ = self._tracker.child(number)
        shown = self._tracker.tags.setdefault(number, {})
        wanted = {words.RANK: str(rank)} if rank else {}
        if is_best:
            wanted[words.BEST] = "true"
        changed = {key: value for key, value in wanted.items() if shown.get(key) != value}
        if changed:
            self._tracker.log(run_id, tags=changed)
            shown.update(changed)
        if not is_best and words.BEST in shown:
            self._tracker.client.delete_tag(run_id, words.BEST)
            del shown[words.BEST]
        name = words.trial_name(number, best=is_best)
        if shown.get("name", words.trial_name(number)) != name:
            self._tracker.client.update_run(run_id, name=name)
        shown["name"] = name
