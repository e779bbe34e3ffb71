"""The one place that builds adapters from a spec and runs a study with them."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sweep.checkpoints import FolderKeeper, intact
from sweep.clock import SystemClock
from sweep.domain import Assignment, TrainRequest, Trial, trial_seed
from sweep.engine.control import StopRequest, StopSignals
from sweep.engine.lock import driver_lock
from sweep.engine.loop import LoopResult, StudyLoop
from sweep.engine.view import Observer
from sweep.environment import describe_environment
from sweep.errors import InvalidDataError, InvalidSpecError, StudyExistsError, SweepError
from sweep.execution.jobs import run_job
from sweep.execution.ray_workers import RayExecutor
from sweep.execution.warm_client import WarmParent
from sweep.finale import Finale
from sweep.layout import StudyLayout
from sweep.ports import Executor, StudyBegun
from sweep.search import OptunaStore
from sweep.spec import spec_from_resolved, spec_text
from sweep.spec.model import StudySpec
from sweep.spec.source import BoundedLoader
from sweep.storages import remember
from sweep.tracking import SpoolRecorder, resolve_model

JOB_TIMEOUT_SECONDS = 3600.0
"""Preparing a large data set takes long; a hung one must end all the same."""

CLOSE_TIMEOUT_SECONDS = 25.0
"""How long an ending driver waits for the tracker; what is left stays in the spool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyResult:
    """What a driver leaves behind.

    Attributes:
        undelivered: Records the tracker has not taken yet; ``sweep sync`` delivers them.
    """

    loop: LoopResult
    trials: list[Trial]
    data: Mapping[str, Any]
    undelivered: int


def read_spec(layout: StudyLayout, **changes: Mapping[str, Any]) -> StudySpec:
    """The resolved spec of a study on disk, with its storage where it lies now.

    Args:
        layout: The study's paths.
        changes: New values by section, e.g. ``budget={"trials": 24}``.

    Raises:
        InvalidSpecError: If a change is not allowed.
        SweepError: If it cannot be read.
    """
    try:
        data = yaml.load(layout.spec.read_text(encoding="utf-8"), BoundedLoader)
        changed = {section: {**data.get(section, {}), **values} for section, values in changes.items()}
        return spec_from_resolved({**data, **changed, "storage": str(layout.storage), "study": layout.study})
    except (OSError, yaml.YAMLError, TypeError, AttributeError, ValueError) as err:
        raise _unreadable(layout, err) from err
    except InvalidSpecError as err:
        if any(changes.values()):
            raise
        raise _unreadable(layout, err) from err


def _unreadable(layout: StudyLayout, err: Exception) -> SweepError:
    reason = " ".join(str(err).split())
    return SweepError(f"{layout.spec}: cannot be read ({reason}). Restore it from the parent run's artifacts.")


