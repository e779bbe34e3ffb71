"""The one place that builds adapters from a spec and runs a study with them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sweep.base_model import base_model
from sweep.bench import JobBench
from sweep.checkpoints import FolderKeeper, intact
from sweep.checkpoints.garbage import keep_room_for_notes, of_dead_drivers, of_dead_preparers
from sweep.checkpoints.prepared import in_use
from sweep.checkpoints.space import SpaceWatch, head_room
from sweep.clock import SystemClock
from sweep.confirmation import Confirmation
from sweep.domain import Assignment, TrainRequest, Trial, confirmation_seed, trial_seed
from sweep.engine.control import StopCause, StopRequest, StopSignals
from sweep.engine.loop import LoopResult, StudyLoop
from sweep.engine.requests import Inbox
from sweep.engine.view import Observer
from sweep.environment import describe_environment
from sweep.errors import (
    ExecutionError,
    InvalidDataError,
    ModelError,
    StoppedEarlyError,
    StudyExistsError,
    SweepError,
    UserError,
)
from sweep.execution.jobs import run_job
from sweep.execution.ray_cluster import usable_cpus
from sweep.execution.ray_workers import RayExecutor
from sweep.execution.warm_client import WarmParent
from sweep.finale import Finale
from sweep.layout import CONFIRMATION_SUFFIX, LONGEST_NAME
from sweep.ports import AttemptLimits, Columns, Executor, StudyBegun
from sweep.redaction import Redactor
from sweep.reporting import report_at_the_end
from sweep.room import allowance, refuse_without_room
from sweep.search import OptunaStore
from sweep.selection.assessment import ModelOnSplit
from sweep.selection.predictions import read_predictions
from sweep.sole_driver import sole_driver
from sweep.spec import stored_spec
from sweep.spec.model import StudySpec
from sweep.storages import remember
from sweep.study_files import (
    keep_budget,
    read_facts,
    redactor_for,
    secrets_warnings,
    tracking_uri,
    write_facts,
)
from sweep.tracking import SpoolRecorder

if TYPE_CHECKING:
    from sweep.layout import StudyLayout
    from sweep.tracking.registry import Registry

JOB_TIMEOUT_SECONDS = 3600.0
"""What a job may take where no spec says it."""

CLOSE_TIMEOUT_SECONDS = 25.0
"""How long an ending driver waits for the tracker; what is left stays in the spool."""

FULL_DISK_TIMEOUT_SECONDS = 5.0
"""Likewise, where the tracker may be short of the same disk."""


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


@contextmanager
def warm_parent() -> Iterator[WarmParent]:
    """A parent that is importing the training libraries in the background."""
    parent = WarmParent()
    parent.start()
    try:
        yield parent
    finally:
        parent.close()


def objective_settings(spec: StudySpec, parent: WarmParent) -> dict[str, Any]:
    """The objective's settings, its model reference resolved to what the objective can load."""
    base = base_model(spec, parent)
    return {**spec.objective_settings(), "model": base.reference, "base_model": dict(base.origin)}


def prepare(
    spec: StudySpec, parent: WarmParent, settings: Mapping[str, Any], *, stop: Callable[[], bool] = lambda: False
) -> dict[str, Any]:
    """Prepare the study's data, or find it prepared; returns the objective's summary and the model."""
    result: dict[str, Any] = run_job(
        parent,
        spec.objective.task,
        "prepare",
        {"settings": settings, "folder": spec.layout.prepared},
        timeout_seconds=60 * spec.limits.preparation_minutes,
        stop=stop,
    )
    return {**result, "model": settings["model"], "base_model": settings.get("base_model") or {}}


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
    return _with_defaults(spec, parent, data, "check", spec.limits.evaluation_minutes)


def find_learning_rate(spec: StudySpec, parent: WarmParent, data: Mapping[str, Any]) -> dict[str, Any]:
    """A range test of the default configuration; see :class:`sweep.ports.RateFinding`."""
    return _with_defaults(spec, parent, data, "find_learning_rate", spec.limits.preparation_minutes)


