from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from objectives.data.batching import Indices
from objectives.finetune.loop import Loop, Progress
from objectives.finetune.peers import Alone, Part
from objectives.finetune.precision import Precision, choose_precision
from objectives.finetune.schedule import Plan
from objectives.testing import TRAINING
from sweep.ports import DivergedError

INPUTS = torch.tensor([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5], [-2.0, 1.0]])
TARGETS = torch.tensor([1.0, 0.0, 2.0, -1.0])
PLAN = Plan(steps_per_epoch=1, total_steps=4, unit="steps", evaluate_at=(4,))


class Line:
    """A linear model whose one step covers four rows, cut into the given micro-batches."""

    def __init__(self, *sizes: int) -> None:
        torch.manual_seed(0)
        self.model: torch.nn.Module = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Dropout(0.0))
        self._batches = np.split(np.arange(4), np.cumsum(sizes)[:-1])

    def steps_of_epoch(self, epoch: int) -> Sequence[Sequence[Indices]]:
        return [self._batches]

    def weight(self, batch: Indices) -> float:
        return float(len(batch))

    def loss(self, batch: Indices) -> torch.Tensor:
        rows = torch.from_numpy(batch)
        return torch.nn.functional.mse_loss(self.model(INPUTS[rows]).squeeze(-1), TARGETS[rows])


def _loop(lesson: Line, progress: Progress | None = None, **settings: float | None) -> Loop:
    precision = choose_precision("fp32", torch.device("cpu"))
    return Loop(lesson, {**TRAINING, "gradient_clipping": None, **settings}, PLAN, precision, progress)


def test_accumulated_micro_batches_of_unequal_size_weigh_by_their_rows() -> None:
    whole, cut = Line(4), Line(3, 1)
    losses = []
    for lesson in (whole, cut):
        loop = _loop(lesson)
        loop.advance(1)
        losses.append(loop.take_loss())
        loop.advance(4)
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for one, other in zip(whole.model.parameters(), cut.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


class WithoutRows(Alone):
    """A process that has no rows in any step, and gets its gradients from the others."""

    def own(self, parts: Sequence[Indices]) -> Sequence[Part]:
        return []

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)


@pytest.mark.parametrize("gradient_clipping", [None, 1.0])
def test_a_process_without_rows_takes_part_in_scaled_steps(gradient_clipping: float | None) -> None:
    lesson, cpu = Line(4), torch.device("cpu")
    before = [parameter.clone() for parameter in lesson.model.parameters()]
    settings = {**TRAINING, "gradient_clipping": gradient_clipping}
    scaled = Precision(name="fp16", device=cpu)
    Loop(lesson, settings, PLAN, scaled, peers=WithoutRows(cpu)).advance(2)
    assert all(not torch.equal(*each) for each in zip(before, lesson.model.parameters(), strict=True))


def test_training_puts_the_model_into_training_mode() -> None:
    lesson = Line(4)
    lesson.model.eval()
    _loop(lesson).advance(1)
    assert lesson.model.training


def test_learning_rate_warms_up_and_ends_above_zero() -> None:
    loop = _loop(Line(4), warmup=0.5, learning_rate=0.1)
    rates = []
    for step in range(1, 5):
        loop.advance(step)
        rates.append(loop.learning_rate)
        assert all(group["lr"] == loop.learning_rate for group in loop.optimizer.param_groups)
    assert rates == pytest.approx([0.05, 0.1, 0.1, 0.05])


def test_gradients_are_clipped_to_their_norm() -> None:
    lesson = Line(4)
    loop = _loop(lesson, gradient_clipping=1e-9)
    loop.advance(1)
    moments = [state["exp_avg"].norm() for state in loop.optimizer.state.values()]
    assert 0 < max(float(norm) for norm in moments) <= 1e-9


def test_loss_that_is_not_a_number_names_the_step() -> None:
    lesson = Line(4)
    loop = _loop(lesson)
    loop.advance(1)
    with torch.no_grad():
        next(iter(lesson.model.parameters())).fill_(float("nan"))
    with pytest.raises(DivergedError, match=r"step 2: the training loss is nan"):
        loop.advance(4)


def test_an_evaluation_before_the_first_step_gives_signs_of_life() -> None:
    told: list[tuple[int, int, float | None]] = []
    loop = _loop(Line(4), progress=lambda *news: told.append(news))
    loop.step = 2  # restored from a checkpoint that was committed within this evaluation
    loop.keep_alive()
    assert told == [(2, 4, None)]
