"""A real objective that takes milliseconds: softmax regression by SGD in numpy, with real checkpoints.

In a spec: ``task: sweep.testing.checkpointing_objective:QuickObjective``, with ``data: {}`` and any ``model``. Its
metrics follow from seed, hyperparameters and step alone, bit for bit, however often its training is interrupted.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from sweep.checkpoints import STATE_PREFIX, committing, intact, model_folder, read_manifest, step_folder
from sweep.domain import GAP, Report, TrainRequest
from sweep.errors import CheckpointError
from sweep.ports import Columns, DivergedError, LeftEarly

Array = NDArray[np.float64]

_ROWS = {"train": 480, "validation": 240, "test": 240}
_FEATURES, _CLASSES = 8, 3
_NOISE = 1.5
_MOMENTUM = 0.9
_PROGRESS_SECONDS = 0.1
_WEIGHTS = "model.safetensors"


@dataclass(slots=True)
class _Course:
    """Where a training is: all of it can be saved.

    Attributes:
        weights: [features + 1, classes].
        velocity: Likewise.
        history: Reports so far.
        seconds_before: Wall seconds of the attempts before.
    """

    weights: Array
    velocity: Array
    step: int = 0
    history: tuple[Report, ...] = ()
    seconds_before: float = 0.0


class QuickObjective:
    """See :class:`sweep.ports.Objective` and :class:`sweep.ports.PredictingObjective` for the methods' contract.

    Settings: ``learning_rate``, ``weight_decay``, ``batch_size``, ``steps`` or ``epochs``, and of its own
    ``sleep_seconds`` (after each step; 0).
    """

    def __init__(self) -> None:
        self.progress: Callable[[int, int, float], None] | None = None
        self.leaving: Callable[[], bool] | None = None

    def prepare(self, settings: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
        """Draw three clouds of points."""
        seed = int(settings["data"]["split_seed"])
        splits = _clouds(seed)
        if "validation_seed" in settings["data"]:
            splits = _drawn_anew(splits, int(settings["data"]["validation_seed"]))
        digest = hashlib.sha256(b"".join(array.tobytes() for array in splits.values())).hexdigest()
        target = folder / f"quick-{digest[:16]}"
        if not intact(target):
            with committing(target, {"seed": seed}) as temporary:
                save_file(splits, temporary / "rows.safetensors")
        return {
            "folder": str(target),
            "data_hash": digest,
            "data_name": "quick",
            "rows": dict(_ROWS),
            "labels": [str(label) for label in range(_CLASSES)],
            "training_rows": _ROWS["train"],
            "checkpoint_bytes": 2 * 8 * (_FEATURES + 1) * _CLASSES,
            "warnings": [],
        }

    def check(self, request: TrainRequest) -> Mapping[str, Any]:
        """Take a step and evaluate it."""
        rows, labels = _split(Path(request.prepared), "train")
        course = _fresh(request.assignment.seed)
        begun = time.perf_counter()
        _take_step(course, rows, labels, request)
        seconds = time.perf_counter() - begun
        metrics = _metrics(course.weights, Path(request.prepared), "validation")
        return {"metrics": list(metrics), "step_seconds": seconds, "parameters": course.weights.size}

    def train(self, request: TrainRequest) -> Iterator[Report]:
        """Train, yielding a report at each evaluation.

        Raises:
            CheckpointError: If a checkpoint cannot be read or written.
            DivergedError: If loss or weights overflow.
            LeftEarly: If it was told to leave.
        """
        begun = time.perf_counter()
        rows, labels = _split(Path(request.prepared), "train")
        course = _fresh(request.assignment.seed)
        if request.assignment.start_from is not None:
            course = _restored(Path(request.assignment.start_from), request)
            if course.history:
                yield course.history[-1]
        total, points = _plan(request, len(rows))
        committed, told_at = course.step, -math.inf
        for point in [point for point in points if point > course.step]:
            while course.step < point:
                if self.leaving is not None and self.leaving():
                    if course.step > committed:
                        _commit(course, request, time.perf_counter() - begun)
                    raise LeftEarly
                loss = _take_step(course, rows, labels, request)
                time.sleep(float(request.settings.get("sleep_seconds", 0.0)))
                if self.progress is not None and time.monotonic() - told_at > _PROGRESS_SECONDS:
                    told_at = time.monotonic()
                    self.progress(course.step, total, loss)
            yield _evaluated(course, request, total, time.perf_counter() - begun)
            committed = course.step

    def evaluate(self, model: Path, prepared: Path, split: str, settings: Mapping[str, Any]) -> Mapping[str, float]:
        """Metrics of saved weights on a split."""
        return _metrics(_load(model / _WEIGHTS)["weights"], prepared, split)

    def predict(self, model: Path, prepared: Path, split: str, settings: Mapping[str, Any]) -> Columns:
        """The answers that ``evaluate`` counts."""
        rows, labels = _split(prepared, split)
        chances = _chances(_load(model / _WEIGHTS)["weights"], rows)
        predicted = chances.argmax(axis=1)
        return {
            "row": list(range(len(rows))),
            "text": [" ".join(f"{value:.1f}" for value in row[:-1]) for row in rows],
            "label": [str(label) for label in labels],
            "prediction": [str(label) for label in predicted],
            "probability": chances.max(axis=1).tolist(),
            "score": (predicted == labels).astype(float).tolist(),
            "loss": [_loss(chances[[i]], labels[[i]]) for i in range(len(rows))],
        }

    def metrics(self, rows: Mapping[str, Any]) -> Mapping[str, float]:
        """Accuracy and loss of any choice of rows."""
        return {"accuracy": float(np.mean(rows["score"])), "loss": float(np.mean(rows["loss"]))}

    def one_by_one(
        self, model: Path, prepared: Path, settings: Mapping[str, Any]
    ) -> tuple[Callable[[int], object], int]:
        """One point after another; see :class:`sweep.ports.TimedObjective`."""
        weights = _load(model / _WEIGHTS)["weights"]
        rows, _ = _split(prepared, "validation")
        return lambda row: _chances(weights, rows[[row]]), len(rows)


def _clouds(seed: int) -> dict[str, Array]:
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(_CLASSES, _FEATURES))
    splits = {}
    for name, count in _ROWS.items():
        labels = np.arange(count) % _CLASSES
        points = centres[labels] + _NOISE * generator.normal(size=(count, _FEATURES))
        splits[name] = np.column_stack([points, np.ones(count), labels])
    return splits


def _drawn_anew(splits: dict[str, Array], seed: int) -> dict[str, Array]:
    rows = np.random.default_rng(seed).permutation(np.concatenate([splits["train"], splits["validation"]]))
    return {**splits, "train": rows[: _ROWS["train"]], "validation": rows[_ROWS["train"] :]}


def _split(prepared: Path, split: str) -> tuple[Array, NDArray[np.int64]]:
    """Rows with a constant one [rows, features + 1], and labels [rows]."""
    table = _load(prepared / "rows.safetensors")[split]
    return table[:, :-1], table[:, -1].astype(np.int64)


def _load(path: Path) -> dict[str, Array]:
    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as err:
        raise CheckpointError(f"{path}: cannot be read ({err}). Use an earlier checkpoint.") from err


def _fresh(seed: int) -> _Course:
    shape = (_FEATURES + 1, _CLASSES)
    return _Course(0.01 * np.random.default_rng(seed).normal(size=shape), np.zeros(shape))


def _plan(request: TrainRequest, rows: int) -> tuple[int, Sequence[int]]:
    """Steps of a full run, and the steps to evaluate at; the end is one of them."""
    settings = request.settings
    per_unit = 1.0 if request.fidelity_unit == "steps" else rows / int(settings["batch_size"])
    total = math.ceil(per_unit * float(settings[request.fidelity_unit]))
    until = request.assignment.until_step
    last = total if until is None else min(total, until)
    wanted = {math.ceil(per_unit * fidelity) for fidelity in request.evaluate_at}
    return total, sorted({point for point in wanted if 1 <= point < last} | {last})


def _take_step(course: _Course, rows: Array, labels: NDArray[np.int64], request: TrainRequest) -> float:
    """One step of SGD with momentum; returns the loss before it."""
    size = int(request.settings["batch_size"])
    # Drawn from seed and step, so that a resumed trial needs no random state.
    batch = np.random.default_rng((request.assignment.seed, course.step)).integers(len(rows), size=size)
    with np.errstate(over="ignore", invalid="ignore"):  # told as a divergence below
        chances = _chances(course.weights, rows[batch])
        slope = rows[batch].T @ (chances - np.eye(_CLASSES)[labels[batch]]) / size
        slope += float(request.settings["weight_decay"]) * course.weights
        course.velocity = _MOMENTUM * course.velocity - float(request.settings["learning_rate"]) * slope
        course.weights = course.weights + course.velocity
    course.step += 1
    if not np.isfinite(course.weights).all():
        raise DivergedError(f"step {course.step}: the weights are not finite. Lower learning_rate.")
    return _loss(chances, labels[batch])


def _chances(weights: Array, rows: Array) -> Array:
    scores = rows @ weights
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _loss(chances: Array, labels: NDArray[np.int64]) -> float:
    likely = chances[np.arange(len(labels)), labels]
    return float(-np.log(np.maximum(likely, 1e-300)).mean())


def _metrics(weights: Array, prepared: Path, split: str) -> dict[str, float]:
    rows, labels = _split(prepared, split)
    chances = _chances(weights, rows)
    return {"accuracy": float((chances.argmax(axis=1) == labels).mean()), "loss": _loss(chances, labels)}


def _with_gap(weights: Array, prepared: Path) -> dict[str, float]:
    metrics = _metrics(weights, prepared, "validation")
    return {**metrics, GAP: metrics["loss"] - _metrics(weights, prepared, "train")["loss"]}


def _evaluated(course: _Course, request: TrainRequest, total: int, seconds: float) -> Report:
    fidelity = course.step / total * float(request.settings[request.fidelity_unit])
    report = Report(
        trial_number=request.assignment.trial_number,
        attempt=request.assignment.attempt,
        step=course.step,
        fidelity=fidelity,
        metrics=_with_gap(course.weights, Path(request.prepared)),
        checkpoint=str(step_folder(Path(request.checkpoints), course.step)),
        wall_seconds=course.seconds_before + seconds,
        reported_at=time.time(),
    )
    course.history = (*course.history, report)
    committed = _commit(course, request, seconds)
    # A step committed by an earlier attempt stands, and so does the time of its report.
    course.history = tuple(_own(Report(**entry), request) for entry in committed["history"])
    return course.history[-1]


def _commit(course: _Course, request: TrainRequest, seconds: float) -> Mapping[str, Any]:
    """Write a checkpoint of this step; returns its metadata."""
    target = step_folder(Path(request.checkpoints), course.step)
    meta = {
        "step": course.step,
        "wall_seconds": course.seconds_before + seconds,
        "history": [asdict(report) for report in course.history],
    }
    with committing(target, meta) as folder:
        model_folder(folder).mkdir()
        (folder / STATE_PREFIX).mkdir()
        save_file({"weights": course.weights}, model_folder(folder) / _WEIGHTS)
        (model_folder(folder) / "config.json").write_text(json.dumps({"model_type": "softmax-regression"}))
        save_file({"velocity": course.velocity}, folder / STATE_PREFIX / "state.safetensors")
    return read_manifest(target, verify=False).meta


def _restored(checkpoint: Path, request: TrainRequest) -> _Course:
    meta = read_manifest(checkpoint).meta
    return _Course(
        _load(model_folder(checkpoint) / _WEIGHTS)["weights"],
        _load(checkpoint / STATE_PREFIX / "state.safetensors")["velocity"],
        step=int(meta["step"]),
        history=tuple(_own(Report(**entry), request) for entry in meta["history"]),
        seconds_before=float(meta["wall_seconds"]),
    )


def _own(report: Report, request: TrainRequest) -> Report:
    """A report of the trial as this attempt tells it."""
    folder = step_folder(Path(request.checkpoints), report.step)
    return replace(report, attempt=request.assignment.attempt, checkpoint=str(folder))
