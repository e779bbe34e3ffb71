"""All trials of a study, counted and ranked as they change, so that no event looks at all of them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterator

from sweep.domain import MetricRule, Trial, TrialState


class Standings:
    """Trials by number, with their counts and the order of the complete ones.

    Args:
        rule: What is best.
        keep: How many of the best keep their model; the baseline does anyway.
    """

    def __init__(self, rule: MetricRule, keep: int) -> None:
        self._rule = rule
        self._keep = keep
        self._trials: dict[int, Trial] = {}
        self._counts: Counter[str] = Counter()
        self._order: list[tuple[float, int]] = []
        self.finished = 0

    def __getitem__(self, number: int) -> Trial:
        return self._trials[number]

    def __iter__(self) -> Iterator[Trial]:
        return iter(list(self._trials.values()))

    def get(self, number: int) -> Trial | None:
        """A trial, if there is one of that number."""
        return self._trials.get(number)

    def put(self, trial: Trial) -> None:
        """Add a trial, or what has become of it."""
        before = self._trials.get(trial.number)
        if before is not None:
            self._count(before, -1)
        self._trials[trial.number] = trial
        self._count(trial, 1)
        old, new = None if before is None else self._place(before), self._place(trial)
        if old == new:
            return
        if old is not None:
            del self._order[bisect_left(self._order, old)]
        if new is not None:
            insort(self._order, new)

    @property
    def counts(self) -> dict[str, int]:
        """Trials by state."""
        return dict(+self._counts)

    @property
    def best(self) -> Trial | None:
        """The leading complete trial."""
        return self._trials[self._order[0][1]] if self._order else None

    @property
    def runner_up(self) -> Trial | None:
        """The best of those that keep no model."""
        return self._trials[self._order[self._keep][1]] if len(self._order) > self._keep else None

    def keeps(self, trial: Trial) -> bool:
        """Whether a trial keeps its model, or would, if it were among the others."""
        place = self._place(trial)
        return trial.number == 0 or (place is not None and bisect_left(self._order, place) < self._keep)

    def _count(self, trial: Trial, change: int) -> None:
        self._counts[trial.state.value] += change
        self.finished += change * trial.state.is_finished

    def _place(self, trial: Trial) -> tuple[float, int] | None:
        if trial.state is not TrialState.COMPLETE or trial.value is None:
            return None
        return self._rule.rank_key(trial.value), trial.number
