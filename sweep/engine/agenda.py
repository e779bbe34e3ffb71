"""What a study trains: the trials of a search, as many as its budget says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sweep.domain import Trial
from sweep.ports import StudyStore


@dataclass(frozen=True, slots=True)
class SearchAgenda:
    """Implements :class:`sweep.ports.Agenda` for a search.

    Attributes:
        budget: Finished trials wanted.
    """

    budget: int

    def wanted(self, trials: Sequence[Trial]) -> int:
        """The budget, whatever happened."""
        return self.budget

    def begin(self, store: StudyStore, trials: Sequence[Trial]) -> Trial:
        """A new draw; the sampler learns from all that has ended."""
        return store.ask()
