"""The quick objective, held past its first evaluation for as long as a file is there."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from sweep.domain import Report, TrainRequest
from sweep.testing.checkpointing_objective import QuickObjective

HELD = "tests.fault.held_objective:HeldObjective"
EVALUATED_AT = 20


def holding_file(prepared: Path) -> Path:
    """The file, given the folder of a study's prepared data."""
    return prepared / "held"


class HeldObjective(QuickObjective):
    """What is to happen to a training finds it in training, however busy the machine is."""

    def train(self, request: TrainRequest) -> Iterator[Report]:
        """Train; see :class:`sweep.testing.checkpointing_objective.QuickObjective`."""
        tell, held = self.progress, holding_file(Path(request.prepared).parent)

        def tell_and_wait(step: int, total: int, loss: float) -> None:
            if tell is not None:
                tell(step, total, loss)
            while step > EVALUATED_AT and held.exists() and not (self.leaving and self.leaving()):
                time.sleep(0.02)

        self.progress = tell_and_wait
        return super().train(request)
