"""Fine-tuning as an objective, whatever the task."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from objectives.data.augmentation import SETTINGS
from objectives.data.preparation import PreparedData, prepare_data
from objectives.finetune.adapted import check_base, load_adapted, write_merged
from objectives.finetune.adapters import add_adapters, base_below, load_adapter
from objectives.finetune.course import TaskCourse
from objectives.finetune.device import choose_device, has_gpu, system_metrics
from objectives.finetune.dropout import KINDS
from objectives.finetune.folded import FoldedSession
from objectives.finetune.following import obey
from objectives.finetune.loop import Loop, Progress
from objectives.finetune.memory import checkpoint_gradients
from objectives.finetune.models import Head, configured, load_config, load_model, longest_input, outline
from objectives.finetune.peers import Alone, Order, Peers
from objectives.finetune.precision import choose_precision
from objectives.finetune.quantized import NONE, bytes_of, require_library, values_of
from objectives.finetune.range_test import rate_at, run_range_test
from objectives.finetune.regularisation import freeze
from objectives.finetune.report import Studied
from objectives.finetune.schedule import Plan, plan_run
from objectives.finetune.scratch import fit_vocabulary, is_random
from objectives.finetune.session import Session, check_metric
from objectives.finetune.state import checkpoint_bytes, restore_state
from objectives.finetune.task import Examined, Frame, Task
from sweep.checkpoints import model_folder
from sweep.checkpoints.adapted import base_of
from sweep.domain import Report, TrainRequest
from sweep.errors import ModelError, UserError
from sweep.ports import Columns, DivergedError
from sweep.teams import Team

_ANY_CLASSES: Mapping[str, Any] = {"labels": ["0", "1"], "pad_id": 0, "vocabulary": 2}


class FineTuning:
    """The objective of a task; see :class:`sweep.ports.Objective` and :class:`sweep.ports.PredictingObjective`.

    Args:
        task: What is trained.

    Attributes:
        progress: Told of progress while training, at most twice a second.
        leaving: Asked between steps, and between the batches of an evaluation, whether to end.
        team: Which process of a trial on several devices this is; see :class:`sweep.teams.TeamObjective`.
    """

    def __init__(self, task: Task) -> None:
        self.progress: Progress | None = None
        self.leaving: Callable[[], bool] | None = None
        self.team: Team | None = None
        self._task = task

    def prepare(self, settings: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
        """Split and encode the data once, and check that the model can be configured as the space asks."""
        training, space = settings["training"], settings["space"]
        reference, trust = str(settings["model"]), bool(settings.get("trust_remote_code"))
        training = {**training, "trust_remote_code": trust}
        config = load_config(reference, verify=True, trust_remote_code=trust)
        if is_random(reference) and set(_values("method", training, space)) != {"full"}:
            raise UserError(
                f"method: adapters would leave the random weights of {reference!r} as they are. Set it to full."
            )
        with_adapters = set(_values("method", training, space)) != {"full"}
        if with_adapters and set(_values("quantization", training, space)) != {NONE}:
            require_library()
        data = settings["data"]
        tokenizer = self._task.reader(reference, config, data, trust_remote_code=trust)
        max_length = int(_largest("max_length", training, space))
        limit = longest_input(config, tokenizer)
        if limit is not None and max_length > limit:
            raise ModelError(
                f"max_length: {max_length} is above the {limit} tokens that {reference!r} can take. Lower it."
            )
        if max_length <= tokenizer.num_special_tokens_to_add():
            raise UserError(f"max_length: {max_length} leaves no room for a token of text. Raise it to 16 or more.")
        for name in SETTINGS:
            # What a row says of each of its tokens, such as which of two texts it is of, does not follow them.
            alters = self._task.augments and not settings["data"].get("text_pair")
            if not alters and _largest(name, training, space):
                raise UserError(f"{name}: the rows of this task cannot be altered without their answers. Leave it 0.")
        # Before anything is written, with any two classes: what cannot be configured leaves nothing behind.
        guess = {**_ANY_CLASSES, "pad_id": tokenizer.pad_token_id, "vocabulary": len(tokenizer)}
        _largest_checkpoint(reference, self._head(reference, guess), training, space)
        prepared, fresh = prepare_data(data, tokenizer, max_length, folder, self._task)
        meta = prepared.meta
        head = self._head(reference, meta)
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
            **({"folds": meta["folds"]} if prepared.folds else {}),
            "training_rows": min(drawn or meta["rows"]["train"], meta["rows"]["train"]),
            "checkpoint_bytes": _largest_checkpoint(reference, head, training, space),
            **({"merged_bytes": _largest_model(reference, head, training, space)} if with_adapters else {}),
            "warnings": warnings,
            "reused": not fresh,
        }

    def check(self, request: TrainRequest) -> Mapping[str, Any]:
        """Run two real batches through training and one through evaluation, and report on the data; writes nothing."""
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
        metrics, base = course.rehearse(), base_below(course.model)
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
        searched = frozenset(request.assignment.hyperparameters)
        frame = self._frame(Path(request.prepared), request.settings)
        report = self._task.report(Studied(frame=frame, config=course.model.config, searched=searched))
        return {
            "metrics": names,
            "step_seconds": seconds / request.devices,
            "total_steps": plan.total_steps,
            "parameters": sum(map(values_of, parameters)),
            "parameter_bytes": sum(map(bytes_of, parameters)),
            "trainable_parameters": sum(p.numel() for p in parameters if p.requires_grad),
            "checkpoint_bytes": checkpoint_bytes(course.model, str(request.settings["optimizer"])),
            **({"adapter_base": asdict(base)} if base else {}),
            "report": report.as_json(),
            "warnings": [*warnings, *report.warnings],
        }

    def find_learning_rate(self, request: TrainRequest) -> Mapping[str, Any]:
        """Run a range test of the learning rate; see :class:`sweep.ports.RateFinding`."""
        request, warnings = _as_possible_here(request)
        _, loop, _, _ = self._begin(request, rate_at)
        return {**run_range_test(loop).as_json(), "warnings": warnings}

    def train(self, request: TrainRequest) -> Iterator[Report]:
        """Train, yielding a report at each evaluation."""
        if folds := PreparedData.open(Path(request.prepared)).folds:
            yield from FoldedSession(request, self._begin_part, folds).reports()
            return
        course, loop, plan, device = self._begin(request)
        try:
            yield from Session(request, course, loop, plan, device).reports()
        finally:
            loop.peers.order(Order.END)

    def follow(self, request: TrainRequest) -> None:
        """Train as another rank than 0; see :class:`sweep.teams.TeamObjective`."""
        course, loop, _, _ = self._begin(request)
        if request.assignment.start_from is not None:
            restore_state(Path(request.assignment.start_from), loop, course.model)
        if isinstance(loop.peers, Peers):
            obey(loop.peers, course, loop)

    def evaluate(self, model: Path, prepared: Path, split: str, settings: Mapping[str, Any]) -> Mapping[str, float]:
        """Metrics of a saved model on a split, in fp32 on the CPU."""
        return self._examined(model, self._frame(prepared, settings), split).metrics

    def predict(self, model: Path, prepared: Path, split: str, settings: Mapping[str, Any]) -> Columns:
        """The answers that ``evaluate`` counts; see :class:`sweep.ports.PredictingObjective`."""
        frame = self._frame(prepared, settings)
        return self._examined(model, frame, split).answers(frame.data.records(split))

    def one_by_one(
        self, model: Path, prepared: Path, settings: Mapping[str, Any]
    ) -> tuple[Callable[[int], object], int]:
        """One encoded row after another; see :class:`sweep.ports.TimedObjective`."""
        frame = self._frame(prepared, settings, choose_device(1, 0.0))
        own = self._own_model(model, frame).eval()
        rows = self._task.examples(frame.data.rows(_probed(frame.data)), frame)
        return lambda row: self._task.answer(own, rows, row, frame), len(rows)

    def metrics(self, rows: Mapping[str, Any]) -> Mapping[str, float]:
        """The task's metrics of any choice of rows."""
        return self._task.metrics(rows)

    def serving(self, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """How a registry serves a trained model; see :class:`sweep.ports.Deployable`."""
        return self._task.serving(settings)

    def to_onnx(self, model: Path, prepared: Path, file: Path, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """Write a saved model as ONNX, compared on validation rows; see :class:`sweep.ports.Deployable`."""
        frame = self._frame(prepared, settings)
        own = self._own_model(model, frame)
        return self._task.to_onnx(own, frame.data.rows(_probed(frame.data)), file, frame)

    def merge(self, model: Path, to: Path, settings: Mapping[str, Any]) -> None:
        """Write the plain model of a saved adapter; see :class:`sweep.ports.Merging`."""
        trust = bool(settings.get("trust_remote_code"))
        write_merged(model, to, self._task.head(_ANY_CLASSES), trust_remote_code=trust)

    def _head(self, reference: str, known: Mapping[str, Any]) -> Head:
        head = self._task.head(known)
        if not is_random(reference):
            return head

        def configure(config: Any) -> None:
            fit_vocabulary(config, known)
            head.configure(config)

        return replace(head, configure=configure)

    def _examined(self, model: Path, frame: Frame, split: str) -> Examined:
        rows = self._task.examples(frame.data.rows(split), frame)
        return self._task.examine(self._own_model(model, frame), rows, frame)

    def _frame(
        self,
        prepared: Path,
        settings: Mapping[str, Any],
        device: torch.device = torch.device("cpu"),  # noqa: B008
        split: int = 1,
        seed: int = 0,
    ) -> Frame:
        data = PreparedData.open(prepared)
        return Frame(
            data=data,
            settings=settings,
            max_length=min(int(settings["max_length"]), int(data.meta["max_length"])),
            # In parts, so that an evaluation fits into memory too.
            batch_size=math.ceil(int(settings["evaluation_batch_size"]) / split),
            device=device,
            seed=seed,
        )

    def _own_model(self, model: Path, frame: Frame) -> torch.nn.Module:
        """A trial's saved model, in fp32 on the CPU.

        Raises:
            ModelError: If its classes are not the data's.
        """
        trust = {"trust_remote_code": bool(frame.settings.get("trust_remote_code"))}
        labels = frame.data.labels
        if labels:
            found = load_config(str(model), **trust)
            names = [found.id2label.get(i) for i in range(len(found.id2label))]
            if names != labels:
                raise ModelError(f"{model}: its classes {names} are not the data's {labels}. Evaluate on its own data.")
        head = self._task.head(frame.data.meta)
        if base_of(model) is not None:
            return load_adapted(model, head, **trust)
        return load_model(str(model), head, trust, trained=True)

    def _peers(self, request: TrainRequest, model: Any, device: torch.device) -> Alone | Peers:
        """The processes that train together; waits for them."""
        if request.strategy == "ddp":
            return Alone(device) if self.team is None else Peers(self.team, device)
        from objectives.finetune.sharding import Sharded, refuse_what_cannot_be_sharded  # takes a second

        refuse_what_cannot_be_sharded(model)
        return Alone(device) if self.team is None else Sharded(self.team, device)

    def _begin_part(self, request: TrainRequest, part: int) -> tuple[TaskCourse, Loop, Plan, torch.device]:
        return self._begin(request, part=part)

    def _begin(
        self, request: TrainRequest, rate: Callable[[int], float] | None = None, part: int = 0
    ) -> tuple[TaskCourse, Loop, Plan, torch.device]:
        """Begin a training; of data in folds, that of a part: a fold, or all rows (see :class:`PreparedData`)."""
        settings, seed = request.settings, request.assignment.seed
        device = choose_device(request.cpus, request.gpus, None if self.team is None else self.team.rank)
        precision = choose_precision(str(settings["precision"]), device)
        frame = self._frame(Path(request.prepared), settings, device, request.micro_batch_split, seed)
        progress = self.progress
        if folds := frame.data.folds:
            frame = replace(frame, data=replace(frame.data, fold=part))
            progress = _progress_of_part(progress, part, folds + 1)
        head = self._task.head(frame.data.meta)
        torch.manual_seed(seed)
        begins, has_adapters = request.assignment.start_from, settings["method"] != "full"
        if begins is None or has_adapters:
            model = load_model(request.model, self._head(request.model, frame.data.meta), settings)
        else:
            # Its configuration has layers and dropout as the trial set them.
            trust = {"trust_remote_code": bool(settings.get("trust_remote_code"))}
            model = load_model(str(model_folder(Path(begins))), head, trust, trained=True)
            freeze(model, settings["freeze"] or ())
        add_adapters(model, settings, request.model)
        if begins is not None and has_adapters:
            check_base(model_folder(Path(begins)), base_below(model))
            load_adapter(model_folder(Path(begins)), model)
        if settings["gradient_checkpointing"]:
            checkpoint_gradients(model)
        peers = self._peers(request, model, device)
        peers.share(model)
        course = TaskCourse(self._task, model, frame, seed)
        plan = plan_run(
            batches_per_epoch=course.batches_per_epoch,
            accumulation=int(settings["accumulation"]),
            epochs=settings["epochs"],
            steps=settings["steps"],
            # A fold is evaluated at its end.
            unit="epochs" if request.fidelity_unit == "folds" else request.fidelity_unit,
            evaluate_at=() if request.fidelity_unit == "folds" else request.evaluate_at,
        )
        split = request.micro_batch_split
        loop = Loop(course, settings, plan, precision, progress, self.leaving, split, rate, peers)
        return course, loop, plan, device


def _probed(data: PreparedData) -> str:
    """Split whose rows show how a model computes: those of validation, or of training where these are in folds."""
    return "train" if data.folds else "validation"


def _progress_of_part(progress: Progress | None, part: int, parts: int) -> Progress | None:
    """Progress of a part as that of the whole, as if all parts had the same steps."""
    if progress is None:
        return None
    return lambda step, total, loss: progress(part * total + step, parts * total, loss)


def _as_possible_here(request: TrainRequest) -> tuple[TrainRequest, list[str]]:
    """A request to check in one process on this host, which may lack the trials' GPUs; and what to say then."""
    # What the devices of a trial share is computed in turn, so that it fits into memory as it will there.
    request = replace(request, micro_batch_split=request.micro_batch_split * request.devices)
    if request.gpus == 0 or (has_gpu() and request.strategy == "ddp"):
        return request, []
    lacking = "this host has none" if not has_gpu() else "a model that is spread over several may not fit onto one"
    precision = request.settings["precision"]
    warning = (
        f"trials get a GPU (resources.gpus_per_trial={request.gpus * request.devices:g}), but {lacking}: checked on "
        f"the CPU in fp32; precision={precision} and the GPU's memory are tried by the first trial alone."
    )
    return replace(request, gpus=0.0, settings={**request.settings, "precision": "fp32"}), [warning]


def _largest_checkpoint(reference: str, head: Head, training: Mapping[str, Any], space: Mapping[str, Any]) -> int:
    """Bytes of the largest checkpoint that any trial writes; each choice of layers and dropout is configured."""

    def config() -> Any:
        return load_config(reference, trust_remote_code=bool(training["trust_remote_code"]))

    for kind in KINDS:
        for dropout in _values(kind, training, space):
            configured(config(), head, {kind: dropout})
    sizes = []
    for layers in _values("keep_layers", training, space):
        for parts in _values("freeze", training, space):
            shape = {**training, "keep_layers": layers, "freeze": parts}
            for adapters in _adapters(training, space):
                model = outline(configured(config(), head, shape), head, shape)
                add_adapters(model, adapters)
                sizes += [checkpoint_bytes(model, name) for name in _values("optimizer", training, space)]
    return max(sizes)


def _largest_model(reference: str, head: Head, training: Mapping[str, Any], space: Mapping[str, Any]) -> int:
    """Bytes of the largest plain model that a trial's adapter and its base make together."""
    sizes = []
    for layers in _values("keep_layers", training, space):
        shape = {**training, "keep_layers": layers}
        config = load_config(reference, trust_remote_code=bool(training["trust_remote_code"]))
        model = outline(configured(config, head, shape), head, shape)
        sizes.append(sum(4 * p.numel() for p in model.parameters()))
    return max(sizes)


def _adapters(training: Mapping[str, Any], space: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The settings of adapters that are worth trying: the largest rank of each method and choice of targets."""
    rank = _largest("lora_rank", training, space)
    return [
        {**training, "method": method, "lora_targets": targets, "lora_rank": rank}
        for method in dict.fromkeys(_values("method", training, space))
        for targets in dict.fromkeys(_values("lora_targets", training, space))
        if method != "full" or targets == training["lora_targets"]
    ]


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
