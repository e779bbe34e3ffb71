"""Text classification: one text in, one of a few classes out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from objectives.data.batching import Indices, TokenRows, epoch_batches, grouped, sorted_batches
from objectives.data.preparation import PreparedData, prepare_data
from objectives.data.rows import shortened
from objectives.data.splits import draw_rows
from objectives.finetune.artifacts import write_confusion
from objectives.finetune.device import choose_device, has_gpu, system_metrics
from objectives.finetune.loop import Loop, Progress
from objectives.finetune.models import (
    classifier_config,
    load_classifier,
    load_config,
    load_tokenizer,
    longest_input,
    outline,
)
from objectives.finetune.precision import choose_precision
from objectives.finetune.prediction import Examination, examine, logits_of
from objectives.finetune.regularisation import freeze
from objectives.finetune.schedule import Plan, plan_run
from objectives.finetune.scores import confusion_matrix, scores
from objectives.finetune.session import Session, check_metric
from objectives.finetune.state import checkpoint_bytes
from objectives.serving.offer import text_classifier_offer
from objectives.serving.onnx_file import write_onnx
from sweep.checkpoints import model_folder
from sweep.domain import Report, TrainRequest
from sweep.errors import ModelError, UserError
from sweep.ports import Columns, DivergedError


class Classification:
    """A classifier's training and evaluation rows, as the loop and the session want them.

    Args:
        model: The classifier, on ``device``.
        prepared: The study's data.
        settings: Training settings of the trial.
        seed: Seed of the trial.
        device: Where the model is.
        split: Parts into which each evaluation batch is cut, so that it fits into memory.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        prepared: PreparedData,
        settings: Mapping[str, Any],
        seed: int,
        device: torch.device,
        split: int = 1,
    ) -> None:
        self.model = model
        self.tokenizer = prepared.tokenizer
        self.max_length = min(int(settings["max_length"]), int(prepared.meta["max_length"]))
        self._prepared = prepared
        self._settings = settings
        self._seed = seed
        self._device = device
        self._evaluation_batch_size = math.ceil(int(settings["evaluation_batch_size"]) / split)
        self._train = prepared.rows("train")
        self._validation = prepared.rows("validation")
        split_seed = int(prepared.meta["identity"]["settings"]["split_seed"])
        self._drawn = draw_rows(np.asarray(self._train.labels), settings["train_rows"], split_seed)
        self._lengths = self._train.lengths(self.max_length)[self._drawn]
        self._newest: Examination | None = None

    @property
    def batches_per_epoch(self) -> int:
        """Micro-batches in a pass over the drawn training rows."""
        return math.ceil(len(self._drawn) / int(self._settings["batch_size"]))

    def steps_of_epoch(self, epoch: int) -> Sequence[Sequence[Indices]]:
        """Micro-batches of each optimizer step; see :class:`~objectives.finetune.loop.Lesson`."""
        batches = epoch_batches(self._lengths, int(self._settings["batch_size"]), self._seed, epoch)
        return grouped([self._drawn[batch] for batch in batches], int(self._settings["accumulation"]))

    def loss(self, batch: Indices) -> torch.Tensor:
        """Mean cross-entropy of a micro-batch, with label smoothing."""
        logits = self._logits(self._train, batch)
        targets = torch.from_numpy(np.asarray(self._train.labels[batch])).to(self._device)
        smoothing = float(self._settings["label_smoothing"])
        return torch.nn.functional.cross_entropy(logits.float(), targets, label_smoothing=smoothing)

    def evaluate(self, alive: Callable[[], None]) -> dict[str, float]:
        """Metrics on the validation split; ``alive`` is called after each batch."""
        self._newest = self._examine(self._validation, alive)
        return self._newest.metrics

    def rehearse(self) -> dict[str, float]:
        """Metrics on one batch of the validation split."""
        rows = self._validation
        longest = sorted_batches(rows.lengths(self.max_length), self._evaluation_batch_size)[-1]
        ids = [rows.tokens(int(i), self.max_length) for i in longest]
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in ids])])
        few = TokenRows(ids=np.concatenate(ids), offsets=offsets, labels=rows.labels[longest], suffix=rows.suffix)
        return self._examine(few).metrics

    def show(self, folder: Path) -> None:
        """Write the confusion matrix and the scores of each class."""
        if self._newest is not None:
            write_confusion(folder, self._newest.confusion, self._prepared.labels)

    def _logits(self, rows: TokenRows, batch: Indices) -> torch.Tensor:
        return logits_of(self.model, rows, batch, self.max_length, self._prepared.pad_id, self._device)

    def _examine(self, rows: TokenRows, alive: Callable[[], None] | None = None) -> Examination:
        return examine(
            self.model,
            rows,
            classes=len(self._prepared.labels),
            max_length=self.max_length,
            batch_size=self._evaluation_batch_size,
            pad_id=self._prepared.pad_id,
            device=self._device,
            alive=alive,
        )


