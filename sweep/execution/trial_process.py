"""What runs inside a process forked by the warm parent: one attempt of a trial, or one job.

An attempt on several devices has a process for each (see :mod:`sweep.execution.ranks`); only the first one speaks.
Messages of ``train`` to the supervisor: ``{"stacks": descriptor}`` (see :mod:`sweep.execution.stacks`),
``{"progress": …}``, ``{"report": …}`` (answered by ``{"decision": …}``) and, last, ``{"end": AttemptEnd, "detail": text
or null}``. Messages of ``call``: ``{"progress": …}`` and, last, ``{"result": …}`` or ``{"error": …}``.
"""

from __future__ import annotations

import importlib
import logging
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import Any

from sweep.domain import AttemptEnd, Decision, TrainRequest
from sweep.errors import ExecutionError, InvalidSpecError, SweepError, UserError, is_disk_full
from sweep.execution.channel import MessageChannel
from sweep.execution.finite import finite_report
from sweep.execution.messages import argument_from_json, report_to_json, request_from_json
from sweep.execution.ranks import Ending, Ranks
from sweep.execution.stacks import offer_stacks
from sweep.ports import DivergedError, LeftEarly, Objective
from sweep.redaction import Redactor, secrets_in
from sweep.teams import PeerLostError, Team, TeamObjective

