"""Stand-ins for rooms a test is not about; each keeps the contract of its port."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from sweep.domain import Report, Setback, Trial
from sweep.engine.view import StudySnapshot
from sweep.ports import Record
from sweep.tracking.records import identity


@dataclass(slots=True)
class MemoryRecorder:
    """Keeps records in a list, each once, as the spool does."""

    records: list[Record] = field(default_factory=list)
    _known: set[Hashable] = field(default_factory=set)

    def record(self, record: Record) -> None:
        """Append what is new."""
        key = identity(record)
        if key is None or key not in self._known:
            self._known.add(key)
            self.records.append(record)

    def close(self, timeout_seconds: float) -> int:
        """Nothing is ever undelivered."""
        return 0


@dataclass(slots=True)
class MemoryKeeper:
    """Remembers what it was told to keep; holds no checkpoints."""

    kept: dict[int, tuple[set[int], set[int]]] = field(default_factory=dict)
    damaged: set[tuple[int, int]] = field(default_factory=set)

    def newest(self, trial_number: int, before: int | None = None) -> str | None:
        """There is none."""
        return None

    def is_intact(self, trial_number: int, step: int) -> bool:
        """Unless a test says otherwise."""
        return (trial_number, step) not in self.damaged

    def keep(self, trial_number: int, resumable: set[int], weights: set[int]) -> None:
        """Remember the newest wish."""
        self.kept[trial_number] = (resumable, weights)


@dataclass(slots=True)
class SilentObserver:
    """Counts what it is shown."""

    reports: int = 0
    over: list[Trial] = field(default_factory=list)
    lost: int = 0

    def reported(self, trial: Trial, report: Report) -> None:
        """Count."""
        self.reports += 1

    def attempt_lost(self, trial: Trial, setback: Setback) -> None:
        """Count."""
        self.lost += 1

    def trial_over(self, trial: Trial, snapshot: StudySnapshot) -> None:
        """Keep."""
        self.over.append(trial)

    def tick(self, snapshot: StudySnapshot) -> None:
        """Look away."""
