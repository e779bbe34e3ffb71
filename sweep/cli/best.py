"""``sweep best``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweep.cli.options import JsonOption, StorageOption, StudyArgument, find_spec, print_json
from sweep.cli.text import number, settings
from sweep.domain import GAP, Trial, ranked

if TYPE_CHECKING:
    from sweep.spec.model import StudySpec


def best(
    study: StudyArgument,
    k: Annotated[int, typer.Option("-k", min=1, help="How many trials.")] = 1,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the best trials: score, hyperparameters, checkpoint.

    Example: `sweep best intents -k 5`
    """
    from sweep.cli.status import tell_of_damaged_notes
    from sweep.cli.verdict_text import verdict_lines
    from sweep.search import read_trials
    from sweep.selection.winner import read_verdict

    spec = find_spec(study, storage)
    trials = read_trials(spec)
    tell_of_damaged_notes(spec.layout)
    rows = best_rows(spec, trials, k)
    if as_json:
        print_json(rows)
        return
    if not rows:
        typer.echo(
            f"No trial of {spec.study!r} is complete yet ({len(trials)} begun). See `sweep status {spec.study}`."
        )
        return
    for rank, row in enumerate(rows, 1):
        typer.echo(
            f"{rank:>3}. trial {row['trial_number']:<4} {spec.rule.name} {number(row['value'])}   "
            f"{settings(row['hyperparameters'])}"
        )
        if spec.objective.data.folds:
            typer.echo(f"     {_spread(row['metrics'], spec)}")
        if row["test"]:
            typer.echo(f"     test {spec.rule.name} {number(row['test'].get(spec.rule.name))}")
        if GAP in row["metrics"]:
            typer.echo(f"     train–validation gap {number(row['metrics'][GAP])}")
        if row["checkpoint"]:
            typer.echo(f"     {row['checkpoint']}")
    for trial in (trial for trial in trials if trial.is_baseline):
        typer.echo(f"     defaults (trial {trial.number}): {spec.rule.name} {number(trial.value)}")
    verdict = read_verdict(spec.layout)
    if verdict is not None:
        typer.echo("\n".join(["", *verdict_lines(verdict)]))


def best_rows(spec: StudySpec, trials: Sequence[Trial], k: int) -> list[dict[str, Any]]:
    """The best ``k`` complete trials as JSON-able rows, best first."""
    from sweep.tracking import run_ids

    runs = run_ids(spec.layout)
    return [row_of(trial, runs) for trial in ranked(trials, spec.rule)[:k]]


def _spread(metrics: Mapping[str, float], spec: StudySpec) -> str:
    """What the folds say beside their mean."""
    low, high = (number(metrics.get(f"{spec.rule.name}_{end}")) for end in ("low", "high"))
    return f"mean of {spec.objective.data.folds} folds [{low}, {high}]; its model is trained on all rows"


def row_of(trial: Trial, runs: Mapping[int, str]) -> dict[str, Any]:
    """A trial as a JSON-able row; ``checkpoint`` is None when it is not kept."""
    kept = trial.checkpoint if trial.checkpoint and Path(trial.checkpoint).is_dir() else None
    return {
        "trial_number": trial.number,
        "value": trial.value,
        "hyperparameters": dict(trial.hyperparameters),
        "state": trial.state.value,
        "run_id": runs.get(trial.number),
        "checkpoint": kept,
        "test": dict(trial.test) if trial.test is not None else None,
        "step": trial.step,
        "metrics": dict(trial.metrics),
        "attempts": trial.attempt,
        "wall_seconds": trial.wall_seconds,
    }