def read_facts(layout: StudyLayout, name: str) -> dict[str, Any]:
    """``data`` or ``environment`` of a study, as written when it began; empty if it has not."""
    try:
        facts: dict[str, Any] = json.loads((layout.folder / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts


def tracking_uri(spec: StudySpec) -> str:
    """Where the study's record goes."""
    return spec.tracking.uri or spec.layout.tracking_uri


@contextmanager
def warm_parent() -> Iterator[WarmParent]:
    """A parent that is importing the training libraries in the background."""
    parent = WarmParent()
    parent.start()
    try:
        yield parent
    finally:
        parent.close()


def objective_settings(spec: StudySpec) -> dict[str, Any]:
    """The objective's settings, its model reference resolved to what the objective can load."""
    settings = spec.objective_settings()
    if spec.objective.model.startswith("models:/"):
        settings["model"] = str(resolve_model(spec.objective.model, tracking_uri(spec)))
    return settings


def prepare(spec: StudySpec, parent: WarmParent, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Prepare the study's data, or find it prepared; returns the objective's summary and the model."""
    result: dict[str, Any] = run_job(
        parent,
        spec.objective.task,
        "prepare",
        {"settings": settings, "folder": spec.layout.prepared},
        timeout_seconds=JOB_TIMEOUT_SECONDS,
    )
    return {**result, "model": settings["model"]}


def request_maker(spec: StudySpec, data: Mapping[str, Any]) -> Callable[[Assignment], TrainRequest]:
    """How an assignment becomes what a worker needs."""
    layout, evaluate_at = spec.layout, spec.evaluate_at

    def make(assignment: Assignment) -> TrainRequest:
        return TrainRequest(
            assignment=assignment,
            prepared=str(data["folder"]),
            model=str(data["model"]),
            settings=spec.settings(assignment.hyperparameters),
            metric=spec.rule,
            evaluate_at=evaluate_at,
            fidelity_unit=spec.fidelity_unit,
            checkpoints=str(layout.checkpoints(assignment.trial_number)),
            artifacts=str(layout.artifacts(assignment.trial_number)),
            cpus=max(1, int(spec.resources.cpus_per_trial)),
            gpus=spec.resources.gpus_per_trial,
        )

    return make


def check(spec: StudySpec, parent: WarmParent, data: Mapping[str, Any]) -> dict[str, Any]:
    """One real batch of the default configuration through training and evaluation."""
    assignment = Assignment(
        trial_number=0, attempt=1, hyperparameters=spec.defaults(), seed=trial_seed(spec.search.seed, 0)
    )
    request = request_maker(spec, data)(assignment)
    result: dict[str, Any] = run_job(
        parent, spec.objective.task, "check", {"request": request}, timeout_seconds=JOB_TIMEOUT_SECONDS
    )
    return result


def start_executor(spec: StudySpec, parent: WarmParent) -> Executor:
    """Ray workers for a study; call it from the main thread."""
    resources = spec.resources
    return RayExecutor.open(
        spec.objective.task,
        parent=parent,
        workers=resources.workers,
        cpus_per_trial=resources.cpus_per_trial,
        gpus_per_trial=resources.gpus_per_trial,
        address=resources.address,
    )


def drive(spec: StudySpec, *, resuming: bool, observer: Observer, note: Callable[[str], None]) -> StudyResult:
    """Run a study to its budget, from the start or from where it stopped.

    Args:
        spec: The study.
        resuming: Whether it must exist already, or must not.
        observer: Watches the trials.
        note: Takes one line for each thing that takes a while.

    Raises:
        UserError: If the study cannot run as asked; nothing is written then.
        SweepError: If it breaks for another reason.
    """
    layout = spec.layout
    with ExitStack() as stack:
        if resuming:
            stack.enter_context(driver_lock(layout.lock, study=spec.study, now=SystemClock().now()))
        elif layout.spec.exists():
            raise already_exists(spec)
        note("starting workers, preparing data")
        # The parent closes before the pool does: that ends a job still running when something else fails.
        pool = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="prepare"))
        parent = stack.enter_context(warm_parent())
        # Ray must start in the main thread (the kernel ties its daemons to it), so the data is prepared beside it.
        preparing = pool.submit(_prepare_again if resuming else _prepare_and_check, spec, parent)
        executor = start_executor(spec, parent)
        stack.callback(executor.close)
        data = preparing.result()
        for warning in data.get("warnings", []):
            note(f"warning: {warning}")
        if not resuming:
            stack.enter_context(driver_lock(layout.lock, study=spec.study, now=SystemClock().now()))
            if layout.spec.exists():
                raise already_exists(spec)
        return _drive_prepared(spec, data, parent, executor, observer, note, resuming=resuming)


def already_exists(spec: StudySpec) -> StudyExistsError:
    """The error for a name that is taken."""
    return StudyExistsError(
        f"study {spec.study!r} already exists in {spec.storage}. Continue it with `sweep resume {spec.study}`, "
        f"or start another with `--set study={spec.study}-2`."
    )


def _prepare_and_check(spec: StudySpec, parent: WarmParent) -> dict[str, Any]:
    data = prepare(spec, parent, objective_settings(spec))
    check(spec, parent, data)
    return data


def _prepare_again(spec: StudySpec, parent: WarmParent) -> dict[str, Any]:
    """The data and the base model the study began with, whatever became of their sources since."""
    began = read_facts(spec.layout, "data")
    if not began:
        return _prepare_and_check(spec, parent)
    if intact(Path(began["folder"])):
        return began
    data = prepare(spec, parent, {**spec.objective_settings(), "model": began["model"]})
    if data["data_hash"] != began["data_hash"]:
        raise InvalidDataError(
            f"study {spec.study!r}: its data has changed since it began ({data['data_hash'][:12]} is not "
            f"{began['data_hash'][:12]}), and trials on other data cannot be compared. Restore the data, or start "
            f"another study with `--set study={spec.study}-2`."
        )
    return data


def _drive_prepared(
    spec: StudySpec,
    data: Mapping[str, Any],
    parent: WarmParent,
    executor: Executor,
    observer: Observer,
    note: Callable[[str], None],
    *,
    resuming: bool,
) -> StudyResult:
    layout, clock = spec.layout, SystemClock()
    environment = describe_environment()
    _write_facts(spec, data, environment)
    remember(layout.storage)
    signals = StopSignals(layout.control)
    signals.clear()
    with ExitStack() as stack:
        stack.enter_context(signals.listening())
        store = OptunaStore.open(spec) if resuming else OptunaStore.create(spec)
        stack.callback(store.close)
        recorder = SpoolRecorder(layout, tracking_uri(spec))
        recorder.record(
            StudyBegun(study=spec.study, spec=spec.resolved(), data=data, environment=environment, at=clock.now())
        )
        loop = StudyLoop(
            spec=spec,
            store=store,
            executor=executor,
            recorder=recorder,
            keeper=FolderKeeper(layout.checkpoints),
            clock=clock,
            observer=observer,
            request_for=request_maker(spec, data),
            log_of=layout.log,
            artifacts_of=layout.artifacts,
            stop_requested=signals.requested,
        )
        result = loop.run()
        # The workers are idle from here on: give their cores to the evaluation of the winner.
        closing = threading.Thread(target=executor.close)
        closing.start()
        finale = Finale(spec=spec, store=store, recorder=recorder, clock=clock, data=data, environment=environment)
        finale.run(result, evaluate=_evaluator(spec, parent, data), note=note)
        undelivered = recorder.close(0.0 if signals.requested() is StopRequest.NOW else CLOSE_TIMEOUT_SECONDS)
        closing.join()
        return StudyResult(loop=result, trials=list(store.trials()), data=data, undelivered=undelivered)


def _evaluator(
    spec: StudySpec, parent: WarmParent, data: Mapping[str, Any]
) -> Callable[[Path, Trial], Mapping[str, float]]:
    def evaluate(model: Path, trial: Trial) -> Mapping[str, float]:
        return evaluate_model(
            parent,
            task=spec.objective.task,
            model=model,
            prepared=str(data["folder"]),
            split="test",
            settings=spec.settings(trial.hyperparameters),
        )

    return evaluate


def evaluate_model(
    parent: WarmParent, *, task: str, model: Path, prepared: str, split: str, settings: Mapping[str, Any]
) -> Mapping[str, float]:
    """Metrics of a model folder on a split of prepared data, computed in a clean process."""
    result: Mapping[str, float] = run_job(
        parent,
        task,
        "evaluate",
        {"model": model, "prepared": Path(prepared), "split": split, "settings": settings},
        timeout_seconds=JOB_TIMEOUT_SECONDS,
    )
    return result


def _write_facts(spec: StudySpec, data: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
    layout = spec.layout
    layout.folder.mkdir(parents=True, exist_ok=True)
    # The spec comes last: a study exists once its spec does.
    write_atomically(layout.folder / "data.json", json.dumps(data, indent=2))
    write_atomically(layout.folder / "environment.json", json.dumps(environment, indent=2))
    write_atomically(layout.spec, spec_text(spec))


def write_atomically(path: Path, text: str) -> None:
    """Temporary file, fsync, rename."""
    temporary = path.with_name(f".{path.name}-{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