_TRACEBACK_LINES = 30
_LINE_CHARACTERS = 2000
_DRIVER_GONE = 3
_OUT_OF_MEMORY_NAMES = frozenset({"OutOfMemoryError", "AcceleratorOutOfMemoryError"})
_OUT_OF_MEMORY_WORDS = ("can't allocate memory", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
_ENDS = {Decision.STOP: AttemptEnd.STOPPED, Decision.PAUSE: AttemptEnd.PAUSED}


def train(connection: socket.socket) -> int:
    """Run one attempt; the first message is ``{"objective", "loader", "train_request"}``.

    SIGTERM asks it to leave.
    """
    _heed_sigterm()
    channel = MessageChannel(connection)
    _say(channel, {"stacks": offer_stacks()})
    order = channel.receive()
    if order is None:
        return _DRIVER_GONE
    log = _log_of_attempt(order["train_request"]["assignment"])

    def end(ending: Ending) -> None:
        end, detail = ending
        detail = None if detail is None else _redactor_for(order).text(detail)
        log.info("ended: %s%s", end, f"\n{detail}" if detail else "")
        _say(channel, {"end": end, "detail": detail})

    end(_ended_attempt(channel, order, log, end))
    return 0


def call(connection: socket.socket) -> int:
    """Run one job; the first message is ``{"objective", "loader", "method", "arguments"}``.

    In place of a method, ``module:function`` names a function that takes the objective first.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    channel = MessageChannel(connection)
    order = channel.receive()
    if order is None:
        return _DRIVER_GONE
    try:
        objective = _load(channel, order["loader"], order["objective"])
        method = _method(objective, order["objective"], order["method"])
        arguments = {name: argument_from_json(value) for name, value in order["arguments"].items()}
        if any(isinstance(value, TrainRequest) and value.devices > 1 for value in arguments.values()):
            _as_team(objective, order["objective"])
        result = method(**arguments)
        _say(channel, {"result": dict(result) if isinstance(result, Mapping) else result})
    except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever the objective raises travels to the driver
        _say(channel, {"error": _redactor_for(order).values(_described(error))})
    return 0


def _method(objective: Objective, task: str, name: str) -> Callable[..., Any]:
    """A method of the objective, or a function that takes the objective first (``module:function``)."""
    module, colon, function = name.partition(":")
    if colon:
        return partial(getattr(importlib.import_module(module), function), objective)
    method: Callable[..., Any] | None = getattr(objective, name, None)
    if method is None:
        raise UserError(f"task: {task}: the objective has no method {name!r}. Add it (sweep.ports).")
    return method


_told_to_leave: list[int] = []
"""Grows when SIGTERM comes; a signal handler may do no more than that."""


def _heed_sigterm() -> None:
    signal.signal(signal.SIGTERM, lambda number, frame: _told_to_leave.append(number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # blocked by the warm parent until here


def _is_leaving() -> bool:
    return bool(_told_to_leave)


def _redactor_for(order: Mapping[str, Any]) -> Redactor:
    """Knows the secrets of this process's environment and of what it was ordered to do."""
    return Redactor.from_environment(os.environ).knowing(*secrets_in(order))


def _log_of_attempt(assignment: Mapping[str, Any]) -> logging.Logger:
    """A logger to standard output, which is the trial's log file."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    log = logging.getLogger("sweep.trial")
    log.propagate = False
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    drawn = ", ".join(f"{name}={value}" for name, value in assignment["hyperparameters"].items())
    origin = assignment["start_from"] or "the start"
    log.info(
        "trial %s, attempt %s on %s (process %s), from %s, seed %s: %s",
        assignment["trial_number"],
        assignment["attempt"],
        socket.gethostname(),
        os.getpid(),
        origin,
        assignment["seed"],
        drawn,
    )
    return log


def _ended_attempt(
    channel: MessageChannel, order: Mapping[str, Any], log: logging.Logger, end: Callable[[Ending], None]
) -> Ending:
    """Run the attempt, with all its processes, and tell how it ends."""
    request = request_from_json(order["train_request"])

    def lead(ranks: Ranks | None) -> AttemptEnd:
        objective = _load(channel, order["loader"], order["objective"])
        if ranks is not None:
            _as_team(objective, order["objective"]).team = ranks.team
        if _is_leaving():  # before the long loading of data and model
            return AttemptEnd.PREEMPTED
        if ranks is not None:
            ranks.begin()
        return _attempt(channel, objective, request, log)

    def follow(team: Team) -> Ending | None:
        channel.close()

        def run() -> AttemptEnd:
            objective = _as_team(_loaded(order["loader"], order["objective"]), order["objective"])
            objective.team = team
            objective.follow(request)
            return AttemptEnd.FINISHED

        ending = _guarded(run)
        return None if ending[0] is AttemptEnd.FINISHED else ending

    if request.devices == 1:
        return _guarded(lambda: lead(None))
    try:
        ranks = Ranks.fork(request.devices, request.patience_seconds, follow, end)
    except UserError as error:
        return AttemptEnd.FAILED, str(error)
    except OSError as error:
        return AttemptEnd.LOST, f"no process for each of {request.devices} devices: {error}"
    return ranks.end(_guarded(lambda: lead(ranks)))


def _guarded(run: Callable[[], AttemptEnd]) -> Ending:
    """Run something, and name its end, whatever it raises."""
    try:
        return run(), None
    except LeftEarly as error:
        return AttemptEnd.PREEMPTED, str(error) or None
    except PeerLostError as error:
        return AttemptEnd.LOST, str(error)
    except DivergedError as error:
        return AttemptEnd.DIVERGED, str(error) or "loss or metric became NaN or infinite"
    except UserError as error:
        return (AttemptEnd.DISK_FULL if is_disk_full(error) else AttemptEnd.FAILED), str(error)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever it raises ends this attempt alone
        if is_disk_full(error):
            return AttemptEnd.DISK_FULL, str(error)
        end = AttemptEnd.OOM if _is_out_of_memory(error) else AttemptEnd.FAILED
        return end, _last_lines(error)


def _attempt(channel: MessageChannel, objective: Objective, request: TrainRequest, log: logging.Logger) -> AttemptEnd:
    reports = objective.train(request)
    for reported in reports:
        report = finite_report(reported, request.metric, log)
        metrics = ", ".join(f"{name} {value:.6g}" for name, value in report.metrics.items())
        log.info("step %s (%.4g %s): %s", report.step, report.fidelity, request.fidelity_unit, metrics)
        _say(channel, {"report": report_to_json(report)})
        answer = channel.receive()
        if answer is None:
            os._exit(_DRIVER_GONE)
        decision = Decision(answer["decision"])
        if decision is not Decision.CONTINUE:
            if isinstance(reports, Generator):
                reports.close()
            return _ENDS[decision]
    return AttemptEnd.FINISHED


def _loaded(loader: str, name: str) -> Objective:
    module, _, function = loader.partition(":")
    load: Callable[[str], Objective] = getattr(importlib.import_module(module), function)
    return load(name)


def _as_team(objective: Objective, name: str) -> TeamObjective:
    """The objective as one that several processes can train.

    Raises:
        UserError: If it is none.
    """
    if not isinstance(objective, TeamObjective):
        raise UserError(
            f"resources.devices_per_trial: {name} trains on one device: it has no `follow` "
            "(sweep.teams.TeamObjective). Set it to 1."
        )
    return objective


def _load(channel: MessageChannel, loader: str, name: str) -> Objective:
    objective = _loaded(loader, name)

    def progress(step: int, total_steps: int, loss: float | None = None) -> None:
        try:
            channel.send({"progress": {"step": int(step), "total_steps": int(total_steps), "loss": loss}})
        except ExecutionError:
            if not channel.is_broken:
                raise
            _told_to_leave.append(signal.SIGTERM)  # nobody waits any more: what is trained can still be committed

    objective.progress = progress
    objective.leaving = _is_leaving
    return objective


def _say(channel: MessageChannel, message: Mapping[str, Any]) -> None:
    try:
        channel.send(message)
    except ExecutionError:
        if channel.is_broken:  # nobody waits for this process any more
            os._exit(_DRIVER_GONE)
        raise


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or one of its causes, says so: by type, by torch's names, or in the words of an allocator."""
    cause: BaseException | None = error
    seen = set[int]()
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        # By name: torch's error is met without importing torch.
        names = {kind.__name__ for kind in type(cause).__mro__}
        told = isinstance(cause, RuntimeError) and any(words in str(cause) for words in _OUT_OF_MEMORY_WORDS)
        if isinstance(cause, MemoryError) or names & _OUT_OF_MEMORY_NAMES or told:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _last_lines(error: BaseException) -> str:
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "\n".join(line[:_LINE_CHARACTERS] for line in lines[-_TRACEBACK_LINES:])


def _described(error: BaseException) -> dict[str, Any]:
    expected = isinstance(error, SweepError) and not isinstance(error, ExecutionError)
    return {
        "type": type(error).__name__,
        "message": error.problems if isinstance(error, InvalidSpecError) else str(error),
        "is_disk_full": is_disk_full(error),
        "traceback": None if expected else _last_lines(error),
    }
