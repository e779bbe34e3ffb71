"""One attempt of a trial: train, evaluate, commit, report, and do so again from any checkpoint."""

from __future__ import annotations

import dataclasses
import difflib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import torch

from objectives.finetune.device import system_metrics
from objectives.finetune.loop import Lesson, Loop
from objectives.finetune.schedule import Plan
from objectives.finetune.state import restore_state, save_model, save_state
from sweep.checkpoints import committing, model_folder, read_manifest, step_folder
from sweep.domain import Report, TrainRequest
from sweep.errors import CheckpointError, UserError
from sweep.ports import DivergedError


class Course(Lesson, Protocol):
    """A lesson that can also be examined."""

    tokenizer: Path
    max_length: int

    def evaluate(self, alive: Callable[[], None]) -> dict[str, float]:
        """Metrics on the validation split, in fp32; draws no random number; calls ``alive`` now and then."""
        ...

    def show(self, folder: Path) -> None:
        """Write what the newest evaluation has to show (a confusion matrix …) into a folder."""
        ...


def check_metric(name: str, reported: Iterable[str]) -> None:
    """Refuse a metric that no evaluation reports.

    Raises:
        UserError: If it is unknown; names the nearest.
    """
    names = sorted(reported)
    if name not in names:
        near = difflib.get_close_matches(name, names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise UserError(f"metric.name: {name!r} is not reported.{hint} Use one of {', '.join(names)}.")


class Session:
    """Runs an attempt.

    Args:
        request: The attempt.
        course: Model, batches, loss and evaluation; the model already has the checkpoint's weights when
            the attempt starts from one.
        loop: The loop over the course.
        plan: Length of the run.
        device: Where it runs.
    """

    def __init__(self, request: TrainRequest, course: Course, loop: Loop, plan: Plan, device: torch.device) -> None:
        self._request = request
        self._course = course
        self._loop = loop
        self._plan = plan
        self._device = device
        self._history: list[Report] = []
        self._seconds_before = 0.0
        self._begun = time.perf_counter()

    def reports(self) -> Iterator[Report]:
        """Train from one evaluation to the next; each report's checkpoint is committed before it is yielded.

        Raises:
            CheckpointError: If a checkpoint cannot be read or written.
            DivergedError: If loss or a metric is NaN or infinite.
        """
        until = self._request.assignment.until_step
        last = self._plan.total_steps if until is None else min(until, self._plan.total_steps)
        if self._request.assignment.start_from is not None:
            yield from self._pausing(self._resume(Path(self._request.assignment.start_from)))
        points = [point for point in self._plan.evaluate_at if self._loop.step < point < last]
        if self._loop.step < last:
            points.append(last)
        rows, trained_at = self._loop.rows_done, time.perf_counter()
        for point in points:
            self._loop.advance(point)
            seconds = max(1e-9, time.perf_counter() - trained_at)
            report = self._report((self._loop.rows_done - rows) / seconds)
            yield from self._pausing(report)
            rows, trained_at = self._loop.rows_done, time.perf_counter()

    def _pausing(self, report: Report) -> Iterator[Report]:
        """Yield a report; whoever draws random numbers meanwhile does not change the training."""
        random, paused_at = torch.get_rng_state(), time.perf_counter()
        yield report
        torch.set_rng_state(random)
        self._begun += time.perf_counter() - paused_at

    def _resume(self, checkpoint: Path) -> Report:
        meta = read_manifest(checkpoint, verify=False).meta
        self._history = [Report(**entry) for entry in meta["history"]]
        if not self._history:
            raise CheckpointError(f"{checkpoint}: its manifest has no history. Start the trial from the beginning.")
        restore_state(checkpoint, self._loop, self._course.model)
        self._seconds_before = self._history[-1].wall_seconds
        return self._own(self._history[-1], checkpoint)

    def _own(self, report: Report, checkpoint: Path) -> Report:
        assignment = self._request.assignment
        return dataclasses.replace(
            report,
            trial_number=assignment.trial_number,
            attempt=assignment.attempt,
            checkpoint=str(checkpoint),
        )

    def _report(self, examples_per_second: float) -> Report:
        step = self._loop.step
        rate, loss = self._loop.learning_rate, self._loop.take_loss()
        metrics = self._course.evaluate(self._loop.sign_of_life)
        metrics |= {
            "train_loss": loss,
            "learning_rate": rate,
            "epoch": step / self._plan.steps_per_epoch,
            "examples_per_second": examples_per_second,
        } | system_metrics(self._device)
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise DivergedError(f"step {step}: {name} is {value}. Lower learning_rate, or raise warmup.")
        check_metric(self._request.metric.name, metrics)
        target = step_folder(Path(self._request.checkpoints), step)
        report = Report(
            trial_number=self._request.assignment.trial_number,
            attempt=self._request.assignment.attempt,
            step=step,
            fidelity=self._plan.fidelity(step),
            metrics=metrics,
            checkpoint=str(target),
            wall_seconds=self._seconds_before + time.perf_counter() - self._begun,
            reported_at=time.time(),
        )
        history = [*self._history, report]
        meta = {"step": step, "history": [dataclasses.asdict(entry) for entry in history]}
        with committing(target, meta) as folder:
            save_model(model_folder(folder), self._course.model, self._course.tokenizer, self._course.max_length)
            save_state(folder, self._loop, self._course.model)
            # Before the commit: whoever resumes from it finds what belongs to it already shown.
            if self._request.metric.chosen(history) is report:
                self._course.show(Path(self._request.artifacts))
        # A step committed by an earlier attempt stands, and so does the time of its report.
        report = self._own(Report(**read_manifest(target, verify=False).meta["history"][-1]), target)
        self._history.append(report)
        return report
