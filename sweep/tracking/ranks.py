"""Ranks, the winner's tag and its star: written only where they changed, and seldom while a study runs.

Every finished trial has a rank once a session is over: complete trials first, in the order of the ranking, then
the others by how far they got and by their value, those without a value last. Only a complete trial can be the
best one. A kept model has the rank of its trial, and the winner's is the one that is tagged best: among equal
values MLflow itself puts the newest first, whereas the ranking puts the lower trial number first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from sweep.tracking import words
from sweep.tracking.failures import FAILURES, is_refusal, reason
from sweep.tracking.memory import StudyMemory
from sweep.tracking.models import study_models, tag_model
from sweep.tracking.tracker import Tracker

LEADERS = 20
"""Trials whose ranks are kept up to date while a study runs; the others get theirs at its end."""

PAUSE_SECONDS = 5.0

_log = logging.getLogger(__name__)


class Ranks:
    """Writes the difference between the ranking and what MLflow shows of it."""

    def __init__(self, tracker: Tracker, memory: StudyMemory) -> None:
        self._tracker = tracker
        self._memory = memory
        self._last = 0.0

    def update_leaders(self) -> None:
        """The first ranks of the complete trials, at most every few seconds."""
        now = time.monotonic()
        if now - self._last < PAUSE_SECONDS or self._memory.begun is None or self._memory.over is not None:
            return
        self._last = now
        leaders = self._memory.ranking()[:LEADERS]
        if leaders:
            # What a session before has shown must give way.
            self._tracker.look_again()
            self._update(leaders, given=len(leaders))

    def update_all(self) -> None:
        """The rank of every finished trial, and of every kept model."""
        order = self._memory.order()
        self._update(order, given=None)
        self._update_models(order)

    def _update(self, order: list[int], given: int | None) -> None:
        """Show these ranks, and take away those that others still show: the first ``given`` ones, or all."""
        winner = self._winner()
        ranks = {number: rank for rank, number in enumerate(order, start=1)}
        for number, shown in list(self._tracker.tags.items()):
            old = shown.get(words.RANK)
            is_stale = number not in ranks and old is not None and (given is None or int(old) <= given)
            if is_stale or (number != winner and words.BEST in shown):
                self._bravely(number, lambda number=number, is_stale=is_stale: self._take_away(number, is_stale))  # type: ignore[misc]
        for number, rank in ranks.items():
            self._bravely(number, lambda number=number, rank=rank: self._give(number, rank, number == winner))  # type: ignore[misc]

    def _bravely(self, number: int, action: Callable[[], None]) -> None:
        """Do it, unless the run is none of ours any more: others still get their ranks."""
        try:
            action()
        except FAILURES as err:
            if not is_refusal(err):
                raise
            _log.warning("trial %d keeps the rank it shows: %s", number, reason(err))

    def _take_away(self, number: int, is_stale: bool) -> None:
        if is_stale:
            self._drop(number, words.RANK)
        if words.BEST in self._tracker.tags[number] and number != self._winner():
            self._drop(number, words.BEST)
            self._rename(number, is_best=False)

    def _give(self, number: int, rank: int, is_best: bool) -> None:
        self._show(number, {words.RANK: str(rank), **({words.BEST: "true"} if is_best else {})})
        self._rename(number, is_best=is_best)

    def _winner(self) -> int | None:
        return next(iter(self._memory.ranking()), None)

    def _show(self, number: int, wanted: dict[str, str]) -> None:
        run_id, _ = self._tracker.child(number)
        shown = self._tracker.tags.setdefault(number, {})
        changed = {key: value for key, value in wanted.items() if shown.get(key) != value}
        if changed:
            self._tracker.log(run_id, tags=changed)
            shown.update(changed)

    def _drop(self, number: int, key: str) -> None:
        run_id, _ = self._tracker.child(number)
        self._tracker.client.delete_tag(run_id, key)
        del self._tracker.tags[number][key]

    def _rename(self, number: int, *, is_best: bool) -> None:
        run_id, _ = self._tracker.child(number)
        shown = self._tracker.tags.setdefault(number, {})
        name = words.trial_name(number, best=is_best)
        if shown.get("name", words.trial_name(number)) != name:
            self._tracker.client.update_run(run_id, name=name)
        shown["name"] = name

    def _update_models(self, order: list[int]) -> None:
        ranks = {number: rank for rank, number in enumerate(order, start=1)}
        winner = self._winner()
        for model in study_models(self._tracker):
            number, step = int(model.tags[words.TRIAL]), int(model.tags[words.STEP])
            over = self._memory.trial(number).over
            wanted = {words.RANK: str(ranks[number])} if number in ranks else {}
            if number == winner and over is not None and over.step == step:
                wanted[words.BEST] = "true"
            tag_model(self._tracker, model, wanted)
