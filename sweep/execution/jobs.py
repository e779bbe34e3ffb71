"""Jobs of an objective besides training: prepare, check, evaluate, predict, each in a clean process."""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sweep import errors
from sweep.errors import ExecutionError, StoppedEarlyError, SweepError
from sweep.execution.child import TrialProcess
from sweep.execution.messages import argument_to_json
from sweep.execution.warm_client import TRIAL_MODULE, WarmParent

LOADER = "objectives.loading:load_objective"
_TRIES = 3
"""A job whose process was killed is run again: jobs leave nothing half done."""

_LOOK_SECONDS = 0.2
"""How long a job runs on before it is seen that it shall stop."""


def run_job(
    parent: WarmParent,
    objective: str,
    method: str,
    arguments: Mapping[str, Any],
    *,
    log: Path | None = None,
    timeout_seconds: float = 3600.0,
    stop: Callable[[], bool] = lambda: False,
    loader: str = LOADER,
    env: Mapping[str, str] | None = None,
    on_progress: Callable[[Mapping[str, Any]], None] | None = None,
) -> Any:
    """Run one method of an objective in a clean process and return what it returns.

    Args:
        parent: The warm parent to fork from.
        objective: Name of the objective, as the loader knows it.
        method: ``prepare``, ``check``, ``evaluate`` …, or ``module:function`` that takes the objective first.
        arguments: Its arguments by name: JSON-able, paths or train requests.
        log: File the job's output is appended to.
        timeout_seconds: Bound on the whole job.
        stop: Polled; whether to end the job at once.
        loader: ``module:function`` that gives the objective of a name.
        env: Variables set in the process.
        on_progress: Called with each sign of life.

    Returns:
        The method's JSON-able result.

    Raises:
        SweepError: The error the objective raised, as the same class.
        ExecutionError: If the job raised anything else, died, or took too long.
        StoppedEarlyError: If it was to stop.
    """
    order = {
        "objective": objective,
        "loader": loader,
        "method": method,
        "arguments": {name: argument_to_json(value) for name, value in arguments.items()},
    }
    answer = None
    for _ in range(_TRIES):
        process = parent.spawn(f"{TRIAL_MODULE}:call", order, log, env or {})
        try:
            answer = _answer(process, f"{method} of {objective}", timeout_seconds, stop, on_progress)
        finally:
            process.kill()
        if answer is not None:
            break
    else:
        raise ExecutionError(
            f"{method} of {objective}, tried {_TRIES} times: {process.ending}. "
            "Look for what kills it, such as too little memory"
        )
    if "error" in answer:
        raise _error(f"{method} of {objective}", answer["error"])
    return answer["result"]


def _answer(
    process: TrialProcess,
    job: str,
    timeout_seconds: float,
    stop: Callable[[], bool],
    on_progress: Callable[[Mapping[str, Any]], None] | None,
) -> Mapping[str, Any] | None:
    """What the job says in the end; None if its process was killed."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        if stop():
            raise StoppedEarlyError(f"{job} was ended before it was done: it was to stop")
        has_ended = process.poll()
        for message in process.messages.drain():
            if "progress" not in message:
                return message
            if on_progress is not None:
                on_progress(message["progress"])
        if has_ended and process.was_killed:
            return None
        if has_ended:
            raise ExecutionError(f"{job}: {process.ending}. Look for what in the objective ends its process")
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise ExecutionError(
                f"{job} took longer than {timeout_seconds:.0f} s and was ended. Give it less data, or faster storage"
            )
        waiting = select.poll()
        for descriptor in process.filenos():
            waiting.register(descriptor, select.POLLIN)
        waiting.poll(min(remaining, _LOOK_SECONDS) * 1000)


def _error(job: str, description: Mapping[str, Any]) -> SweepError:
    kind = getattr(errors, description["type"], None)
    if description["traceback"] is None and isinstance(kind, type) and issubclass(kind, SweepError):
        error = kind(description["message"])
    else:
        text = f"{job} failed: {description['type']}: {description['message']}\n{description['traceback']}"
        error = ExecutionError(text)
    if description["is_disk_full"]:  # its own causes stayed in the job's process
        error.__cause__ = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return error
