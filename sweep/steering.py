"""Steer a running study from outside: what ``sweep stop``, ``sweep enqueue`` and the pages share.

Nothing here writes to the study itself: a request goes into its control folder, and its driver heeds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sweep.domain import Trial
from sweep.engine.control import StopRequest, request_stop
from sweep.engine.lock import current_holder
from sweep.engine.requests import CancelTrial, Enqueue, Inbox, RaiseBudget, send
from sweep.errors import UserError
from sweep.spec.configuration import read_configuration, value_text
from sweep.spec.model import StudySpec

MOST_TRIALS = 100_000
"""Of a study, by hand; beyond it somebody has mistyped."""


def stop_study(spec: StudySpec, *, now: bool = False) -> str:
    """Ask the driver to stop.

    Raises:
        UserError: If the study is not running.
    """
    _refuse_idle(spec)
    request_stop(spec.layout, StopRequest.NOW if now else StopRequest.DRAIN)
    return f"asked the driver of {spec.study!r} to stop{' at once' if now else ''}."


def cancel_trial(spec: StudySpec, trials: Sequence[Trial], number: int) -> str:
    """Ask the driver to end one trial as CANCELLED; it is never ranked, and counts as finished.

    Raises:
        UserError: If the study is not running, or has no such trial that could still be ended.
    """
    _refuse_idle(spec)
    trial = next((trial for trial in trials if trial.number == number), None)
    if trial is None:
        raise UserError(f"trial {number}: study {spec.study!r} has trials 0 to {len(trials) - 1}. Name one of them.")
    if trial.state.is_finished:
        raise UserError(f"trial {number}: has ended as {trial.state}. Only an unfinished trial can be stopped.")
    send(spec.layout, CancelTrial(trial_number=number))
    return f"asked the driver of {spec.study!r} to end trial {number}."


def add_trials(spec: StudySpec, count: int) -> str:
    """Ask the driver to finish so many trials more.

    Raises:
        UserError: If the study is not running, or the count is out of bounds.
    """
    _refuse_idle(spec)
    trials = Inbox(spec.layout.control, spec).budget() + count
    if count < 1 or trials > MOST_TRIALS:
        raise UserError(f"{count} more trials: is out of bounds. Add 1 or more, up to {MOST_TRIALS} in all.")
    send(spec.layout, RaiseBudget(trials=trials))
    return f"asked the driver of {spec.study!r} to finish {trials} trials, {count} more than before."


def enqueue(spec: StudySpec, trials: Sequence[Trial], given: Mapping[str, str]) -> str:
    """Ask the driver to try a configuration in the place of the next draw.

    Args:
        spec: The study.
        trials: Its trials so far.
        given: Text by hyperparameter; trial 0's value is taken where there is none.

    Raises:
        UserError: If the study is not running, the configuration does not fit the search space or was tried
            already, or the budget leaves no room for it.
    """
    _refuse_idle(spec)
    values = read_configuration(spec.search.space, given, spec.defaults())
    same = next((trial for trial in trials if dict(trial.hyperparameters) == values), None)
    if same is not None:
        raise UserError(f"trial {same.number} has this configuration already ({same.state}). Change a value.")
    inbox = Inbox(spec.layout.control, spec)
    waiting = inbox.enqueued()
    if Enqueue(hyperparameters=values) in waiting:
        raise UserError("this configuration waits already for a free worker. Change a value.")
    if len(trials) + len(waiting) >= inbox.budget():
        raise UserError(
            f"all {inbox.budget()} trials of the budget are begun or spoken for. Add trials first: "
            f"`sweep enqueue {spec.study} --trials 1`."
        )
    send(spec.layout, Enqueue(hyperparameters=values))
    shown = " ".join(f"{name}={value_text(value)}" for name, value in values.items())
    return f"the next free worker of {spec.study!r} tries {shown}."


def _refuse_idle(spec: StudySpec) -> None:
    if current_holder(spec.layout.lock) is None:
        raise UserError(
            f"study {spec.study!r} is not running, so nobody heeds this. Go on with it: `sweep resume {spec.study}`; "
            "`--trials N` gives it a larger budget."
        )