class TextClassification:
    """The objective; see :class:`sweep.ports.Objective` and :class:`sweep.ports.PredictingObjective`.

    Attributes:
        progress: Told of progress while training, at most twice a second.
        leaving: Asked between steps, and between the batches of an evaluation, whether to end.
    """

    def __init__(self) -> None:
        self.progress: Progress | None = None
        self.leaving: Callable[[], bool] | None = None

    def prepare(self, settings: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
        """Split and tokenise the data once, and check that the model can be configured as the space asks."""
        training, space = settings["training"], settings["space"]
        reference, trust = str(settings["model"]), bool(settings.get("trust_remote_code"))
        training = {**training, "trust_remote_code": trust}
        config = load_config(reference, verify=True, trust_remote_code=trust)
        tokenizer = load_tokenizer(reference, trust_remote_code=trust)
        max_length = int(_largest("max_length", training, space))
        limit = longest_input(config, tokenizer)
        if limit is not None and max_length > limit:
            raise ModelError(
                f"max_length: {max_length} is above the {limit} tokens that {reference!r} can take. Lower it."
            )
        if max_length <= tokenizer.num_special_tokens_to_add():
            raise UserError(f"max_length: {max_length} leaves no room for a token of text. Raise it to 16 or more.")
        # Before anything is written, with any two classes: what cannot be configured leaves nothing behind.
        _largest_checkpoint(reference, ("0", "1"), tokenizer.pad_token_id, training, space)
        prepared, fresh = prepare_data(settings["data"], tokenizer, max_length, folder)
        meta = prepared.meta
        drawn = _largest("train_rows", training, space)
        warnings = list(meta["warnings"])
        if drawn is not None and drawn > meta["rows"]["train"]:
            warnings.append(f"train_rows {drawn} is more than the {meta['rows']['train']} there are; all are used.")
        return {
            "folder": str(prepared.folder),
            "data_hash": meta["data_hash"],
            "data_name": meta["data_name"],
            "test_hash": prepared.rows_hash("test"),
            "rows": dict(meta["rows"]),
            "labels": prepared.labels,
            "classes": meta["classes"],
            "lengths": meta["lengths"],
            "training_rows": min(drawn or meta["rows"]["train"], meta["rows"]["train"]),
            "checkpoint_bytes": _largest_checkpoint(reference, prepared.labels, prepared.pad_id, training, space),
            "warnings": warnings,
            "reused": not fresh,
        }

    def check(self, request: TrainRequest) -> Mapping[str, Any]:
        """Run two real batches through training and one through evaluation; writes nothing."""
        request, warnings = _as_possible_here(request)
        course, loop, plan, device = self._begin(request)
        seconds = 0.0
        try:
            for step in (1, 2):
                begun = time.perf_counter()
                loop.advance(min(step, plan.total_steps))
                seconds = time.perf_counter() - begun
        except DivergedError as err:
            raise UserError(f"objective.training: trial 0, the defaults, diverges at once: {err}") from err
        metrics = course.rehearse()
        names = [
            *metrics,
            "train_loss",
            "learning_rate",
            "epoch",
            "examples_per_second",
            *system_metrics(device),
        ]
        check_metric(request.metric.name, names)
        parameters = list(course.model.parameters())
        return {
            "metrics": names,
            "step_seconds": seconds,
            "total_steps": plan.total_steps,
            "parameters": sum(p.numel() for p in parameters),
            "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
            "checkpoint_bytes": checkpoint_bytes(course.model),
            "warnings": warnings,
        }

    def train(self, request: TrainRequest) -> Iterator[Report]:
        """Train, yielding a report at each evaluation."""
        course, loop, plan, device = self._begin(request)
        yield from Session(request, course, loop, plan, device).reports()

    def evaluate(self, model: Path, prepared: Path, split: str, settings: Mapping[str, Any]) -> Mapping[str, float]:
        """Metrics of a saved model on a split, in fp32 on the CPU."""
        return self._answers(model, PreparedData.open(prepared), split, settings).metrics

    def predict(self, model: Path, prepared: Path, split: str, settings: Mapping[str, Any]) -> Columns:
        """The answers that ``evaluate`` counts; see :class:`sweep.ports.PredictingObjective`."""
        data = PreparedData.open(prepared)
        answers = self._answers(model, data, split, settings)
        truth = np.asarray(data.rows(split).labels)
        return {
            "row": list(range(len(truth))),
            "text": [shortened(text) for text in data.texts(split)],
            "label": [data.labels[i] for i in truth],
            "prediction": [data.labels[i] for i in answers.predicted],
            "probability": answers.probability.tolist(),
            "score": (answers.predicted == truth).astype(float).tolist(),
            "loss": answers.losses.tolist(),
            "label_id": truth.tolist(),
            "prediction_id": answers.predicted.tolist(),
        }

    def one_by_one(
        self, model: Path, prepared: Path, settings: Mapping[str, Any]
    ) -> tuple[Callable[[int], object], int]:
        """One tokenised text after another; see :class:`sweep.ports.TimedObjective`."""
        device = choose_device(1, 0.0)
        data = PreparedData.open(prepared)
        classifier = _own_model(model, data, settings).eval()
        rows, longest = data.rows("validation"), min(int(settings["max_length"]), int(data.meta["max_length"]))

        def answer(row: int) -> torch.Tensor:
            with torch.inference_mode():
                return logits_of(classifier, rows, np.array([row]), longest, data.pad_id, device)

        return answer, len(rows)

    def metrics(self, rows: Mapping[str, Any]) -> Mapping[str, float]:
        """Accuracy, macro F1, MCC and loss of any choice of rows."""
        truth, predicted = np.asarray(rows["label_id"]), np.asarray(rows["prediction_id"])
        classes = 1 + int(max(truth.max(), predicted.max()))
        return scores(confusion_matrix(truth, predicted, classes)) | {"loss": float(np.mean(rows["loss"]))}

    def _answers(self, model: Path, data: PreparedData, split: str, settings: Mapping[str, Any]) -> Examination:
        classifier = _own_model(model, data, settings)
        return examine(
            classifier,
            data.rows(split),
            classes=len(data.labels),
            max_length=min(int(settings["max_length"]), int(data.meta["max_length"])),
            batch_size=int(settings["evaluation_batch_size"]),
            pad_id=data.pad_id,
            device=torch.device("cpu"),
        )

    def serving(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """How a registry serves a trained model; see :class:`sweep.ports.Deployable`."""
        return text_classifier_offer(settings)

    def to_onnx(self, model: Path, prepared: Path, file: Path, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Write a saved model as ONNX, compared on validation rows; see :class:`sweep.ports.Deployable`."""
        data = PreparedData.open(prepared)
        longest = min(int(settings["max_length"]), int(data.meta["max_length"]))
        classifier = _own_model(model, data, settings)
        return write_onnx(classifier, data.rows("validation"), file, max_length=longest, pad_id=data.pad_id)

    def _begin(self, request: TrainRequest) -> tuple[Classification, Loop, Plan, torch.device]:
        settings, seed = request.settings, request.assignment.seed
        device = choose_device(request.cpus, request.gpus)
        precision = choose_precision(str(settings["precision"]), device)
        prepared = PreparedData.open(Path(request.prepared))
        torch.manual_seed(seed)
        if request.assignment.start_from is None:
            model = load_classifier(request.model, prepared.labels, prepared.pad_id, settings)
        else:
            # Its configuration has layers and dropout as the trial set them.
            folder = str(model_folder(Path(request.assignment.start_from)))
            trust = {"trust_remote_code": bool(settings.get("trust_remote_code"))}
            model = load_classifier(folder, prepared.labels, prepared.pad_id, trust, trained=True)
            freeze(model, settings["freeze"] or ())
        split = request.micro_batch_split
        course = Classification(model.to(device), prepared, settings, seed, device, split)
        plan = plan_run(
            batches_per_epoch=course.batches_per_epoch,
            accumulation=int(settings["accumulation"]),
            epochs=settings["epochs"],
            steps=settings["steps"],
            unit=request.fidelity_unit,
            evaluate_at=request.evaluate_at,
        )
        loop = Loop(course, settings, plan, precision, self.progress, self.leaving, split)
        return course, loop, plan, device


def _own_model(model: Path, data: PreparedData, settings: Mapping[str, Any]) -> torch.nn.Module:
    """A trial's saved model, in fp32 on the CPU.

    Raises:
        ModelError: If its classes are not the data's.
    """
    trust = {"trust_remote_code": bool(settings.get("trust_remote_code"))}
    found = load_config(str(model), **trust)
    names = [found.id2label.get(i) for i in range(len(found.id2label))]
    if names != data.labels:
        raise ModelError(f"{model}: its classes {names} are not the data's {data.labels}. Evaluate on its own data.")
    return load_classifier(str(model), data.labels, data.pad_id, trust, trained=True)


def _as_possible_here(request: TrainRequest) -> tuple[TrainRequest, list[str]]:
    """A request to check on this host, which may lack the GPUs that the trials' hosts have; and what to say then."""
    if request.gpus == 0 or has_gpu():
        return request, []
    precision = request.settings["precision"]
    warning = (
        f"trials get a GPU (resources.gpus_per_trial={request.gpus:g}), but this host has none: checked on the CPU in "
        f"fp32; precision={precision} and the GPU's memory are tried by the first trial alone."
    )
    return replace(request, gpus=0.0, settings={**request.settings, "precision": "fp32"}), [warning]


def _largest_checkpoint(
    reference: str, labels: Sequence[str], pad_id: int, training: Mapping[str, Any], space: Mapping[str, Any]
) -> int:
    """Bytes of the largest checkpoint that any trial writes; each choice of layers and dropout is configured."""
    sizes = []
    for layers in _values("keep_layers", training, space):
        for dropout in _values("dropout", training, space):
            for parts in _values("freeze", training, space):
                shape = {**training, "keep_layers": layers, "dropout": dropout, "freeze": parts}
                config = load_config(reference, trust_remote_code=bool(training["trust_remote_code"]))
                own = classifier_config(config, labels, pad_id, shape)
                sizes.append(checkpoint_bytes(outline(own, shape)))
    return max(sizes)


def _largest(name: str, training: Mapping[str, Any], space: Mapping[str, Any]) -> Any:
    """Largest value that a setting takes in any trial; None, which means all, is the largest."""
    found = [training[name]]
    if name in space:
        found += space[name]["choices"] if "choices" in space[name] else [space[name]["high"]]
    return None if None in found else max(found)


def _values(name: str, training: Mapping[str, Any], space: Mapping[str, Any]) -> list[Any]:
    """The values of a setting that are worth trying: its default, and its choices or upper end."""
    if name not in space:
        return [training[name]]
    return [training[name], *(space[name]["choices"] if "choices" in space[name] else [space[name]["high"]])]


OBJECTIVE = TextClassification
