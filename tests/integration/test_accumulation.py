"""A step of several micro-batches is the step of one batch, for tasks whose loss is a mean over tokens."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from objectives.data.masking import Masker
from objectives.loading import load_objective
from sweep.checkpoints import model_folder
from tests.language_tasks import LESSONS

PLAIN_STEP = {
    "steps": 1,
    "train_rows": 8,
    "optimizer": "sgd",
    "learning_rate": 1.0,
    "warmup": 0.0,
    "schedule": "constant",
    "gradient_clipping": None,
    "weight_decay": 0.0,
    "dropout": 0.0,
}
"""Of gradient descent at rate 1: what the weights change by is the gradient."""


@pytest.mark.parametrize("kind", LESSONS)
def test_micro_batches_give_the_gradient_of_one_batch(kind: str, tmp_path: Path) -> None:
    lesson = LESSONS[kind].written(tmp_path)
    objective = load_objective(lesson.spec.objective.task)
    prepared = str(objective.prepare(lesson.settings, tmp_path / "prepared")["folder"])

    def stepped(name: str, batch_size: int, accumulation: int, split: int = 1) -> dict[str, torch.Tensor]:
        changes: dict[str, Any] = {**PLAIN_STEP, "batch_size": batch_size, "accumulation": accumulation}
        request = dataclasses.replace(
            lesson.request(prepared, name, **changes), evaluate_at=[1], micro_batch_split=split
        )
        (report,) = load_objective(lesson.spec.objective.task).train(request)
        return load_file(model_folder(Path(str(report.checkpoint))) / "model.safetensors")

    whole = stepped("whole", 8, 1)
    for parts in (stepped("parts", 2, 4), stepped("split", 8, 1, split=3)):
        assert parts.keys() == whole.keys()
        for name, weights in whole.items():
            torch.testing.assert_close(parts[name], weights, rtol=0, atol=1e-6, msg=lambda told, name=name: name + told)


def test_the_masks_of_a_step_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lesson = LESSONS["masked"].written(tmp_path)
    objective = load_objective(lesson.spec.objective.task)
    prepared = str(objective.prepare(lesson.settings, tmp_path / "prepared")["folder"])
    drawn: list[Any] = []
    mask = Masker.mask

    def counted(self: Masker, ids: Any, begins: Any, seed: Any) -> Any:
        drawn.append(tuple(seed))
        return mask(self, ids, begins, seed)

    monkeypatch.setattr(Masker, "mask", counted)
    request = lesson.request(prepared, "masks", **PLAIN_STEP, batch_size=2, accumulation=4)
    list(load_objective(lesson.spec.objective.task).train(dataclasses.replace(request, evaluate_at=[1])))
    assert len(drawn) > 8
    assert len(drawn) == len(set(drawn))
