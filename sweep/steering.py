"""Steer a running study from outside: what ``sweep stop``, ``sweep enqueue`` and the pages share.

Nothing here writes to the study itself: a request goes into its control folder, and its driver heeds it.
"""

from __future__ import annotations

import fcntl
from collections.abc import Mapping, Sequence

from sweep.domain import Trial
from sweep.engine.control import StopRequest, request_stop
from sweep.engine.lock import current_holder
from sweep.engine.requests import CancelTrial, Enqueue, Inbox, RaiseBudget, send
from sweep.errors import SweepError, UserError
from sweep.layout import StudyLayout
from sweep.spec.configuration import read_configuration, value_text
from sweep.spec.model import StudySpec
from sweep.study_files import read_spec

MOST_TRIALS = 100_000
"""Of a study, by hand; beyond it somebody has mistyped."""


def stop_study(layout: StudyLayout, *, now: bool = False) -> str:
    """Ask the driver to stop.

    Raises:
        UserError: If the study is not running.
    """
    layout = layout.searched or layout  # one driver drives both
    _refuse_undriven(layout)
    request_stop(layout, StopRequest.NOW if now else StopRequest.DRAIN)
    return f"asked the driver of {layout.study!r} to stop{' at once' if now else ''}."


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
    spec.layout.control.mkdir(parents=True, exist_ok=True)
    # Two who add at once must not both add to the same number.
    with (spec.layout.control / ".adding").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # What waits is read first: the driver stores a larger budget before it forgets the request.
        waiting = Inbox(spec.layout.control, spec).budget()
        trials = max(waiting, _stored_budget(spec)) + count
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


def _stored_budget(spec: StudySpec) -> int:
    try:
        return read_spec(spec.layout, given=spec).budget.trials
    except SweepError:  # cannot be read at this moment: what the caller has read is the last that is known
        return spec.budget.trials


def _refuse_idle(spec: StudySpec) -> None:
    """Refuse what no search would heed now."""
    search = spec.layout.searched or spec.layout
    _refuse_undriven(search)
    if current_holder(search.confirmation.lock) is not None:
        raise UserError(
            f"study {search.study!r} is in its final, whose runs follow from the search. `sweep stop {search.study}` "
            f"stops it; after its verdict, `sweep resume {search.study} --trials N` searches on."
        )
    if search != spec.layout:
        raise UserError(f"{spec.study!r} is the final of {search.study!r}. Name the study itself.")


def _refuse_undriven(layout: StudyLayout) -> None:
    if current_holder(layout.lock) is None:
        raise UserError(
            f"study {layout.study!r} is not running, so nobody heeds this. Go on with it: `sweep resume "
            f"{layout.study}`; `--trials N` gives it a larger budget."
        )
