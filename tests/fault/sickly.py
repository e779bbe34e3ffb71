"""The quick objective, whose training fails on the seed that the file named in its settings holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sweep.domain import Report, TrainRequest
from sweep.testing.checkpointing_objective import QuickObjective


class Sickly(QuickObjective):
    """Setting ``illness`` names the file; without one, it is well."""

    def train(self, request: TrainRequest) -> Iterator[Report]:
        """Train, unless it is ill on this seed."""
        illness = Path(str(request.settings["illness"]))
        if illness.exists() and int(illness.read_text()) == request.assignment.seed:
            raise ValueError("ill on this seed")
        yield from super().train(request)
