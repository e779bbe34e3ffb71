"""``sweep promote``."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweep.cli.options import JsonOption, StorageOption, StudyArgument, find_spec, print_json
from sweep.cli.text import number
from sweep.errors import PromotionRefusedError, UserError

if TYPE_CHECKING:
    from sweep.promotion import Promotion

AliasOption = Annotated[str, typer.Option("--alias", help="Name of the place in the registry.")]


def promote(
    study: StudyArgument,
    alias: AliasOption = "champion",
    name: Annotated[
        str | None, typer.Option("--name", help="Registered model; default: the study's name.", show_default=False)
    ] = None,
    if_better: Annotated[
        bool,
        typer.Option("--if-better", help="A better test score is enough; else the gain must be beyond chance."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the decision and change nothing.")] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Register a study's verified winner in MLflow, and make it the champion if it beats the present one.

    Both are evaluated on the study's test split. Exit 1 when the gate refuses; then nothing is changed.

    Example: `sweep promote intents --dry-run`
    """
    check_alias(alias)
    from sweep.promotion import promote as run
    from sweep.redaction import redacted
    from sweep.registries import registry_of
    from sweep.study_files import tracking_uri

    spec = find_spec(study, storage, needed=("history", "tracking.uri"))
    model = name or spec.study
    if not re.fullmatch(r"[\w][\w.\- ]*", model):
        raise UserError(f"--name {model!r}: write letters, digits, '.', '-' and '_' alone.")
    done = run(
        spec,
        registry_of(spec),
        name=model,
        alias=alias,
        if_better=if_better,
        dry_run=dry_run,
        note=lambda line: typer.echo(line, err=True),
    )
    if as_json:
        print_json(_row(done, alias, dry_run=dry_run))
    else:
        _tell(done, alias, redacted(tracking_uri(spec)), dry_run=dry_run)
    if not done.decision.passes:
        raise PromotionRefusedError(f"{model}@{alias}: not promoted: {done.decision.reason}.")


def check_alias(alias: str) -> None:
    """Refuse what MLflow keeps for itself.

    Raises:
        UserError: If it does.
    """
    if not re.fullmatch(r"[\w\-]{1,255}", alias) or re.fullmatch(r"[vV]\d+|latest", alias):
        raise UserError(f"--alias {alias!r}: write letters, digits, '-' and '_'; not `latest`, nor v and a number.")


def _tell(done: Promotion, alias: str, place: str, *, dry_run: bool) -> None:
    winner, decision = done.winner, done.decision
    who = "the average of the finalists" if winner.trial_number is None else f"trial {winner.trial_number}"
    scores = ", ".join(f"{check.split} {check.metric} {number(check.now)}" for check in done.checks)
    typer.echo(f"{who} is intact and reproduces its record: {scores}")
    compared = decision.comparison
    if compared is not None:
        typer.echo(
            f"  on {compared.rows} test rows  challenger {number(compared.challenger)}, "
            f"champion {number(compared.champion)} ({compared.metric}, {compared.direction})"
        )
        typer.echo(f"  gain          {compared.gain:+.4f}{_certainty(compared)}")
    if done.opened_test:
        typer.echo("  The test split was opened once more, for this comparison.")
    if not decision.passes:
        return
    before = "" if done.champion is None else f" (before: version {done.champion.number})"
    if dry_run:
        typer.echo(f"It would become {done.name}@{alias}{before}: {decision.reason}. Nothing was changed.")
        return
    if done.version is not None and done.version == done.champion:
        typer.echo(f"Nothing to do: {decision.reason}.")
    elif done.version is not None:
        typer.echo(f"models:/{done.name}@{alias} is version {done.version.number} now{before}: {decision.reason}.")
        typer.echo(f"  serve it   export MLFLOW_TRACKING_URI={shlex.quote(place)}")
        typer.echo(f"             mlflow models serve -m models:/{done.name}@{alias} --env-manager local")
        typer.echo(f"  verify it  sweep verify models:/{done.name}@{alias}")
        typer.echo(f"  undo it    sweep rollback {done.name}" + ("" if alias == "champion" else f" --alias {alias}"))


def _certainty(compared: Any) -> str:
    if compared.interval is None:
        return ""
    low, high = compared.interval
    chance = "" if compared.p_value is None else f", p = {compared.p_value:.3f}"
    return f"  95 % interval {low:+.4f} to {high:+.4f}{chance}"


def _row(done: Promotion, alias: str, *, dry_run: bool) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "name": done.name,
        "alias": alias,
        "dry_run": dry_run,
        "trial_number": done.winner.trial_number,
        "scores": [{**asdict(check), "reproduced": check.reproduced} for check in done.checks],
        "decision": asdict(done.decision),
        "champion_before": None if done.champion is None else done.champion.number,
        "version": None if done.version is None else done.version.number,
        "opened_test": done.opened_test,
    }
