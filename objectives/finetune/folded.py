"""One attempt of a trial with k-fold validation: a model for each fold, one after the other, then one of all rows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.special import stdtrit

from objectives.finetune.logbook import Logbook
from objectives.finetune.loop import Loop
from objectives.finetune.schedule import Plan
from objectives.finetune.session import Course, check_metric, measured
from objectives.finetune.state import restore_state
from sweep.domain import Report, TrainRequest, fold_metric, whole_fit_metric
from sweep.ports import LeftEarly

Begin = Callable[[TrainRequest, int], tuple[Course, Loop, Plan, torch.device]]
"""Begins the training of a part: of a fold, by its number, or of all rows, by the number of folds."""

LEVEL = 0.05
"""The interval of the mean misses it with this probability, half of it on each side."""

_NOT_OF_A_FOLD = ("learning_rate", "epoch", "examples_per_second", "system/")


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """What is being trained: a fold, by its number, or all rows, by the number of folds."""

    number: int
    course: Course
    loop: Loop
    plan: Plan
    device: torch.device


class FoldedSession:
    """Runs an attempt whose score is the mean over folds.

    Every model begins with the same weights, seed and settings. The one that is trained on all rows, which is what
    there is to deploy, has no score of its own: the trial's is that of the folds.

    Args:
        request: The attempt.
        begin: How each part begins.
        folds: How many there are.
    """

    def __init__(self, request: TrainRequest, begin: Begin, folds: int) -> None:
        self._request = request
        self._begin = begin
        self._folds = folds
        self._book = Logbook(request)
        self._scores: list[dict[str, float]] = []
        self._now: _Part | None = None
        self._steps_before = 0

    def reports(self) -> Iterator[Report]:
        """Train fold by fold, with a report after each; that of the last waits for the model of all rows.

        Raises:
            CheckpointError: If a checkpoint cannot be read or written.
            DivergedError: If loss or a metric is NaN or infinite.
            LeftEarly: If told to leave; the step it has reached is committed.
        """
        try:
            yield from self._train()
        except LeftEarly as told:
            if self._now is not None and self._step > self._book.committed_step:
                self._now.loop.check_finite()
                self._commit(self._now)
            raise LeftEarly(f"left at step {self._step}, which is committed") from told

    def _train(self) -> Iterator[Report]:
        start_from, until = self._request.assignment.start_from, self._request.assignment.until_step
        if start_from is not None:
            self._resume(Path(start_from))
        yield from self._book.again()
        while len(self._book.history) < self._folds and (until is None or self._step < until):
            # Nothing here holds on to a part, so that two never share the memory.
            if (report := self._finish_part()) is not None:
                yield from self._book.pausing(report)

    def _finish_part(self) -> Report | None:
        """Train what is to be trained to its end; the last fold has no report, as all rows are still to come."""
        part, name = self._current(), self._request.metric.name
        part.loop.advance(part.plan.total_steps)
        metrics = measured(part.course, part.loop, part.plan, part.device)
        check_metric(name, metrics)
        if part.number == self._folds:
            return self._report(part, {whole_fit_metric(name): metrics[name]})
        part.course.show(Path(self._request.artifacts) / f"fold-{part.number + 1}")
        self._scores.append(metrics)
        if len(self._scores) < self._folds:
            return self._report(part, {})
        self._commit(part)
        return None

    def _current(self) -> _Part:
        """What is to be trained; begins it with fresh weights, whatever came before, unless it is under way."""
        if self._now is None or self._now.number < len(self._scores):
            self._steps_before, self._now = self._step, None
            assignment = dataclasses.replace(self._request.assignment, start_from=None)
            request = dataclasses.replace(self._request, assignment=assignment)
            self._now = self._begun_part(request, len(self._scores))
        return self._now

    def _begun_part(self, request: TrainRequest, number: int) -> _Part:
        return _Part(number, *self._begin(request, number))

    def _resume(self, checkpoint: Path) -> None:
        meta = self._book.open(checkpoint)
        self._scores = [dict(metrics) for metrics in meta["scores"]]
        if int(meta["part"]) < len(self._scores):  # that fold is over, and the next part begins anew
            self._steps_before = self._book.committed_step
            return
        self._steps_before = int(meta["steps_before"])
        self._now = self._begun_part(self._request, int(meta["part"]))
        restore_state(checkpoint, self._now.loop, self._now.course.model)

    def _report(self, part: _Part, more: Mapping[str, float]) -> Report:
        metrics = {**summary(self._scores, self._request.metric.name), **more}
        self._commit(part, self._book.report(self._step, float(len(self._scores)), metrics))
        return self._book.history[-1]

    def _commit(self, part: _Part, report: Report | None = None) -> None:
        more = {"part": part.number, "steps_before": self._steps_before, "scores": list(self._scores)}
        self._book.commit(self._step, part.course, part.loop, report, more)

    @property
    def _step(self) -> int:
        """Optimizer steps of all parts so far."""
        return self._steps_before + (self._now.loop.step if self._now is not None else 0)


def summary(scores: Sequence[Mapping[str, float]], metric: str) -> dict[str, float]:
    """The folds so far as one: the mean of each metric, and what the newest fold has of it.

    Of two folds or more also the spread of ``metric`` (standard deviation over the folds) and a 95 % interval of its
    mean. Folds share training rows, so their scores are no independent draws; the variance is corrected for that
    (Nadeau and Bengio, "Inference for the Generalization Error", 2003).

    Args:
        scores: Metrics of each fold, all with the same names; at least one.
        metric: What the study optimises.
    """
    found = {name: float(np.mean([score[name] for score in scores])) for name in scores[-1]}
    found |= {fold_metric(name): value for name, value in scores[-1].items() if not name.startswith(_NOT_OF_A_FOLD)}
    count = len(scores)
    if count > 1:
        spread = float(np.std([score[metric] for score in scores], ddof=1))
        half = float(stdtrit(count - 1, 1 - LEVEL / 2)) * spread * math.sqrt(1 / count + 1 / (count - 1))
        found |= {
            f"{metric}_spread": spread,
            f"{metric}_low": found[metric] - half,
            f"{metric}_high": found[metric] + half,
        }
    return found
