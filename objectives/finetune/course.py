"""A task's training and evaluation rows, as the loop and the session want them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer

from objectives.data.augmentation import Augmentation, asks_for_augmentation, augmentation_of
from objectives.data.batching import Indices, epoch_batches, grouped, sorted_batches
from objectives.data.splits import draw_rows
from objectives.finetune.memory import compiled, telling_of_the_compiler
from objectives.finetune.task import Examined, Frame, Task


class TaskCourse:
    """Training and evaluation of one attempt; see :class:`~objectives.finetune.session.Course`.

    Args:
        task: What is trained.
        model: The model, on the frame's device.
        frame: Data, settings and device.
        seed: Seed of the trial.
    """

    def __init__(self, task: Task, model: torch.nn.Module, frame: Frame, seed: int) -> None:
        self.model = model
        self._learner: Any = compiled(model) if frame.settings["compile"] else model
        self.tokenizer = frame.data.tokenizer
        self.max_length = frame.max_length
        self._task = task
        self._frame = frame
        self._seed = seed
        self._train = task.examples(frame.data.rows("train"), frame)
        self._validation = task.examples(frame.data.rows("validation"), frame)
        groups = task.groups(self._train)
        self._drawn = draw_rows(
            np.zeros(len(self._train), dtype=np.int64) if groups is None else np.asarray(groups),
            frame.settings["train_rows"],
            int(frame.data.meta["identity"]["settings"]["split_seed"]),
        )
        self._lengths = self._train.lengths(self.max_length)[self._drawn]
        self._augmentation: Augmentation | None = None
        if asks_for_augmentation(frame.settings):
            trust = bool(frame.settings.get("trust_remote_code"))
            tokenizer = AutoTokenizer.from_pretrained(self.tokenizer, trust_remote_code=trust)
            self._augmentation = augmentation_of(frame.settings, tokenizer)
        self._epoch = 0
        self._newest: Examined | None = None

    @property
    def batches_per_epoch(self) -> int:
        """Micro-batches in a pass over the drawn training rows."""
        return math.ceil(len(self._drawn) / int(self._frame.settings["batch_size"]))

    def steps_of_epoch(self, epoch: int) -> Sequence[Sequence[Indices]]:
        """Micro-batches of each optimizer step; see :class:`~objectives.finetune.loop.Lesson`."""
        self._epoch = epoch
        batches = epoch_batches(self._lengths, int(self._frame.settings["batch_size"]), self._seed, epoch)
        return grouped([self._drawn[batch] for batch in batches], int(self._frame.settings["accumulation"]))

    def weight(self, batch: Indices) -> float:
        """What a micro-batch counts in its step."""
        return self._task.weight(self._train, batch, self._frame)

    def loss(self, batch: Indices) -> torch.Tensor:
        """Training loss of a micro-batch."""
        rows = self._train
        if self._augmentation is not None:
            rows = self._augmentation.of(rows, batch, self._seed, self._epoch)
            batch = np.arange(len(batch))
        if self._learner is self.model:
            return self._task.loss(self.model, rows, batch, self._frame)
        with telling_of_the_compiler():
            return self._task.loss(self._learner, rows, batch, self._frame)

    def evaluate(self, alive: Callable[[], None]) -> dict[str, float]:
        """Metrics on the validation split; ``alive`` is called after each batch."""
        self._newest = self._task.examine(self.model, self._validation, self._frame, alive)
        return self._newest.metrics

    def rehearse(self) -> dict[str, float]:
        """Metrics on one batch of the validation split."""
        longest = sorted_batches(self._validation.lengths(self.max_length), self._frame.batch_size)[-1]
        return self._task.examine(self.model, self._validation.take(longest), self._frame).metrics

    def show(self, folder: Path) -> None:
        """Write what the newest evaluation has to show."""
        if self._newest is not None:
            self._newest.show(folder)
