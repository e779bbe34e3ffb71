"""The training loop: optimizer steps, nothing else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch

from objectives.data.batching import Indices, cut
from objectives.finetune.optimizers import build_optimizer
from objectives.finetune.peers import Alone, Order, Peers
from objectives.finetune.precision import Precision
from objectives.finetune.regularisation import decay_groups
from objectives.finetune.schedule import Plan, learning_rate_factor
from sweep.ports import DivergedError, LeftEarly

Progress = Callable[[int, int, float | None], None]
"""Called with optimizer steps done, steps of the full run and the training loss of late, None before the first."""

_PROGRESS_SECONDS = 0.5
_DEVICE_CHECK_STEPS = 20


class Lesson(Protocol):
    """What a task gives to the loop: a model, its batches and its loss."""

    model: torch.nn.Module

    def steps_of_epoch(self, epoch: int) -> Sequence[Sequence[Indices]]:
        """Micro-batches of each optimizer step of an epoch, given by the trial's seed and the epoch alone."""
        ...

    def weight(self, batch: Indices) -> float:
        """What a micro-batch counts in its step: over how much its loss is the mean, such as rows or target tokens."""
        ...

    def loss(self, batch: Indices) -> torch.Tensor:
        """Mean training loss over the :meth:`weight` of a micro-batch, a scalar with gradient."""
        ...


