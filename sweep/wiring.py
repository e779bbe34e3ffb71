"""The one place that builds adapters from a spec and runs a study with them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep import objective_jobs
from sweep.bench import JobBench
from sweep.checkpoints import FolderKeeper
from sweep.checkpoints.garbage import keep_room_for_notes, of_dead_drivers, of_dead_preparers
from sweep.checkpoints.prepared import in_use
from sweep.checkpoints.space import SpaceWatch, head_room
from sweep.clock import SystemClock
from sweep.confirmation import Confirmation
from sweep.domain import Trial
from sweep.engine.control import StopCause, StopRequest, StopSignals
from sweep.engine.loop import LoopResult, StudyLoop
from sweep.engine.requests import Inbox
from sweep.engine.view import Observer
from sweep.environment import describe_environment
from sweep.errors import (
    ExecutionError,
    StoppedEarlyError,
    StudyExistsError,
    SweepError,
    UserError,
)
from sweep.execution.ray_cluster import usable_cpus
from sweep.execution.ray_workers import RayExecutor
from sweep.execution.warm_client import WarmParent
from sweep.finale import Finale
from sweep.layout import CONFIRMATION_SUFFIX, LONGEST_NAME
from sweep.ports import AttemptLimits, Executor, StudyBegun
from sweep.reporting import report_at_the_end
from sweep.room import allowance, refuse_without_room
from sweep.search import OptunaStore
from sweep.sole_driver import sole_driver
from sweep.spec import stored_spec
from sweep.spec.model import StudySpec
from sweep.storages import remember
from sweep.study_data import fresh_splits, prepare_again, prepare_and_check, shown
from sweep.study_files import (
    keep_budget,
    redactor_for,
    secrets_warnings,
    tracking_uri,
    write_facts,
)
from sweep.tracking import SpoolRecorder

if TYPE_CHECKING:
    pass

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


def expected_slots(spec: StudySpec) -> int:
    """Trials side by side on this host; 1 where GPUs or a cluster will tell how many fit."""
    resources = spec.resources
    if resources.workers is not None:
        return resources.workers
    if resources.address is not None or resources.gpus_per_trial:
        return 1
    return max(1, int(usable_cpus() // resources.cpus_per_trial))


def refusals(spec: StudySpec, *, checkpoint_bytes: int, running: int, merged_bytes: int) -> list[str]:
    """Why a new study would be refused, though its spec, data and model are in order.

    Args:
        spec: The study.
        checkpoint_bytes: One resumable checkpoint.
        running: Trials side by side.
        merged_bytes: One model of an adapter and its base; 0 where none is trained.
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
        refuse_without_room(spec, checkpoint_bytes=checkpoint_bytes, running=running, merged_bytes=merged_bytes)
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
        parent = stack.enter_context(objective_jobs.warm_parent())
        # Ray must start in the main thread (the kernel ties its daemons to it), so the data is prepared beside it.
        preparing = pool.submit(prepare_again if resuming else prepare_and_check, spec, parent)
        executor = start_executor(spec, parent, note)
        stack.callback(executor.close)
        data = _awaited(preparing, signals, spec.study)
        rows = ", ".join(f"{split} {count:,}" for split, count in data["rows"].items())
        note(f"data ready: {rows} rows")
        moved = [] if resuming else spec.moved_defaults()
        for warning in [*data.get("warnings", []), *secrets_warnings(spec), *moved]:
            note(f"warning: {warning}")
        if spec.search.finds_rate:
            spec = spec.with_rates(**data["learning_rate"])
            note("learning_rate: {low:g}..{high:g} log, found by a range test".format(**data["learning_rate"]))
        refuse_without_room(
            spec,
            checkpoint_bytes=int(data["checkpoint_bytes"]),
            running=executor.slots,
            merged_bytes=int(data.get("merged_bytes", 0)),
        )
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

    def is_stopping() -> bool:
        return signals.requested() is not StopRequest.NONE

    environment = describe_environment()
    redactor = redactor_for(spec)
    stored, struck = stored_spec(spec, redactor)
    data = shown(data, redactor)
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
            request_for=objective_jobs.request_maker(spec, data),
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
                requests=objective_jobs.request_maker,
                fresh_data=fresh_splits(spec, parent, data, redactor, is_stopping),
                bench=JobBench(spec=spec, parent=parent, is_stopping=is_stopping),
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
            is_stopping=is_stopping,
        )
        result = finale.run(result, evaluate=_evaluator(spec, parent, data, is_stopping), note=note)
        if result.cause is not StopCause.DISK:
            # Whoever asked it to stop does not wait for a report.
            report_at_the_end(spec, recorder, clock, note, is_stopping)
        if inbox.waiting():
            note(f"warning: what was asked for at the end of this session waits: `sweep resume {spec.study}` heeds it")
        patience = FULL_DISK_TIMEOUT_SECONDS if result.cause is StopCause.DISK else CLOSE_TIMEOUT_SECONDS
        undelivered = recorder.close(0.0 if signals.requested() is StopRequest.NOW else patience)
        closing.join()
        return StudyResult(loop=result, trials=list(store.trials()), data=data, undelivered=undelivered)


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


def _evaluator(
    spec: StudySpec, parent: WarmParent, data: Mapping[str, Any], stop: Callable[[], bool]
) -> Callable[[Path, Trial], Mapping[str, float]]:
    def evaluate(model: Path, trial: Trial) -> Mapping[str, float]:
        metrics = objective_jobs.evaluate_model(
            parent,
            task=spec.objective.task,
            model=model,
            prepared=str(data["folder"]),
            split="test",
            settings=spec.settings(trial.hyperparameters),
            timeout_seconds=60 * spec.limits.evaluation_minutes,
            stop=stop,
        )
        if not isinstance(metrics, Mapping) or spec.rule.name not in metrics:
            raise ExecutionError(f"evaluate of {spec.objective.task} gave {metrics!r}, without {spec.rule.name!r}")
        return metrics

    return evaluate
