"""What ``run`` and ``resume`` share: drive a study, then tell how it ended."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from sweep.cli.options import print_json
from sweep.cli.text import counts, duration, number, settings
from sweep.cli.watching import watching
from sweep.domain import Trial
from sweep.engine.control import StopCause
from sweep.errors import SweepError
from sweep.redaction import redact_streams
from sweep.selection.summary import StudySummary, summarise
from sweep.spec.model import StudySpec

_EXIT_CODES: dict[StopCause | None, int] = {StopCause.REQUEST: 130, StopCause.DISK: 1, StopCause.WORKERS: 1}


def drive_and_tell(spec: StudySpec, *, resuming: bool, as_json: bool) -> None:
    """Run a study with a view of it, then print its result.

    Raises:
        SweepError: If the study failed.
        typer.Exit: With 130 if it was stopped before its budget was spent.
    """
    import time

    from sweep import wiring
    from sweep.selection.ties import compared_too_early
    from sweep.study_files import redactor_for

    began = time.monotonic()
    redact_streams(redactor_for(spec))
    with watching(spec) as view:
        result = wiring.drive(spec, resuming=resuming, observer=view, note=view.note)
    if as_json:
        from sweep.cli.best import best_rows
        from sweep.cli.status import status_of

        print_json({**status_of(spec), "top": best_rows(spec, result.trials, spec.keep)})
    else:
        _tell(spec, result, time.monotonic() - began)
    if (too_early := compared_too_early(result.trials, spec)) is not None:
        sys.stderr.write(f"warning: {too_early}\n")
    if result.undelivered:
        sys.stderr.write(
            f"{result.undelivered} records have not reached MLflow yet. Nothing is lost: "
            f"`sweep sync {spec.study}` delivers them.\n"
        )
    if result.loop.state == "FAILED":
        raise SweepError(
            f"study {spec.study!r} stopped: {result.loop.reason}\n"
            f"Mend the cause, then go on with `sweep resume {spec.study}`."
        )
    if result.loop.state == "PAUSED":
        sys.stderr.write(f"study {spec.study!r}: {result.loop.reason}. Go on with `sweep resume {spec.study}`.\n")
        if result.loop.cause in _EXIT_CODES:
            raise typer.Exit(_EXIT_CODES[result.loop.cause])


def _tell(spec: StudySpec, result: Any, seconds: float) -> None:
    from collections import Counter

    by_state = Counter(trial.state.value for trial in result.trials)
    typer.echo(f"Study {spec.study}: {len(result.trials)} trials in {duration(seconds)} ({counts(by_state)})")
    summary = summarise(result.trials, spec.rule)
    if summary.best is None:
        typer.echo("No trial is complete yet.")
        return
    typer.echo("\n".join(summary_lines(spec, summary)))


def summary_lines(spec: StudySpec, summary: StudySummary) -> list[str]:
    """The winner beside the defaults, where its checkpoint lies, and what to do next."""
    best, baseline = summary.best, summary.baseline
    if best is None:
        return []
    metric = spec.rule.name
    lines = [
        "",
        f"  best        trial {best.number:<4} {metric} {number(best.value)}   {settings(best.hyperparameters)}",
    ]
    if baseline is not None:
        lines.append(
            f"  defaults    trial 0    {metric} {number(baseline.value)}   {settings(baseline.hyperparameters)}"
        )
        folds = spec.objective.data.folds
        rows = f"as the mean over {folds} folds" if folds else "on the validation split"
        lines.append(f"  gain        {_gain(spec, summary.gain or 0.0)} {rows}")
    if best.test is not None:
        beside = ""
        if baseline is not None and baseline.test is not None and baseline.number != best.number:
            beside = f" (defaults {number(baseline.test[metric])})"
        lines.append(f"  test        {metric} {number(best.test[metric])}{beside}, opened for these two alone")
    lines += [f"  checkpoint  {_kept(best)}", *_verdict_lines(spec), "", "Next:"]
    return lines + _next_commands(spec)


def _verdict_lines(spec: StudySpec) -> list[str]:
    from sweep.cli.verdict_text import verdict_lines
    from sweep.selection.winner import read_verdict

    verdict = read_verdict(spec.layout)
    return [] if verdict is None else ["", *(f"  {line}" for line in verdict_lines(verdict))]


def _gain(spec: StudySpec, gain: float) -> str:
    sign = "+" if spec.rule.direction == "maximize" else "−"
    return f"{sign}{gain:.4f}" if gain else "none: the defaults are the best so far"


def _kept(trial: Trial) -> str:
    if trial.checkpoint and Path(trial.checkpoint).is_dir():
        return trial.checkpoint
    return "not kept"


def _next_commands(spec: StudySpec) -> list[str]:
    commands = {
        f"sweep export {spec.study} --to {spec.study}-model": "weights, tokenizer and card in one folder",
        f"sweep best {spec.study} -k 5": "the leading trials",
        "sweep ui": "every trial's curves, parameters and files in MLflow",
    }
    width = max(len(command) for command in commands)
    return [f"  {command:<{width}}  {what}" for command, what in commands.items()]