class Loop:
    """Trains a model step by step; between steps all of its state can be saved.

    Args:
        lesson: Model, batches and loss.
        settings: Training settings: ``learning_rate``, ``optimizer``, ``weight_decay``, ``layer_decay``, ``warmup``,
            ``warmup_steps``, ``schedule``, ``cooldown``, ``gradient_clipping``.
        plan: Length of the run.
        precision: Format of the forward pass.
        progress: Told of progress, at most twice a second.
        leaving: Asked between steps whether to end.
        split: Parts into which each micro-batch is cut, so that it fits into memory; a step takes the same rows.
        rate: Learning rate of a 0-based step, in the place of the settings' schedule.
        peers: The processes that train together.

    Attributes:
        step: Optimizer steps done.
        optimizer: Over the trainable parameters.
        scaler: Gradient scaler; does nothing unless training is in fp16.
        loss_sum: Sum of the step losses since :meth:`take_loss`, float64 scalar.
        loss_steps: Steps in ``loss_sum``.
        rows: Rows of those steps.
        seconds: What those steps took.
    """

    def __init__(
        self,
        lesson: Lesson,
        settings: Mapping[str, Any],
        plan: Plan,
        precision: Precision,
        progress: Progress | None = None,
        leaving: Callable[[], bool] | None = None,
        split: int = 1,
        rate: Callable[[int], float] | None = None,
        peers: Alone | Peers | None = None,
    ) -> None:
        self._lesson = lesson
        self._plan = plan
        self._precision = precision
        self._progress = progress
        self._leaving = leaving
        self._split = split
        self._peak = float(settings["learning_rate"])
        self._warmup = float(settings["warmup"])
        self._warmup_steps: int | None = settings["warmup_steps"]
        self._shape = str(settings["schedule"])
        self._cooldown = float(settings["cooldown"])
        self._given_rate = rate
        self._clipping: float | None = settings["gradient_clipping"]
        self._trainable = [p for p in lesson.model.parameters() if p.requires_grad]
        self._epoch: tuple[int, Sequence[Sequence[Indices]]] = (-1, ())
        self._told_at = 0.0
        self.peers = peers or Alone(precision.device)
        self._newest_loss: torch.Tensor | None = None
        groups = decay_groups(lesson.model, float(settings["weight_decay"]), float(settings["layer_decay"]))
        self.optimizer = build_optimizer(str(settings["optimizer"]), groups, self._peak)
        self.scaler = torch.amp.GradScaler(precision.device.type, enabled=precision.scales)
        # It is ready only once it has scaled something, and a process may have no rows in a step.
        self.scaler.scale(torch.zeros((), device=precision.device))
        self.step = 0
        self.loss_sum = torch.zeros((), dtype=torch.float64)
        self.loss_steps = 0
        self.rows = 0
        self.seconds = 0.0

    @property
    def learning_rate(self) -> float:
        """Rate of the newest step; before the first, of the first. Lower layers may have a share of it."""
        return self._rate(max(0, self.step - 1))

    @property
    def examples_per_second(self) -> float:
        """Speed of the steps since :meth:`take_loss`."""
        return self.rows / max(1e-9, self.seconds)

    def advance(self, until_step: int) -> None:
        """Train until ``until_step`` optimizer steps are done.

        Raises:
            DivergedError: If the loss becomes NaN or infinite.
            LeftEarly: If it is told to leave; all steps taken are whole.
            PeerLostError: If another process is gone or does not answer.
        """
        self._lesson.model.train()
        while self.step < until_step:
            if self._is_leaving():
                raise LeftEarly
            begun = time.perf_counter()
            self.peers.order(Order.STEP)
            self._take_step(self._micro_batches())
            self.seconds += time.perf_counter() - begun
        self.check_finite()

    def take_ordered_step(self) -> None:
        """Take a step that rank 0 has ordered.

        Raises:
            PeerLostError: If another process is gone or does not answer.
        """
        self._lesson.model.train()
        self._take_step(self._micro_batches())

    def keep_alive(self) -> None:
        """Between the batches of an evaluation: tell of progress, and leave when told to.

        Raises:
            LeftEarly: If it is told to leave.
        """
        if self.peers.go_on(self._is_leaving()):
            raise LeftEarly
        self._sign_of_life()

    def check_finite(self) -> None:
        """Hold the losses since the last evaluation against NaN and infinity.

        Raises:
            DivergedError: If one of them is.
        """
        if not math.isfinite(value := float(self.loss_sum)):
            raise DivergedError(
                f"step {self.step}: the training loss is {value}, at learning rate {self.learning_rate:.3g}. "
                "Lower learning_rate, or raise warmup."
            )

    def take_loss(self) -> float:
        """Mean loss of the steps since the last call; starts the next mean."""
        mean = float(self.loss_sum) / max(1, self.loss_steps)
        self.loss_sum = torch.zeros((), dtype=torch.float64)
        self.loss_steps = self.rows = 0
        self.seconds = 0.0
        return mean

    def _rate(self, step: int) -> float:
        """Learning rate of a 0-based step."""
        if self._given_rate is not None:
            return self._given_rate(step)
        return self._peak * learning_rate_factor(
            step,
            self._plan.total_steps,
            self._warmup,
            self._shape,
            warmup_steps=self._warmup_steps,
            cooldown=self._cooldown,
        )

    def _is_leaving(self) -> bool:
        return self._leaving is not None and self._leaving()

    def _sign_of_life(self) -> None:
        """Tell of progress, unless it was told within half a second."""
        now = time.monotonic()
        if self._progress is None or now - self._told_at < _PROGRESS_SECONDS:
            return
        self._told_at = now
        # An attempt that resumes within an evaluation has taken no step yet.
        loss = None if self._newest_loss is None else float(self._newest_loss)
        self._progress(self.step, self._plan.total_steps, loss)

    def _micro_batches(self) -> Sequence[Indices]:
        epoch, index = divmod(self.step, self._plan.steps_per_epoch)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, self._lesson.steps_of_epoch(epoch))
        return self._epoch[1][index]

    def _take_step(self, micro_batches: Sequence[Indices]) -> None:
        with self.peers.expecting():
            total = self._summed_gradients(micro_batches)
            rate = self._rate(self.step)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["share"]
            if self._clipping is not None:
                self.scaler.unscale_(self.optimizer)
                torch.nn.utils.clip_grad_norm_(self._trainable, self._clipping)
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.rows += sum(map(len, micro_batches))
        self.loss_steps += 1
        self.loss_sum = self.loss_sum.to(total.device) + total
        # Reading a loss waits for a GPU, so there it is read now and then.
        is_first = self._newest_loss is None
        if total.device.type == "cpu" or is_first or self.step % _DEVICE_CHECK_STEPS == 0:
            if self.peers.rank == 0:
                self.check_finite()
            self._newest_loss = total
        self._sign_of_life()

    def _summed_gradients(self, micro_batches: Sequence[Indices]) -> torch.Tensor:
        """Leave a step's gradients in the parameters; returns its loss, the same in all processes."""
        parts = [part for whole in micro_batches for part in cut(whole, self._split * self.peers.size)]
        own = self.peers.own(parts)
        weights = [counts * self._lesson.weight(part) for part, counts in own]
        # A step may have no target at all; its losses are 0 then.
        weight_of_step = float(self.peers.summed(torch.tensor(sum(weights), dtype=torch.float64))) or 1.0
        total = torch.zeros((), dtype=torch.float64, device=self._precision.device)
        for (batch, _), weight in zip(own, weights, strict=True):
            with self._precision.autocast():
                loss = self._lesson.loss(batch) * (weight / weight_of_step)
            torch.autograd.backward(self.scaler.scale(loss))
            total += loss.detach()
        self.peers.sum_gradients(self._trainable)
        return self.peers.summed(total)