def _with_defaults(
    spec: StudySpec, parent: WarmParent, data: Mapping[str, Any], method: str, minutes: float
) -> dict[str, Any]:
    """A method of the objective that takes trial 0."""
    assignment = Assignment(
        trial_number=0, attempt=1, hyperparameters=spec.defaults(), seed=trial_seed(spec.search.seed, 0)
    )
    request = request_maker(spec, data)(assignment)
    result: dict[str, Any] = run_job(
        parent, spec.objective.task, method, {"request": request}, timeout_seconds=60 * minutes
    )
    return result


def expected_slots(spec: StudySpec) -> int:
    """Trials side by side on this host; 1 where GPUs or a cluster will tell how many fit."""
    resources = spec.resources
    if resources.workers is not None:
        return resources.workers
    if resources.address is not None or resources.gpus_per_trial:
        return 1
    return max(1, int(usable_cpus() // resources.cpus_per_trial))


def refusals(spec: StudySpec, *, checkpoint_bytes: int, running: int) -> list[str]:
    """Why a new study would be refused, though its spec, data and model are in order.

    Args:
        spec: The study.
        checkpoint_bytes: One resumable checkpoint.
        running: Trials side by side.
    """
    told = []
    try:
        if spec.layout.spec.exists():
            raise already_exists(spec)
        if _has_history(spec):
            OptunaStore.check_is_new(spec)
    except SweepError as err:
        told.append(str(err))
    try:
        refuse_without_room(spec, checkpoint_bytes=checkpoint_bytes, running=running)
    except UserError as err:
        told.append(str(err))
    return told


def _has_history(spec: StudySpec) -> bool:
    """Whether there is a database to look into; a file is not made by looking."""
    from sweep.search.claims import database_file

    if spec.history is None:
        return False
    file = database_file(spec.history)
    return file is None or file.exists()


def start_executor(spec: StudySpec, parent: WarmParent, note: Callable[[str], None]) -> Executor:
    """Ray workers for a study; call it from the main thread."""
    resources = spec.resources
    return RayExecutor.open(
        spec.objective.task,
        parent=parent,
        workers=resources.workers,
        cpus_per_trial=resources.cpus_per_trial,
        gpus_per_trial=resources.gpus_per_trial,
        address=resources.address,
        limits=attempt_limits(spec),
        patience_seconds=60 * spec.limits.no_worker_minutes,
        note=note,
    )


def attempt_limits(spec: StudySpec) -> AttemptLimits:
    """The spec's limits of an attempt, in seconds and bytes."""
    limits = spec.limits
    return AttemptLimits(
        silence_seconds=None if limits.silence_minutes is None else 60 * limits.silence_minutes,
        wall_seconds=None if limits.attempt_hours is None else 3600 * limits.attempt_hours,
        grace_seconds=limits.grace_seconds,
        memory_bytes=None if limits.memory_gb is None else int(1e9 * limits.memory_gb),
        log_bytes=int(1e6 * limits.log_mb),
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
        StoppedEarlyError: If somebody stops it before its first trial.
        SweepError: If it breaks for another reason.
    """
    layout = spec.layout
    if layout.searched is not None:
        raise UserError(f"study {spec.study!r}: names ending in {CONFIRMATION_SUFFIX} are those of finals. Rename it.")
    if spec.confirm is not None and len(layout.confirmation.study) > LONGEST_NAME:
        raise UserError(
            f"study {spec.study!r}: the name is too long for a study with a final, which is called "
            f"<study>{CONFIRMATION_SUFFIX}. Leave the final out, or start a study with a shorter name."
        )
    signals = StopSignals(layout.control, spec.limits.grace_seconds)
    with ExitStack() as stack:
        # From here on: an exception by a signal in the midst of Ray's start crashes the interpreter.
        stack.enter_context(signals.listening())
        if resuming:
            fence = stack.enter_context(sole_driver(spec))
            signals.clear()
        elif layout.spec.exists():
            raise already_exists(spec)
        refuse_without_room(spec)
        note("starting workers, preparing data")
        unnamed = stack.enter_context(ExitStack())
        unnamed.enter_context(in_use(layout.prepared))  # until the study says what it uses
        # The parent closes before the pool does: that ends a job still running when something else fails.
        pool = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="prepare"))
        parent = stack.enter_context(warm_parent())
        # Ray must start in the main thread (the kernel ties its daemons to it), so the data is prepared beside it.
        preparing = pool.submit(_prepare_again if resuming else _prepare_and_check, spec, parent)
        executor = start_executor(spec, parent, note)
        stack.callback(executor.close)
        data = _awaited(preparing, signals, spec.study)
        for warning in [*data.get("warnings", []), *secrets_warnings(spec)]:
            note(f"warning: {warning}")
        if spec.search.finds_rate:
            spec = spec.with_rates(**data["learning_rate"])
            note("learning_rate: {low:g}..{high:g} log, found by a range test".format(**data["learning_rate"]))
        refuse_without_room(spec, checkpoint_bytes=int(data["checkpoint_bytes"]), running=executor.slots)
        if not resuming:
            fence = stack.enter_context(sole_driver(spec))
            if layout.spec.exists():
                raise already_exists(spec)
            OptunaStore.check_is_new(spec)
            signals.clear()
        return _drive_prepared(
            spec, data, parent, executor, observer, note, signals, resuming=resuming, fence=fence, named=unnamed.close
        )


def _awaited(preparing: Future[dict[str, Any]], signals: StopSignals, study: str) -> dict[str, Any]:
    """The prepared data, unless somebody stops the study before it is ready."""
    while signals.requested() is StopRequest.NONE:
        with suppress(TimeoutError):
            return preparing.result(timeout=0.2)
    raise StoppedEarlyError(f"study {study!r} was stopped before a trial could begin. Start it again.")


def already_exists(spec: StudySpec) -> StudyExistsError:
    """The error for a name that is taken."""
    return StudyExistsError(
        f"study {spec.study!r} already exists in {spec.storage}. Continue it with `sweep resume {spec.study}`, "
        f"or start another with `--set study={spec.study}-2`."
    )


def _prepare_and_check(spec: StudySpec, parent: WarmParent) -> dict[str, Any]:
    data = prepare(spec, parent, objective_settings(spec, parent))
    found = check(spec, parent, data)
    data["warnings"] = [*data.get("warnings", []), *found.get("warnings", [])]
    if spec.search.finds_rate:
        rates = find_learning_rate(spec, parent, data)
        data["learning_rate"] = {"low": rates["low"], "high": rates["high"]}
    return data


def _prepare_again(spec: StudySpec, parent: WarmParent) -> dict[str, Any]:
    """The data and the base model the study began with, whatever became of their sources since."""
    began = read_facts(spec.layout, "data")
    if not began:
        return _prepare_and_check(spec, parent)
    if (base := Path(began["model"])).is_absolute() and not base.exists():
        raise ModelError(
            f"the base model {base} that study {spec.study!r} began with is gone, and its trials need it. "
            "Put it back where it was."
        )
    if intact(Path(began["folder"])):
        return began
    began_with = {"model": began["model"], "base_model": began.get("base_model")}
    data = prepare(spec, parent, {**spec.objective_settings(), **began_with})
    _refuse_other_data(spec, data, began)
    return data


def _refuse_other_data(spec: StudySpec, data: Mapping[str, Any], began: Mapping[str, Any]) -> None:
    if data["data_hash"] != began["data_hash"]:
        raise InvalidDataError(
            f"study {spec.study!r}: its data has changed since it began ({data['data_hash'][:12]} is not "
            f"{began['data_hash'][:12]}), and trials on other data cannot be compared. Restore the data, or start "
            f"another study with `--set study={spec.study}-2`."
        )


def _drive_prepared(
    spec: StudySpec,
    data: Mapping[str, Any],
    parent: WarmParent,
    executor: Executor,
    observer: Observer,
    note: Callable[[str], None],
    signals: StopSignals,
    *,
    resuming: bool,
    fence: Callable[[], None],
    named: Callable[[], None],
) -> StudyResult:
    layout, clock = spec.layout, SystemClock()
    environment = describe_environment()
    redactor = redactor_for(spec)
    stored, struck = stored_spec(spec, redactor)
    data = _shown(data, redactor)
    for leftover in (*of_dead_drivers(layout), *of_dead_preparers(layout)):
        leftover.remove()
    write_facts(layout, stored, data, redactor.values(environment), struck)
    keep_room_for_notes(layout.removals)
    named()
    remember(layout.storage)
    with ExitStack() as stack:
        store = open_store(spec, fence, resuming=resuming)
        stack.callback(store.close)
        recorder = SpoolRecorder(layout, tracking_uri(spec), redactor)
        stack.callback(recorder.close, 0.0)
        recorder.record(StudyBegun(study=spec.study, spec=stored, data=data, environment=environment, at=clock.now()))
        inbox = Inbox(layout.control, spec)
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
            space=SpaceWatch(allowance(spec), head_room(int(data["checkpoint_bytes"]), executor.slots), clock),
            inbox=inbox,
            budget_raised=lambda trials: keep_budget(layout, stored, trials),
        )
        result = loop.run()
        if result.state == "COMPLETE" and spec.confirm is not None:
            final = Confirmation(
                spec=spec,
                trials=store.trials(),
                data=data,
                environment=environment,
                redactor=redactor,
                recorder=recorder,
                clock=clock,
                signals=signals,
                requests=request_maker,
                fresh_data=_fresh_splits(spec, parent, data, redactor, signals),
                bench=JobBench(
                    spec=spec, parent=parent, is_stopping=lambda: signals.requested() is not StopRequest.NONE
                ),
                note=note,
            )
            patience = CLOSE_TIMEOUT_SECONDS
            result = final.run(executor, observer, spent_before=store.spent, patience_seconds=patience)
        # The workers are idle from here on: give their cores to the evaluation of the winner.
        closing = threading.Thread(target=executor.close)
        closing.start()
        finale = Finale(
            spec=spec,
            store=store,
            recorder=recorder,
            clock=clock,
            data=data,
            environment=environment,
            redactor=redactor,
            is_stopping=lambda: signals.requested() is not StopRequest.NONE,
        )
        result = finale.run(result, evaluate=_evaluator(spec, parent, data, signals), note=note)
        if result.cause is not StopCause.DISK:
            # Whoever asked it to stop does not wait for a report.
            report_at_the_end(spec, recorder, clock, note, lambda: signals.requested() is not StopRequest.NONE)
        if inbox.waiting():
            note(f"warning: what was asked for at the end of this session waits: `sweep resume {spec.study}` heeds it")
        patience = FULL_DISK_TIMEOUT_SECONDS if result.cause is StopCause.DISK else CLOSE_TIMEOUT_SECONDS
        undelivered = recorder.close(0.0 if signals.requested() is StopRequest.NOW else patience)
        closing.join()
        return StudyResult(loop=result, trials=list(store.trials()), data=data, undelivered=undelivered)


def registry_of(spec: StudySpec) -> Registry:
    """The model registry of a study's record.

    Raises:
        RecordingError: If its store cannot be opened.
    """
    return registry_at(tracking_uri(spec), spec.layout)


def registry_at(uri: str, layout: StudyLayout | None = None) -> Registry:
    """The model registry at an address.

    Args:
        uri: MLflow's store or server.
        layout: Of the study whose models are published.

    Raises:
        UserError: If there is no such store.
        RecordingError: If it cannot be opened.
    """
    from sweep.tracking.registry import Registry

    is_server = uri.startswith(("http://", "https://", "databricks"))
    return Registry(uri, None if is_server or layout is None else layout.tracking_artifacts)


def open_store(spec: StudySpec, fence: Callable[[], None], *, resuming: bool) -> OptunaStore:
    """The history of a study that this process holds."""
    if resuming:
        return OptunaStore.open_or_begin(spec, fence)
    try:
        return OptunaStore.create(spec, fence=fence)
    except SweepError:
        # A study exists once its spec does, and this one could not begin.
        spec.layout.spec.unlink()
        raise


def _fresh_splits(
    spec: StudySpec, parent: WarmParent, data: Mapping[str, Any], redactor: Redactor, signals: StopSignals
) -> Callable[[int], dict[str, Any]]:
    """How the study's data is prepared with training and validation rows drawn anew, by seed index of the final."""
    settings = {**spec.objective_settings(), "model": data["model"], "base_model": data.get("base_model")}

    def stop() -> bool:
        return signals.requested() is not StopRequest.NONE

    @cache
    def check_source() -> None:
        _refuse_other_data(spec, prepare(spec, parent, settings, stop=stop), data)

    def fresh(seed_index: int) -> dict[str, Any]:
        # A seed's own rows tell nothing of a source that has changed before they were drawn for the first time.
        check_source()
        seed = confirmation_seed(spec.search.seed, seed_index)
        drawn = {**settings, "data": {**settings["data"], "validation_seed": seed}}
        return _shown(prepare(spec, parent, drawn, stop=stop), redactor)

    return fresh


def _evaluator(
    spec: StudySpec, parent: WarmParent, data: Mapping[str, Any], signals: StopSignals
) -> Callable[[Path, Trial], Mapping[str, float]]:
    def evaluate(model: Path, trial: Trial) -> Mapping[str, float]:
        metrics = evaluate_model(
            parent,
            task=spec.objective.task,
            model=model,
            prepared=str(data["folder"]),
            split="test",
            settings=spec.settings(trial.hyperparameters),
            timeout_seconds=60 * spec.limits.evaluation_minutes,
            stop=lambda: signals.requested() is not StopRequest.NONE,
        )
        if not isinstance(metrics, Mapping) or spec.rule.name not in metrics:
            raise ExecutionError(f"evaluate of {spec.objective.task} gave {metrics!r}, without {spec.rule.name!r}")
        return metrics

    return evaluate


def evaluate_model(
    parent: WarmParent,
    *,
    task: str,
    model: Path,
    prepared: str,
    split: str,
    settings: Mapping[str, Any],
    timeout_seconds: float = JOB_TIMEOUT_SECONDS,
    stop: Callable[[], bool] = lambda: False,
) -> Mapping[str, float]:
    """Metrics of a model folder on a split of prepared data, computed in a clean process."""
    result: Mapping[str, float] = run_job(
        parent,
        task,
        "evaluate",
        {"model": model, "prepared": Path(prepared), "split": split, "settings": settings},
        timeout_seconds=timeout_seconds,
        stop=stop,
    )
    return result


def predict_model(
    parent: WarmParent, *, task: str, model: Path, prepared: str, split: str, settings: Mapping[str, Any]
) -> Columns | None:
    """A model's answers on a split, row by row; None if the objective does not tell them."""
    with TemporaryDirectory(prefix="sweep-") as folder:
        file = Path(folder) / "answers.json"
        arguments = {"model": model, "prepared": Path(prepared), "split": split, "settings": settings, "file": file}
        can_tell = run_job(
            parent,
            task,
            "sweep.selection.predictions:predict_to",
            arguments,
            timeout_seconds=JOB_TIMEOUT_SECONDS,
        )
        return read_predictions(file) if can_tell else None


def assess_models(
    parent: WarmParent,
    models: Sequence[ModelOnSplit],
    *,
    task: str,
    split: str,
    metric: str,
    level: float = 0.05,
    folder: Path,
    timeout_seconds: float = JOB_TIMEOUT_SECONDS,
    stop: Callable[[], bool] = lambda: False,
) -> Mapping[str, Any]:
    """Metrics, bootstrap intervals and the paired test of one or two models on a split, in a clean process.

    Args:
        parent: The warm parent to fork from.
        models: One, or two to compare.
        task: Name of their objective.
        split: Split of the prepared data.
        metric: The metric that intervals and test are about.
        level: The intervals miss with this probability.
        folder: Existing folder that the answers are written to.
        timeout_seconds: Bound on all of it.
        stop: Polled; whether to end at once.

    Returns:
        See :func:`sweep.selection.assessment.assess`.
    """
    rows = [one.to_json() for one in models]
    result: Mapping[str, Any] = run_job(
        parent,
        task,
        "sweep.selection.assessment:assess",
        {"task": task, "models": rows, "split": split, "metric": metric, "level": level, "folder": folder},
        timeout_seconds=timeout_seconds,
        stop=stop,
    )
    return result


def _shown(data: Mapping[str, Any], redactor: Redactor) -> dict[str, Any]:
    """What is known of the data, without secrets; what trials and a resume go by stays as it is."""
    used = {key: data[key] for key in ("folder", "model", "data_hash") if key in data}
    return {**redactor.values(data), **used}
