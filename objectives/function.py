"""A plain function as an objective: it gets hyperparameters, and reports."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import inspect
import math
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sweep.checkpoints import STATE_PREFIX, committing, intact, model_folder, read_manifest, step_folder
from sweep.domain import Report, TrainRequest
from sweep.errors import UserError
from sweep.ports import DivergedError, LeftEarly

_MODEL = "model"
_PARAMETERS = ("hyperparameters", "report", "checkpoint")


class Stopped(BaseException):
    """Raised by ``report`` where a training is to end; no ``except Exception`` keeps it."""


def is_training(found: object) -> bool:
    """Whether something is a function ``train(hyperparameters, report)``, perhaps with a ``checkpoint``."""
    if not inspect.isfunction(found):
        return False
    names = list(inspect.signature(found).parameters)
    return names[:2] == list(_PARAMETERS[:2]) and set(names) <= set(_PARAMETERS)


class FunctionObjective:
    """Runs ``train(hyperparameters, report)``, or ``train(hyperparameters, report, checkpoint)``, as a trial.

    ``hyperparameters`` are the trial's settings, what the search has drawn among them, and its ``seed``.
    ``report(step, metrics)`` is an evaluation; ``step`` counts in the spec's unit (epochs, unless it gives ``steps``),
    from 1, and rises. It returns if the trial goes on, and does not where it is to end. ``checkpoint`` is a folder:
    what the function has left there by a report is committed with it, and is there again when the trial goes on; its
    sub-folder ``model``, if there is one, is the trial's model. Without that parameter nothing can be kept, and
    every attempt begins anew.

    Attributes:
        progress: Told of each report.
        leaving: Asked at each report whether to end.
    """

    def __init__(self, train: Callable[..., object]) -> None:
        self.progress: Callable[[int, int, float | None], None] | None = None
        self.leaving: Callable[[], bool] | None = None
        self._train = train
        self._keeps = "checkpoint" in inspect.signature(train).parameters

    def prepare(self, settings: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
        """There is nothing to prepare: a function reads its own data."""
        digest = hashlib.sha256(inspect.getsource(self._train).encode()).hexdigest()
        target = folder / f"function-{digest[:16]}"
        if not intact(target):
            with committing(target, {"function": self._train.__qualname__}):
                pass
        return {
            "folder": str(target),
            "data_hash": digest,
            "data_name": f"read by {self._train.__qualname__}",
            "rows": {"train": 0},
            "labels": [],
            "training_rows": 0,
            "checkpoint_bytes": 0,
            "warnings": []
            if self._keeps
            else ["the function takes no `checkpoint`: a trial that is interrupted or paused begins anew."],
        }

    def check(self, request: TrainRequest) -> Mapping[str, Any]:
        """Run the function until its first report; what it writes besides is its own.

        Raises:
            UserError: If it never reports, or not the study's metric.
        """
        begun = time.perf_counter()
        with _Running(self._train, request, self._keeps) as running:
            first = running.next()
        if first is None:
            raise UserError(f"task: {self._train.__qualname__} ended without a report. Call report(step, metrics).")
        step, metrics = first
        name = request.metric.name
        if name not in metrics:
            near = difflib.get_close_matches(name, metrics, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise UserError(f"metric.name: {name!r} is not reported.{hint} Use one of {', '.join(sorted(metrics))}.")
        seconds = (time.perf_counter() - begun) / step
        return {"metrics": list(metrics), "step_seconds": seconds, "parameters": 0}

    def train(self, request: TrainRequest) -> Iterator[Report]:
        """Run the function, yielding what it reports.

        Raises:
            DivergedError: If a metric is NaN or infinite.
            LeftEarly: If it was told to leave, at a report.
        """
        history, before, begun = _history(request), 0.0, time.perf_counter()
        if history:
            before = history[-1].wall_seconds
            yield history[-1]
        until, full = request.assignment.until_step, float(request.settings[request.fidelity_unit])
        with _Running(self._train, request, self._keeps) as running:
            while until is None or not history or history[-1].step < until:
                if history and self.leaving is not None and self.leaving():
                    raise LeftEarly(f"left at step {history[-1].step}")
                found = running.next()
                if found is None:
                    break
                step, metrics = found
                if history and step <= history[-1].step:
                    continue  # told again by a function that began anew
                history = [*history, self._report(request, step, metrics, before + time.perf_counter() - begun)]
                if self._keeps:
                    history[-1] = _committed(request, history, running.folder)
                if self.progress is not None:
                    self.progress(step, math.ceil(full), None)
                yield history[-1]
        if not history:
            raise UserError(f"task: {self._train.__qualname__} ended without a report. Call report(step, metrics).")

    def evaluate(self, model: Path, prepared: Path, split: str, settings: Mapping[str, Any]) -> Mapping[str, float]:
        """A function cannot evaluate a model later.

        Raises:
            UserError: Always.
        """
        raise UserError(
            f"task: {self._train.__qualname__} is a function, which cannot evaluate a saved model. Write a class with "
            "`evaluate` (sweep.ports.Objective)."
        )

    def _report(self, request: TrainRequest, step: int, metrics: Mapping[str, float], seconds: float) -> Report:
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise DivergedError(f"step {step}: {name} is {value}.")
        return Report(
            trial_number=request.assignment.trial_number,
            attempt=request.assignment.attempt,
            step=step,
            fidelity=float(step),
            metrics=dict(metrics),
            checkpoint=str(step_folder(Path(request.checkpoints), step)) if self._keeps else None,
            wall_seconds=seconds,
            reported_at=time.time(),
        )


class _Running:
    """A function that runs in a thread, one report at a time.

    Attributes:
        folder: Its checkpoint folder.
    """

    def __init__(self, train: Callable[..., object], request: TrainRequest, keeps: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sweep-function-"))
        self._reports: queue.Queue[tuple[int, dict[str, float]] | BaseException | None] = queue.Queue()
        self._turns: queue.Queue[bool] = queue.Queue()
        start = request.assignment.start_from
        if keeps and start is not None:
            shutil.copytree(Path(start) / STATE_PREFIX, self.folder, dirs_exist_ok=True)
            if model_folder(Path(start)).is_dir():
                shutil.copytree(model_folder(Path(start)), self.folder / _MODEL)
        arguments: dict[str, Any] = {"checkpoint": self.folder} if keeps else {}
        hyperparameters = {**request.settings, "seed": request.assignment.seed}
        self._thread = threading.Thread(target=self._run, args=(train, hyperparameters, arguments), daemon=True)

    def __enter__(self) -> _Running:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._turns.put(False)
        self._thread.join()
        shutil.rmtree(self.folder, ignore_errors=True)

    def next(self) -> tuple[int, dict[str, float]] | None:
        """The next report; None if the function has returned. Raises what it raised."""
        self._turns.put(True)
        found = self._reports.get()
        if isinstance(found, BaseException):
            raise found
        return found

    def _run(self, train: Callable[..., object], hyperparameters: dict[str, Any], arguments: dict[str, Any]) -> None:
        try:
            self._wait()
            train(hyperparameters, self._report, **arguments)
            self._reports.put(None)
        except Stopped:
            pass
        except BaseException as err:  # noqa: BLE001  # raised again where the reports are taken
            self._reports.put(err)

    def _report(self, step: int, metrics: Mapping[str, float]) -> None:
        self._reports.put((int(step), {str(name): float(value) for name, value in metrics.items()}))
        self._wait()

    def _wait(self) -> None:
        if not self._turns.get():
            self._turns.put(False)  # whoever catches it and reports again is stopped again
            raise Stopped


def _history(request: TrainRequest) -> list[Report]:
    """Reports up to the checkpoint that the attempt begins at, as its own."""
    start = request.assignment.start_from
    entries = read_manifest(Path(start)).meta["history"] if start is not None else ()
    return [_own(Report(**entry), request) for entry in entries]


def _own(report: Report, request: TrainRequest) -> Report:
    folder = str(step_folder(Path(request.checkpoints), report.step))
    return dataclasses.replace(report, attempt=request.assignment.attempt, checkpoint=folder)


def _committed(request: TrainRequest, history: list[Report], work: Path) -> Report:
    """Commit what the function left; a step that an earlier attempt committed stands, and so does its report's time."""
    target = step_folder(Path(request.checkpoints), history[-1].step)
    meta = {"step": history[-1].step, "history": [dataclasses.asdict(report) for report in history]}
    with committing(target, meta) as folder:
        shutil.copytree(work, folder / STATE_PREFIX, ignore=lambda at, names: {_MODEL} if Path(at) == work else set())
        if (work / _MODEL).is_dir():
            shutil.copytree(work / _MODEL, model_folder(folder))
    return _own(Report(**read_manifest(target, verify=False).meta["history"][-1]), request)
