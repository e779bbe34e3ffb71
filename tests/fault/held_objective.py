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
    """What is to happen to a training finds it in training, however busy the machine is; leaving takes it a second."""

    def train(self, request: TrainRequest) -> Iterator[Report]:
        """Train; see :class:`sweep.testing.checkpointing_objective.QuickObjective`."""
        tell, told, held = self.progress, self.leaving, holding_file(Path(request.prepared).parent)

        def tell_and_wait(step: int, total: int, loss: float) -> None:
            if tell is not None:
                tell(step, total, loss)
            while step > EVALUATED_AT and held.exists() and not (told and told()):
                time.sleep(0.02)

        def leave_slowly() -> bool:
            is_told = told is not None and told()
            time.sleep(1.0 if is_told else 0.0)
            return is_told

        self.progress, self.leaving = tell_and_wait, leave_slowly
        return super().train(request)
