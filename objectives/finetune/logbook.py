"""The history of a trial in one of its attempts: committed with what was trained, and gone on with from there."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import torch

from objectives.finetune.loop import Loop
from objectives.finetune.state import save_training
from sweep.checkpoints import committing, read_manifest, step_folder
from sweep.domain import Report, TrainRequest


class Trained(Protocol):
    """What a checkpoint holds of a course."""

    model: torch.nn.Module
    tokenizer: Path
    max_length: int


class Logbook:
    """What has been reported and committed, and the time it took.

    Args:
        request: The attempt.

    Attributes:
        history: Reports of all attempts, in order.
        committed_step: Newest optimizer step that is committed; 0 before the first.
    """

    def __init__(self, request: TrainRequest) -> None:
        self._request = request
        self.history: list[Report] = []
        self.committed_step = 0
        self._seconds_before = 0.0
        self._begun = time.perf_counter()

    def open(self, checkpoint: Path) -> Mapping[str, Any]:
        """Take over the history of a checkpoint; returns all that its manifest says of it.

        Raises:
            CheckpointError: If it cannot be read.
        """
        meta = read_manifest(checkpoint, verify=False).meta
        self.history = [Report(**entry) for entry in meta["history"]]
        self.committed_step = int(meta["step"])
        # Without the key it was written before trials could leave between evaluations, at a report.
        self._seconds_before = float(meta["wall_seconds"] if "wall_seconds" in meta else self.history[-1].wall_seconds)
        return meta

    def again(self) -> Iterator[Report]:
        """Yield the newest report, if there is one, as this attempt's."""
        if self.history:
            yield from self.pausing(self._own(self.history[-1]))

    def pausing(self, report: Report) -> Iterator[Report]:
        """Yield a report; whoever draws random numbers meanwhile does not change the training."""
        random, paused_at = torch.get_rng_state(), time.perf_counter()
        yield report
        torch.set_rng_state(random)
        self._begun += time.perf_counter() - paused_at

    def report(self, step: int, fidelity: float, metrics: Mapping[str, float]) -> Report:
        """What is to be said of a step, once it is committed."""
        return Report(
            trial_number=self._request.assignment.trial_number,
            attempt=self._request.assignment.attempt,
            step=step,
            fidelity=fidelity,
            metrics=metrics,
            checkpoint=str(self._folder(step)),
            wall_seconds=self._wall_seconds,
            reported_at=time.time(),
        )

    def commit(
        self,
        step: int,
        course: Trained,
        loop: Loop,
        report: Report | None = None,
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Commit a step; what an earlier attempt has committed of it stands, and so does its report and its time.

        Args:
            step: Optimizer steps done.
            course: What is trained.
            loop: The loop over it.
            report: What is said of the step; joins the history.
            more: What else the manifest is to say of it.

        Raises:
            CheckpointError: If it cannot be written.
        """
        history = [dataclasses.asdict(known) for known in (*self.history, report) if known is not None]
        meta = {"step": step, "history": history, "wall_seconds": self._wall_seconds, **more}

        def told(meta: Mapping[str, Any]) -> tuple[int, int]:
            # An attempt that left within the evaluation of this step committed it without what came of it.
            return len(meta.get("scores", ())), len(meta["history"])

        folder = self._folder(step)
        with committing(folder, meta, stands=lambda known: told(known) >= told(meta)) as new:
            save_training(new, loop, course.model, course.tokenizer, course.max_length)
        self.committed_step = step
        if report is not None:
            newest = read_manifest(folder, verify=False).meta["history"][-1]
            self.history.append(self._own(Report(**newest)))

    def _own(self, report: Report) -> Report:
        """A report of any attempt as this one's; its checkpoint lies where the trial's checkpoints are now."""
        assignment = self._request.assignment
        return dataclasses.replace(
            report,
            trial_number=assignment.trial_number,
            attempt=assignment.attempt,
            checkpoint=str(self._folder(report.step)),
        )

    def _folder(self, step: int) -> Path:
        return step_folder(Path(self._request.checkpoints), step)

    @property
    def _wall_seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._begun
