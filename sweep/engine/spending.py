"""What a study spends, counted over all its drivers."""

from __future__ import annotations

from dataclasses import dataclass, field

from sweep.domain import Spent
from sweep.ports import Clock, StudyStore
from sweep.spec.model import StudySpec

_KEEP_SECONDS = 30.0


@dataclass(slots=True, kw_only=True)
class Spending:
    """Adds this driver's time, and its attempts' GPU time, to what the history holds.

    Attributes:
        spec: Its ``budget`` is the limit.
        store: Is told every half minute: a driver that is killed forgets no more than that.
        before: What the budget has been spent on besides.
    """

    spec: StudySpec
    store: StudyStore
    clock: Clock
    before: Spent = field(default_factory=Spent)
    _spent: Spent = field(init=False)
    _counted_at: float = field(init=False)
    _kept_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._spent = self.store.spent
        self._counted_at = self._kept_at = self.clock.monotonic()

    def count(self, running: int) -> None:
        """Count the time since the last call, in which so many attempts ran."""
        now = self.clock.monotonic()
        seconds, self._counted_at = now - self._counted_at, now
        gpu_seconds = seconds * running * self.spec.resources.gpus_per_trial
        self._spent = Spent(seconds=self._spent.seconds + seconds, gpu_seconds=self._spent.gpu_seconds + gpu_seconds)
        if now - self._kept_at >= _KEEP_SECONDS:
            self.keep()

    def keep(self) -> None:
        """Tell the history."""
        self._kept_at = self._counted_at
        self.store.spend(self._spent)

    def objection(self) -> str | None:
        """Why the study may spend no more, if it may not."""
        budget = self.spec.budget
        for name, limit, seconds in (
            ("hours", budget.hours, self.before.seconds + self._spent.seconds),
            ("gpu_hours", budget.gpu_hours, self.before.gpu_seconds + self._spent.gpu_seconds),
        ):
            if limit is not None and seconds >= 3600 * limit:
                words, option = name.replace("_", " ").replace("gpu", "GPU"), name.replace("_", "-")
                return f"the budget of {limit:g} {words} is spent, over all its sessions; --{option} sets a larger one"
        return None
