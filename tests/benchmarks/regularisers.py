"""Whether R-Drop and mixup earn their place: fine-tuning on few rows of three data sets, with each and without both.

Run: python -m tests.benchmarks.regularisers DATA [--rows 250] [--seeds 5] [--epochs 4]

DATA is a folder as of :mod:`tests.benchmarks.lr_find_validation`. Each seed draws head, dropout and order of rows, the
same for all; gains are paired by seed, with the p-value of a two-sided t-test and the interval of 95 %.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from objectives.data.batching import Indices, TokenRows
from objectives.finetune.objective import FineTuning
from objectives.finetune.prediction import logits_of
from objectives.finetune.task import Frame
from objectives.tasks.text_classification import Classification
from objectives.testing import TRAINING, tiny_file, tiny_settings
from sweep.domain import Assignment, MetricRule, TrainRequest
from tests.benchmarks.lr_find_validation import DATA, Row

VALIDATION_ROWS = 600


class RDrop(Classification):
    """Two passes with dropout of their own, and the symmetric divergence of their answers (arXiv:2106.14448)."""

    alpha = 1.0

    def loss(self, model: Any, rows: TokenRows, batch: Indices, frame: Frame) -> torch.Tensor:
        """Mean cross-entropy of both passes, and ``alpha`` times the mean of both divergences."""
        targets = torch.from_numpy(np.asarray(rows.labels[batch]))
        both = [logits_of(model, rows, batch, frame.max_length, frame.data.pad_id, frame.device) for _ in range(2)]
        one, other = (log_softmax(logits.float(), -1) for logits in both)
        apart = [kl_div(a, b, reduction="batchmean", log_target=True) for a, b in ((one, other), (other, one))]
        fit = [cross_entropy(logits.float(), targets) for logits in both]
        return (fit[0] + fit[1]) / 2 + self.alpha * (apart[0] + apart[1]) / 2


class Mixup(Classification):
    """Sentence vectors, and the losses of their classes, mixed by a share from Beta(1, 1) (arXiv:1905.08941)."""

    def loss(self, model: Any, rows: TokenRows, batch: Indices, frame: Frame) -> torch.Tensor:
        """Cross-entropy against both of the classes that a mixed vector is of."""
        targets = torch.from_numpy(np.asarray(rows.labels[batch]))
        share, order = torch.rand(()), torch.randperm(len(batch))

        def mix(_: Any, inputs: tuple[torch.Tensor]) -> torch.Tensor:
            return share * inputs[0] + (1 - share) * inputs[0][order]

        hook = model.classifier.register_forward_pre_hook(mix)
        try:
            logits = logits_of(model, rows, batch, frame.max_length, frame.data.pad_id, frame.device).float()
        finally:
            hook.remove()
        return share * cross_entropy(logits, targets) + (1 - share) * cross_entropy(logits, targets[order])


WAYS: Mapping[str, Callable[[], Classification]] = {"neither": Classification, "R-Drop": RDrop, "mixup": Mixup}


def _request(rows: list[Row], scratch: Path, epochs: float) -> TrainRequest:
    file = tiny_file(scratch / "rows.jsonl", rows)
    share = VALIDATION_ROWS / len(rows)
    settings = tiny_settings(Path("bundled:minilm-l6"), file, validation_fraction=share, test_fraction=0.0)
    settings["training"] = {
        **TRAINING,
        "epochs": epochs,
        "batch_size": 16,
        "evaluation_batch_size": 64,
        "max_length": 40,
        "keep_layers": (0, 2, 5),
        "freeze": ("embeddings",),
        "precision": "auto",
        "learning_rate": 3e-4,
    }
    return TrainRequest(
        assignment=Assignment(trial_number=0, attempt=1, hyperparameters={}, seed=1),
        prepared=FineTuning(Classification()).prepare(settings, scratch / "prepared")["folder"],
        model=settings["model"],
        settings=settings["training"],
        metric=MetricRule(name="accuracy", direction="maximize"),
        evaluate_at=[],
        fidelity_unit="epochs",
        checkpoints=str(scratch / "checkpoints"),
        artifacts=str(scratch / "artifacts"),
    )


def _score(task: Classification, request: TrainRequest, seed: int) -> float:
    own = replace(request, assignment=replace(request.assignment, seed=seed))
    try:
        (*_, report) = FineTuning(task).train(own)
    finally:
        shutil.rmtree(request.checkpoints, ignore_errors=True)
    return report.metrics["accuracy"]


def _compare(name: str, folder: Path, rows: int, seeds: int, epochs: float) -> None:
    drawn = DATA[name](folder)
    random.Random(1).shuffle(drawn)
    scores: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        request = _request(drawn[: rows + VALIDATION_ROWS], Path(scratch), epochs)
        for way, task in WAYS.items():
            begun = time.process_time()
            scores[way] = [_score(task(), request, 10 + seed) for seed in range(seeds)]
            seconds = time.process_time() - begun
            cells = [name, way, f"{statistics.fmean(scores[way]):.4f}", *_gain(scores[way], scores["neither"])]
            print("| " + " | ".join([*cells, f"{seconds / seeds:.1f}"]) + " |", flush=True)


def _gain(scores: list[float], before: list[float]) -> tuple[str, str]:
    if scores is before:
        return "", ""
    gains = [a - b for a, b in zip(scores, before, strict=True)]
    test = stats.ttest_rel(scores, before)
    low, high = test.confidence_interval()
    return f"{statistics.fmean(gains):+.4f} [{low:+.4f}, {high:+.4f}]", f"{test.pvalue:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=250)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=float, default=4.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    head = ("data", "with", "accuracy", "gain", "p", "CPU s a run")
    for row in (head, ["---"] * len(head)):
        print("| " + " | ".join(row) + " |", flush=True)
    for name in DATA:
        _compare(name, arguments.data, arguments.rows, arguments.seeds, arguments.epochs)


if __name__ == "__main__":
    main()
