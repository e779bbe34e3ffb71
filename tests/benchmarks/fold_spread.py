"""What folds are worth on a few hundred real rows: the spread of a score, and what the pruner saves.

Run: python -m tests.benchmarks.fold_spread DATA [--name trec6] [--rows 300] [--seeds 10] [--folds 10]

DATA is a folder as :mod:`tests.benchmarks.lr_find_validation` takes it.
"""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna

from objectives.tasks.text_classification import TextClassification
from objectives.testing import TRAINING, tiny_file, tiny_settings
from sweep.domain import Assignment, MetricRule, Report, TrainRequest, fold_metric
from tests.benchmarks.fold_pruning import spec_of, stops_after
from tests.benchmarks.lr_find_validation import DATA

RATES = [3.2e-4, 1e-3, 1e-4, 2e-3, 3.2e-5, 5e-4]
"""Of the trials that the pruner sees, in this order."""


def request_of(file: Path, scratch: Path, *, folds: int | None, seed: int) -> TrainRequest:
    """A trial on some rows, validated in folds or on a fifth of them."""
    data = {"validation_fraction": 0.2, "test_fraction": 0.0, "split_seed": seed, "folds": folds}
    settings = tiny_settings(Path("bundled:minilm-l6"), file, **data)
    settings["training"] = {
        **TRAINING,
        "epochs": 3.0,
        "batch_size": 16,
        "evaluation_batch_size": 64,
        "max_length": 24,
        "keep_layers": (0, 2, 5),
        "freeze": ("embeddings",),
        "precision": "auto",
        "learning_rate": 5e-4,
    }
    prepared = TextClassification().prepare(settings, scratch / "prepared")
    return TrainRequest(
        assignment=Assignment(trial_number=0, attempt=1, hyperparameters={}, seed=seed),
        prepared=prepared["folder"],
        model=settings["model"],
        settings=settings["training"],
        metric=MetricRule(name="accuracy", direction="maximize", source="last"),
        evaluate_at=[] if folds is None else [float(fold) for fold in range(1, folds + 1)],
        fidelity_unit="epochs" if folds is None else "folds",
        checkpoints=str(scratch / "checkpoints"),
        artifacts=str(scratch / "artifacts"),
    )


def reports_of(request: TrainRequest) -> list[Report]:
    """Train, and leave no checkpoint."""
    try:
        return list(TextClassification().train(request))
    finally:
        shutil.rmtree(request.checkpoints, ignore_errors=True)


def spreads(file: Path, scratch: Path, seeds: int) -> None:
    """Print how far scores of one configuration lie apart over split and seed."""
    found: dict[int | None, list[float]] = {None: [], 5: []}
    for seed, folds in itertools.product(range(seeds), found):
        [*_, last] = reports_of(request_of(file, scratch, folds=folds, seed=seed))
        found[folds].append(last.metrics["accuracy"])
    for folds, scores in found.items():
        told = "one split" if folds is None else f"{folds} folds"
        print(f"| {told} | {statistics.fmean(scores):.3f} | {statistics.stdev(scores):.3f} |", flush=True)


def savings(file: Path, scratch: Path, folds: int) -> None:
    """Print what the pruner would have spared of trials that ran to their end, and whether the best is the same."""
    runs = []
    for rate in RATES:
        request = request_of(file, scratch, folds=folds, seed=0)
        runs.append(reports_of(replace(request, settings={**request.settings, "learning_rate": rate})))
    scores = np.array([[report.metrics[fold_metric("accuracy")] for report in run] for run in runs])
    stops = stops_after(spec_of(folds), scores)
    whole = sum(run[-1].wall_seconds for run in runs)
    spared = sum(
        run[-1].wall_seconds - run[stop - 1].wall_seconds
        for run, stop in zip(runs, stops, strict=True)
        if stop is not None
    )
    print(f"means {scores.mean(axis=1).round(3).tolist()}, stopped after {stops}")
    print(f"{whole:.0f} s, of which the pruner spares {spared:.0f} s", flush=True)


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--name", default="trec6", choices=DATA)
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--folds", type=int, default=10)
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rows = DATA[arguments.name](arguments.data)
    random.Random(1).shuffle(rows)
    with tempfile.TemporaryDirectory() as scratch:
        file = tiny_file(Path(scratch) / "rows.jsonl", rows[: arguments.rows])
        savings(file, Path(scratch), arguments.folds)
        spreads(file, Path(scratch), arguments.seeds)


if __name__ == "__main__":
    main()
