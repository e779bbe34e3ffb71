"""One attempt of a trial: train, evaluate, commit, report, and do so again from any checkpoint."""

from __future__ import annotations

import dataclasses
import difflib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from objectives.finetune.device import system_metrics
from objectives.finetune.early_stopping import has_stalled
from objectives.finetune.loop import Lesson, Loop
from objectives.finetune.schedule import Plan
from objectives.finetune.state import restore_state, save_training
from sweep.checkpoints import committing, read_manifest, step_folder
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


def own_report(report: Report, request: TrainRequest) -> Report:
    """A report of any attempt as this one's; its checkpoint lies where the trial's checkpoints are now."""
    assignment = request.assignment
    return dataclasses.replace(
        report,
        trial_number=assignment.trial_number,
        attempt=assignment.attempt,
        checkpoint=str(step_folder(Path(request.checkpoints), report.step)),
    )


def committed_report(checkpoint: Path, request: TrainRequest) -> Report:
    """The newest report that a checkpoint holds: a step committed by an earlier attempt stands, and so does its time.

    Raises:
        CheckpointError: If it cannot be read.
    """
    known = read_manifest(checkpoint, verify=False).meta["history"][-1]
    return own_report(Report(**known), request)


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
        self._committed_step = 0
        self._seconds_before = 0.0
        self._begun = time.perf_counter()

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
            self._commit_unreported()
            raise LeftEarly(f"left at step {self._loop.step}, which is committed") from told

    def _train(self) -> Iterator[Report]:
        until = self._request.assignment.until_step
        last = self._plan.total_steps if until is None else min(until, self._plan.total_steps)
        if self._request.assignment.start_from is not None:
            self._resume(Path(self._request.assignment.start_from))
        if self._history:
            yield from self._pausing(own_report(self._history[-1], self._request))
        reported = self._history[-1].step if self._history else 0
        for point in (*(point for point in self._plan.evaluate_at if point < last), last):
            if self._has_stalled:
                return
            # The loop may be there already: the trial left within this evaluation.
            if reported < point and self._loop.step <= point:
                self._loop.advance(point)
                yield from self._pausing(self._report())

    def _pausing(self, report: Report) -> Iterator[Report]:
        """Yield a report; whoever draws random numbers meanwhile does not change the training."""
        random, paused_at = torch.get_rng_state(), time.perf_counter()
        yield report
        torch.set_rng_state(random)
        self._begun += time.perf_counter() - paused_at

    def _resume(self, checkpoint: Path) -> None:
        meta = read_manifest(checkpoint, verify=False).meta
        self._history = [Report(**entry) for entry in meta["history"]]
        restore_state(checkpoint, self._loop, self._course.model)
        self._committed_step = self._loop.step
        # Without the key it was written before trials could leave between evaluations, at a report.
        self._seconds_before = float(meta["wall_seconds"] if "wall_seconds" in meta else self._history[-1].wall_seconds)

    def _report(self) -> Report:
        step = self._loop.step
        metrics = measured(self._course, self._loop, self._plan, self._device)
        check_metric(self._request.metric.name, metrics)
        report = Report(
            trial_number=self._request.assignment.trial_number,
            attempt=self._request.assignment.attempt,
            step=step,
            fidelity=self._plan.fidelity(step),
            metrics=metrics,
            checkpoint=str(self._folder(step)),
            wall_seconds=self._wall_seconds,
            reported_at=time.time(),
        )
        history = [*self._history, report]
        # Before the commit: whoever resumes from it finds what belongs to it already shown.
        if self._request.metric.chosen(history) is report:
            self._course.show(Path(self._request.artifacts))
        self._commit(history)
        self._history.append(committed_report(self._folder(step), self._request))
        return self._history[-1]

    def _commit_unreported(self) -> None:
        """Commit the step the loop has reached, so that no step is trained again."""
        if self._loop.step > self._committed_step:
            self._loop.check_finite()
            self._commit(self._history)

    def _commit(self, history: Sequence[Report]) -> None:
        step = self._loop.step
        entries = [dataclasses.asdict(report) for report in history]
        meta = {"step": step, "history": entries, "wall_seconds": self._wall_seconds}

        def stands(known: Mapping[str, Any]) -> bool:
            # An attempt that left within the evaluation of this step committed it without its report.
            return len(known["history"]) >= len(history)

        with committing(self._folder(step), meta, stands=stands) as folder:
            course = self._course
            save_training(folder, self._loop, course.model, course.tokenizer, course.max_length)
        self._committed_step = step

    @property
    def _has_stalled(self) -> bool:
        settings = self._request.settings
        return has_stalled(self._history, self._request.metric, settings["patience"], float(settings["min_delta"]))

    @property
    def _wall_seconds(self) -> float:
        return self._seconds_before + time.perf_counter() - self._begun

    def _folder(self, step: int) -> Path:
        return step_folder(Path(self._request.checkpoints), step)
