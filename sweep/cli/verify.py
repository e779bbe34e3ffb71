"""``sweep verify``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from sweep.cli.options import JsonOption, print_json
from sweep.errors import UserError, VerificationError

TOLERANCE = 1e-6
"""Scores are recorded in fp32 outside autocast, so that they come back on the same kind of machine."""


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder written by `sweep export`.")],
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that the model brings along.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Re-evaluate an exported model and compare it with its recorded scores; exit 1 when it differs.

    Example: `sweep verify intents-model`
    """
    from sweep.deployment.export import verify_files
    from sweep.deployment.lineage import read_lineage

    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder. Name a folder written by `sweep export`.")
    lineage = read_lineage(folder)
    verify_files(folder, lineage)
    rows = _compare(folder, lineage, trust_remote_code=trust_remote_code)
    reproduced = all(row["reproduced"] for row in rows)
    if as_json:
        print_json({"folder": str(folder), "reproduced": reproduced, "scores": rows})
    else:
        for row in rows:
            mark = "ok     " if row["reproduced"] else "DIFFERS"
            typer.echo(f"{mark} {row['split']} {row['metric']}: recorded {row['recorded']:.6f}, now {row['now']:.6f}")
    if not reproduced:
        raise VerificationError(
            f"{folder}: does not reproduce its recorded scores. Do not deploy it; export the model again."
        )
    if not as_json:
        typer.echo(f"{folder} reproduces its recorded scores; all files match their sha256.")


def _compare(folder: Path, lineage: Any, *, trust_remote_code: bool) -> list[dict[str, Any]]:
    from sweep import wiring
    from sweep.checkpoints.prepared import in_use
    from sweep.execution.jobs import run_job
    from sweep.spec.references import with_values

    # Whom to trust is not for the folder to say.
    trust = {"trust_remote_code": trust_remote_code}
    training = with_values(lineage.objective.get("training", {}), os.environ)
    objective = {**lineage.objective, "training": training, **trust}
    settings = {**with_values(lineage.settings, os.environ), **trust}
    recorded: dict[str, Mapping[str, float]] = {"validation": lineage.validation}
    if lineage.test is not None:
        recorded["test"] = lineage.test
    rows = []
    prepared = Path(lineage.data["folder"])
    with in_use(prepared.parent), wiring.warm_parent() as parent:
        if not prepared.is_dir():
            arguments = {"settings": objective, "folder": prepared.parent}
            data = run_job(parent, lineage.task, "prepare", arguments, timeout_seconds=wiring.JOB_TIMEOUT_SECONDS)
            if data["data_hash"] != lineage.data["data_hash"]:
                raise VerificationError(
                    f"{folder}: its data has changed since ({data['data_hash'][:12]} is not "
                    f"{lineage.data['data_hash'][:12]}). Restore the data files, then verify again."
                )
            prepared = Path(data["folder"])
        for split, metrics in recorded.items():
            now = wiring.evaluate_model(
                parent,
                task=lineage.task,
                model=folder.absolute(),
                prepared=str(prepared),
                split=split,
                settings=settings,
            )
            name = lineage.metric["name"]
            difference = abs(now[name] - metrics[name])
            row = {"split": split, "metric": name, "recorded": metrics[name], "now": now[name]}
            rows.append({**row, "reproduced": difference <= TOLERANCE})
    return rows
