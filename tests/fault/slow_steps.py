"""The real classifier whose processes take their time, so that a test can strike in the midst of something."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from objectives.tasks.text_classification import TextClassification
from sweep.domain import TrainRequest


class Slow(TextClassification):
    """Setting ``slow_rank`` names who sleeps in each step, ``step_seconds`` how long; the file ``steps`` tells each.

    With ``slow_evaluation`` rank 0 does so after each batch of an evaluation, and tells in the file ``evaluations``.
    """

    def _begin(self, request: TrainRequest) -> Any:
        course, loop, *rest = super()._begin(request)
        folder, take_step = Path(request.artifacts), loop._take_step
        folder.mkdir(parents=True, exist_ok=True)

        def slow(batches: Any) -> None:
            if loop.peers.rank == request.settings["slow_rank"]:
                with (folder / "steps").open("a") as steps:
                    steps.write(f"{loop.step}\n")
                time.sleep(request.settings["step_seconds"])
            take_step(batches)

        keep_alive = loop.keep_alive

        def slowly_alive() -> None:
            if loop.peers.rank == 0 and request.settings["slow_evaluation"]:
                with (folder / "evaluations").open("a") as evaluations:
                    evaluations.write(f"{loop.step}\n")
                time.sleep(request.settings["step_seconds"])
            keep_alive()

        loop._take_step, loop.keep_alive = slow, slowly_alive
        return course, loop, *rest


def load(name: str) -> Slow:
    """The loader entry."""
    return Slow()
