"""The real classifier, slowed down where a test wants to catch it, counting the optimizer steps it takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from objectives.finetune.course import TaskCourse
from objectives.finetune.loop import Loop
from objectives.tasks.text_classification import TextClassification
from sweep.domain import TrainRequest

PATIENCE_SECONDS = 30.0


class Watched(TextClassification):
    """Setting ``catch_at`` (loading, training, evaluation) names where it waits, once, until it is told to leave."""

    def _begin(self, request: TrainRequest) -> Any:
        folder = Path(request.artifacts)
        folder.mkdir(parents=True, exist_ok=True)
        if request.settings["catch_at"] == "loading":
            self._be_caught(folder)
        course, loop, *rest = super()._begin(request)
        self._watch(folder, course, loop, request.settings["catch_at"])
        return course, loop, *rest

    def _watch(self, folder: Path, course: TaskCourse, loop: Loop, catch_at: str) -> None:
        take_step, evaluate = loop._take_step, course.evaluate

        def counted(batches: Any) -> None:
            if catch_at == "training" and loop.step == 5:
                self._be_caught(folder)
            take_step(batches)
            with (folder / "steps").open("a") as steps:
                steps.write(f"{loop.step}\n")

        def caught(alive: Callable[[], None]) -> dict[str, float]:
            if catch_at == "evaluation" and loop.step == 8:
                self._be_caught(folder)
            return evaluate(alive)

        loop._take_step = counted  # type: ignore[method-assign]
        course.evaluate = caught  # type: ignore[method-assign]

    def _be_caught(self, folder: Path) -> None:
        """Wait for the signal in the middle of something."""
        if (folder / "caught").exists():
            return
        (folder / "caught").touch()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.leaving is not None and not self.leaving() and time.monotonic() < deadline:
            time.sleep(0.01)


def load(name: str) -> Watched:
    """The loader entry."""
    return Watched()
