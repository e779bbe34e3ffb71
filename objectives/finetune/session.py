"""One attempt of a trial: train, evaluate, commit, report, and do so again from any checkpoint."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import torch

from objectives.finetune.device import system_metrics
from objectives.finetune.early_stopping import has_stalled
from objectives.finetune.logbook import Logbook
from objectives.finetune.loop import Lesson, Loop
from objectives.finetune.schedule import Plan
from objectives.finetune.state import restore_state
from sweep.domain import GAP, Report, TrainRequest
from sweep.errors import UserError
from sweep.ports import DivergedError, LeftEarly


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


def measured(course: Course, loop: Loop, plan: Plan, device: torch.device) -> dict[str, float]:
    """What an evaluation reports; begins the next mean of the training loss.

    Raises:
        DivergedError: If a metric is NaN or infinite.
        LeftEarly: If told to leave while evaluating.
        PeerLostError: If another process is gone, or does not come in time.
    """
    speed = loop.examples_per_second
    with loop.peers.expecting():
        loop.peers.begin_evaluation()
        metrics = course.evaluate(loop.keep_alive)
    train_loss = loop.take_loss()
    if "loss" in metrics:
        metrics[GAP] = metrics["loss"] - train_loss
    metrics |= {
        "train_loss": train_loss,
        "learning_rate": loop.learning_rate,
        "epoch": loop.step / plan.steps_per_epoch,
        "examples_per_second": speed,
    } | system_metrics(device)
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise DivergedError(f"step {loop.step}: {name} is {value}. Lower learning_rate, or raise warmup.")
    return metrics


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
        self._book = Logbook(request)

    def reports(self) -> Iterator[Report]:
        """Train from one evaluation to the next; each report's checkpoint is committed before it is yielded.

        Raises:
            CheckpointError: If a checkpoint cannot be read or written.
            DivergedError: If loss or a metric is NaN or infinite.
            LeftEarly: If told to leave; the step it has reached is committed.
        """
        try:
            yield from self._train()
        except LeftEarly as told:
            if self._loop.step > self._book.committed_step:
                self._loop.check_finite()
                self._book.commit(self._loop.step, self._course, self._loop)
            raise LeftEarly(f"left at step {self._loop.step}, which is committed") from told

    def _train(self) -> Iterator[Report]:
        start_from, until = self._request.assignment.start_from, self._request.assignment.until_step
        last = self._plan.total_steps if until is None else min(until, self._plan.total_steps)
        if start_from is not None:
            self._book.open(Path(start_from))
            restore_state(Path(start_from), self._loop, self._course.model)
        yield from self._book.again()
        reported = self._book.history[-1].step if self._book.history else 0
        for point in (*(point for point in self._plan.evaluate_at if point < last), last):
            if self._has_stalled:
                return
            # The loop may be there already: the trial left within this evaluation.
            if reported < point and self._loop.step <= point:
                self._loop.advance(point)
                yield from self._book.pausing(self._report())

    def _report(self) -> Report:
        book, step = self._book, self._loop.step
        metrics = measured(self._course, self._loop, self._plan, self._device)
        check_metric(self._request.metric.name, metrics)
        report = book.report(step, self._plan.fidelity(step), metrics)
        # Before the commit: whoever resumes from it finds what belongs to it already shown.
        if self._request.metric.chosen([*book.history, report]) is report:
            self._course.show(Path(self._request.artifacts))
        book.commit(step, self._course, self._loop, report)
        return book.history[-1]

    @property
    def _has_stalled(self) -> bool:
        settings = self._request.settings
        return has_stalled(self._book.history, self._request.metric, settings["patience"], float(settings["min_delta"]))
