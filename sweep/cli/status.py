"""``sweep status``."""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import typer

from sweep.cli.options import JsonOption, OptionalStudy, StorageOption, find_spec, print_json
from sweep.cli.sync import set_aside_line
from sweep.cli.text import counts, disk, duration, number, settings
from sweep.errors import SweepError, UserError
from sweep.layout import CONFIRMATION_SUFFIX, StudyLayout

if TYPE_CHECKING:
    from sweep.domain import Spent
    from sweep.spec.model import StudySpec


def status(study: OptionalStudy = None, storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """Show how far a study is; works while it runs, from any terminal.

    Example: `sweep status intents`
    """
    spec = find_spec(study, storage)
    state = status_of(spec)
    if as_json:
        print_json(state)
    else:
        typer.echo("\n".join(_lines(state)))
    tell_of_damaged_notes(spec.layout)
    if state["driver"] is None:
        # Looking needs no secret: without the one of the tracker it can be told nothing.
        with suppress(UserError):
            settle_study(find_spec(study, storage, needed=("tracking.uri",)))


def settle_study(spec: StudySpec) -> None:
    """Its driver may have died with its writer: MLflow would say for ever that it runs. A failure is told, no more."""
    from sweep.study_files import tracking_uri
    from sweep.tracking import settle

    try:
        settle(spec.layout, tracking_uri(spec))
    except (SweepError, OSError) as err:
        sys.stderr.write(f"MLflow may say that {spec.study!r} still runs, and could not be told otherwise: {err}\n")


def tell_of_damaged_notes(layout: StudyLayout) -> None:
    """Say on stderr why what is known of MLflow is missing, if it is."""
    from sweep.tracking import damaged_notes

    if (problem := damaged_notes(layout)) is not None:
        sys.stderr.write(f"warning: {problem}\n")


def status_of(spec: StudySpec) -> dict[str, Any]:
    """State, trials by state, budget, best and baseline of a study, JSON-able."""
    from sweep.checkpoints.space import disk_use
    from sweep.cli.best import row_of
    from sweep.engine.lock import current_holder
    from sweep.redaction import redacted
    from sweep.search import StudyReader
    from sweep.selection.final import is_complete
    from sweep.selection.summary import summarise
    from sweep.selection.ties import compared_too_early
    from sweep.selection.winner import read_verdict
    from sweep.study_files import tracking_uri
    from sweep.tracking import run_ids, set_aside, undelivered

    layout = spec.layout
    with closing(StudyReader(spec)) as reader:
        trials, spent = list(reader.trials()), _with_final(spec, reader.spent())
    holder = current_holder(layout.lock)
    finished = sum(trial.state.is_finished for trial in trials)
    summary = summarise(trials, spec.rule)
    runs = run_ids(layout)
    refused, file = set_aside(layout)
    verdict = read_verdict(layout)
    idle = "COMPLETE" if is_complete(spec, trials, verdict) else "PAUSED"
    state = "RUNNING" if holder is not None else idle
    too_early = compared_too_early(trials, spec)
    return {
        "study": spec.study,
        "state": state,
        "trials": _by_state([t.state.value for t in trials], is_driven=holder is not None),
        "budget": {
            "trials": spec.budget.trials,
            "finished": finished,
            "hours": spec.budget.hours,
            "gpu_hours": spec.budget.gpu_hours,
        },
        "spent": {"hours": spent.seconds / 3600, "gpu_hours": spent.gpu_seconds / 3600},
        "metric": {"name": spec.rule.name, "direction": spec.rule.direction, "from": spec.rule.source},
        "best": row_of(summary.best, runs) if summary.best else None,
        "baseline": row_of(summary.baseline, runs) if summary.baseline else None,
        "gain": summary.gain,
        "verdict": verdict.to_json() if verdict is not None else None,
        "driver": str(holder) if holder else None,
        "storage": str(layout.storage),
        "tracking_uri": redacted(tracking_uri(spec)),
        "undelivered": undelivered(layout),
        "set_aside": {"records": refused, "file": str(file) if refused else None},
        "disk": disk_use(layout),
        "warnings": [] if too_early is None else [too_early],
    }


def _with_final(spec: StudySpec, spent: Spent) -> Spent:
    """What a study and its final have spent: one budget covers both."""
    from sweep.domain import Spent
    from sweep.search import StudyReader
    from sweep.study_files import read_spec

    final = spec.layout.confirmation
    if not final.spec.exists():
        return spent
    with suppress(SweepError), closing(StudyReader(read_spec(final, given=spec))) as reader:
        more = reader.spent()
        return Spent(seconds=spent.seconds + more.seconds, gpu_seconds=spent.gpu_seconds + more.gpu_seconds)
    return spent


def _by_state(states: list[str], *, is_driven: bool) -> dict[str, int]:
    # Without a driver nothing runs: what its death left RUNNING waits to be resumed.
    return dict(Counter(s if is_driven or s not in {"RUNNING", "PENDING"} else "PAUSED" for s in states))


def _lines(state: dict[str, Any]) -> list[str]:
    budget, best, baseline = state["budget"], state["best"], state["baseline"]
    metric = state["metric"]["name"]
    lines = [
        f"study      {state['study']} ({state['state']})",
        f"trials     {budget['finished']} of {budget['trials']} finished: {counts(state['trials'])}",
    ]
    if best:
        lines.append(
            f"best       trial {best['trial_number']}, {metric} {number(best['value'])}: "
            f"{settings(best['hyperparameters'])}"
        )
    if baseline:
        lines.append(f"defaults   trial {baseline['trial_number']}, {metric} {number(baseline['value'])}")
    if state["verdict"]:
        lines.append(f"verdict    {state['verdict']['sentence']}")
    lines.append(f"spent      {_spent(state['spent'], budget)}")
    if state["driver"]:
        lines.append(f"driver     {state['driver']}")
    if state["undelivered"]:
        lines.append(f"MLflow     {state['undelivered']} records wait for delivery: `sweep sync {state['study']}`")
    if state["set_aside"]["records"]:
        lines.append(f"           {set_aside_line(**state['set_aside'])}")
    lines.append(f"storage    {state['storage']}")
    lines.append(f"disk       {disk(state['disk'])}")
    lines += [f"warning    {warning}" for warning in state["warnings"]]
    if state["state"] == "PAUSED":
        lines.append(f"Go on with `sweep resume {state['study'].removesuffix(CONFIRMATION_SUFFIX)}`.")
    return lines


def _spent(spent: dict[str, float], budget: dict[str, Any]) -> str:
    parts = [duration(3600 * spent["hours"]) + ("" if budget["hours"] is None else f" of {budget['hours']:g} h")]
    if spent["gpu_hours"] or budget["gpu_hours"] is not None:
        limit = "" if budget["gpu_hours"] is None else f" of {budget['gpu_hours']:g}"
        parts.append(f"{spent['gpu_hours']:.2f}{limit} GPU hours")
    return ", ".join(parts)
