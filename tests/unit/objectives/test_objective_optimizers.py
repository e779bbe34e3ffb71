from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from objectives.data.batching import Indices
from objectives.finetune.loop import Loop
from objectives.finetune.optimizers import state_bytes
from objectives.finetune.precision import choose_precision
from objectives.finetune.schedule import Plan
from objectives.finetune.state import checkpoint_bytes, restore_state, save_state
from objectives.testing import TRAINING
from sweep.errors import CheckpointError

OPTIMIZERS = {"adamw": 3e-2, "adafactor": 0.1, "sgd": 0.1, "lion": 3e-2}
INPUTS = torch.linspace(-1, 1, 32).reshape(4, 8)
TARGETS = torch.tensor([1.0, 0.0, 2.0, -1.0])


class Bend:
    """A small network whose one step covers four rows."""

    def __init__(self, width: int = 64) -> None:
        torch.manual_seed(0)
        self.model: torch.nn.Module = torch.nn.Sequential(
            torch.nn.Linear(8, width), torch.nn.Tanh(), torch.nn.Dropout(0.1), torch.nn.Linear(width, 1)
        )

    def steps_of_epoch(self, epoch: int) -> Sequence[Sequence[Indices]]:
        return [[np.arange(4)]]

    def weight(self, batch: Indices) -> float:
        return float(len(batch))

    def loss(self, batch: Indices) -> torch.Tensor:
        rows = torch.from_numpy(batch)
        return torch.nn.functional.mse_loss(self.model(INPUTS[rows]).squeeze(-1), TARGETS[rows])


def _loop(lesson: Bend, name: str, **settings: Any) -> Loop:
    plan = Plan(steps_per_epoch=1, total_steps=40, unit="steps", evaluate_at=(40,))
    chosen = {**TRAINING, "optimizer": name, "learning_rate": OPTIMIZERS[name], **settings}
    return Loop(lesson, chosen, plan, choose_precision("fp32", torch.device("cpu")))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_learns_and_goes_on_from_its_state_bit_for_bit(name: str, tmp_path: Path) -> None:
    whole = Bend()
    loop = _loop(whole, name)
    loop.advance(10)
    first = loop.take_loss()
    weights = {key: value.clone() for key, value in whole.model.state_dict().items()}
    save_state(tmp_path, loop, whole.model)
    loop.advance(30)
    loop.take_loss()
    loop.advance(40)
    assert loop.take_loss() < first / 2

    rest = Bend()
    rest.model.load_state_dict(weights)
    again = _loop(rest, name)
    restore_state(tmp_path, again, rest.model)
    assert again.step == 10
    again.advance(40)
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, rest.model.state_dict()[key]), key


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_estimate_of_a_checkpoint_is_what_the_state_weighs(name: str, tmp_path: Path) -> None:
    lesson = Bend(width=4096)
    loop = _loop(lesson, name)
    loop.advance(1)
    save_state(tmp_path, loop, lesson.model)
    weighs = (tmp_path / "state/optimizer.safetensors").stat().st_size
    assert state_bytes(name, lesson.model.parameters()) == pytest.approx(weighs, rel=0.02)
    parameters = 4 * sum(p.numel() for p in lesson.model.parameters())
    assert checkpoint_bytes(lesson.model, name) == parameters + state_bytes(name, lesson.model.parameters())


def test_what_an_optimizer_keeps_as_a_number_comes_back_as_one(tmp_path: Path) -> None:
    lesson = Bend()
    loop = _loop(lesson, "lion")
    loop.advance(1)
    first = next(iter(lesson.model.parameters()))
    loop.optimizer.state[first] |= {"rounds": 3, "share": 0.1, "nothing": None}
    save_state(tmp_path, loop, lesson.model)
    rest = Bend()
    again = _loop(rest, "lion")
    restore_state(tmp_path, again, rest.model)
    kept = again.optimizer.state[next(iter(rest.model.parameters()))]
    assert {name: kept[name] for name in ("rounds", "share", "nothing")} == {
        "rounds": 3,
        "share": 0.1,
        "nothing": None,
    }


@pytest.mark.parametrize("other", [Bend(width=32), Bend(width=64)])
def test_the_state_of_another_model_is_refused(other: Bend, tmp_path: Path) -> None:
    lesson = Bend()
    loop = _loop(lesson, "adamw")
    loop.advance(1)
    save_state(tmp_path, loop, lesson.model)
    if other.model[0].out_features == 64:  # type: ignore[index, union-attr]
        other.model[0].requires_grad_(False)  # type: ignore[index, operator]
    with pytest.raises(CheckpointError, match="cannot go on from this state"):
        restore_state(tmp_path, _loop(other, "adamw"), other.model)


def test_lower_layers_take_their_share_of_the_rate_at_every_step() -> None:
    lesson = Bend()
    lesson.model = torch.nn.Sequential(torch.nn.Linear(8, 8), *_stack(), torch.nn.Linear(8, 1))
    loop = _loop(lesson, "sgd", layer_decay=0.5, warmup=0.0)
    for step in (1, 2):
        loop.advance(step)
        rates = sorted({group["lr"] for group in loop.optimizer.param_groups})
        assert rates == pytest.approx([loop.learning_rate * share for share in (0.125, 0.25, 0.5, 1.0)])


class _Layers(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)])

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            inputs = layer(inputs)
        return inputs


def _stack() -> list[torch.nn.Module]:
    return [_Layers()]
