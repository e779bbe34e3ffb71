"""Holds the range test against a full sweep of learning rates on three data sets, with the bundled model.

Run: python -m tests.benchmarks.lr_find_validation DATA [--rows 600] [--seeds 2]

DATA is a folder with ``sst2/train.tsv``, ``trec6/TREC.train`` and ``sms_spam/sms.tsv``. A rate's score is its mean
validation accuracy over the seeds.
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

from objectives.tasks.text_classification import TextClassification
from objectives.testing import TRAINING, tiny_file, tiny_settings
from sweep.domain import Assignment, MetricRule, TrainRequest
from sweep.ports import DivergedError

RATES = [1e-6 * 10 ** (half / 2) for half in range(9)]
"""1e-6 to 1e-2, two a decade."""

Row = dict[str, str]


def _sst2(folder: Path) -> list[Row]:
    lines = (folder / "sst2/train.tsv").read_text(encoding="utf-8").splitlines()
    return [{"text": text, "label": label} for text, _, label in (line.rpartition("\t") for line in lines)]


def _trec6(folder: Path) -> list[Row]:
    lines = (folder / "trec6/TREC.train").read_text(encoding="latin-1").splitlines()
    parts = (line.partition(" ") for line in lines)
    return [{"text": text, "label": label.partition(":")[0]} for label, _, text in parts]


def _sms_spam(folder: Path) -> list[Row]:
    lines = (folder / "sms_spam/sms.tsv").read_text(encoding="utf-8").splitlines()
    return [{"text": text, "label": label} for label, _, text in (line.partition("\t") for line in lines)]


DATA: Mapping[str, Callable[[Path], list[Row]]] = {"sst2": _sst2, "trec6": _trec6, "sms_spam": _sms_spam}


def _request(rows: list[Row], scratch: Path) -> TrainRequest:
    """Trial 0 of a study over some rows; 30 % of them validate."""
    file = tiny_file(scratch / "rows.jsonl", rows)
    settings = tiny_settings(Path("bundled:minilm-l6"), file, validation_fraction=0.3, test_fraction=0.0)
    settings["training"] = {
        **TRAINING,
        "batch_size": 16,
        "evaluation_batch_size": 64,
        "max_length": 40,
        "keep_layers": (0, 2, 5),
        "freeze": ("embeddings",),
        "precision": "auto",
        "learning_rate": 5e-5,
    }
    prepared = TextClassification().prepare(settings, scratch / "prepared")
    return TrainRequest(
        assignment=Assignment(trial_number=0, attempt=1, hyperparameters={}, seed=1),
        prepared=prepared["folder"],
        model=settings["model"],
        settings=settings["training"],
        metric=MetricRule(name="accuracy", direction="maximize"),
        evaluate_at=[],
        fidelity_unit="epochs",
        checkpoints=str(scratch / "checkpoints"),
        artifacts=str(scratch / "artifacts"),
    )


def _score(request: TrainRequest, rate: float, seed: int) -> float:
    """Validation accuracy at the end of a full run; 0 if it diverges."""
    own = replace(
        request,
        settings={**request.settings, "learning_rate": rate},
        assignment=replace(request.assignment, seed=seed),
    )
    try:
        (*_, report) = TextClassification().train(own)
    except DivergedError:
        return 0.0
    finally:
        shutil.rmtree(request.checkpoints, ignore_errors=True)
    return report.metrics["accuracy"]


def _compare(name: str, folder: Path, rows: int, seeds: int) -> None:
    drawn = DATA[name](folder)
    random.Random(1).shuffle(drawn)
    with tempfile.TemporaryDirectory() as scratch:
        request = _request(drawn[:rows], Path(scratch))
        begun = time.process_time()
        found: Mapping[str, Any] = TextClassification().find_learning_rate(request)
        test_seconds = time.process_time() - begun
        scores = {rate: statistics.fmean(_score(request, rate, 10 + seed) for seed in range(seeds)) for rate in RATES}
    best = max(scores, key=lambda rate: scores[rate])
    inside = [score for rate, score in scores.items() if found["low"] <= rate <= found["high"]]
    verdict = "yes" if found["low"] <= best <= found["high"] else f"no (best inside: {max(inside, default=0):.3f})"
    curve = " ".join(f"{score:.3f}" for score in scores.values())
    cells = (
        name,
        f"{found['low']:g}..{found['high']:g}",
        f"{best:.1e}",
        f"{scores[best]:.3f}",
        verdict,
        f"{test_seconds:.0f}",
        f"{time.process_time() - begun - test_seconds:.0f}",
        curve,
    )
    print("| " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parser.parse_args()
    head = ("data", "proposed", "best rate", "accuracy", "inside", "test CPU s", "sweep CPU s", "1e-6 … 1e-2")
    for row in (head, ["---"] * len(head)):
        print("| " + " | ".join(row) + " |", flush=True)
    for name in DATA:
        _compare(name, arguments.data, arguments.rows, arguments.seeds)


if __name__ == "__main__":
    main()
