"""``sweep verify``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli.options import JsonOption, StorageOption, find_spec, print_json
from sweep.cli.registries import TrackingOption, find_registry
from sweep.errors import UserError, VerificationError

if TYPE_CHECKING:
    from sweep.deployment.lineage import Lineage


def verify(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A folder written by `sweep export`; STUDY:TRIAL; or models:/NAME@ALIAS, models:/NAME/2, runs:/ID.",
            show_default=False,
        ),
    ],
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that the model brings along.")
    ] = False,
    tracking: TrackingOption = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Re-evaluate a model and compare it with its recorded scores; exit 1 when it differs.

    Example: `sweep verify intents-model`, `sweep verify models:/intents@champion`
    """
    from sweep import objective_jobs
    from sweep.checkpoints.prepared import in_use
    from sweep.verification import Examiner

    with (
        _found(target, tracking, storage) as (folder, lineage),
        in_use(Path(lineage.data["folder"]).parent),
        objective_jobs.warm_parent() as parent,
    ):
        checks = Examiner(parent=parent, trust_remote_code=trust_remote_code).check(folder, lineage)
    reproduced = all(check.reproduced for check in checks)
    if as_json:
        rows = [
            {"split": c.split, "metric": c.metric, "recorded": c.recorded, "now": c.now, "reproduced": c.reproduced}
            for c in checks
        ]
        print_json({"folder": target, "reproduced": reproduced, "scores": rows})
    else:
        for check in checks:
            mark = "ok     " if check.reproduced else "DIFFERS"
            typer.echo(f"{mark} {check.split} {check.metric}: recorded {check.recorded:.6f}, now {check.now:.6f}")
    if not reproduced:
        raise VerificationError(
            f"{target}: does not reproduce its recorded scores. Do not deploy it; export the model again."
        )
    if not as_json:
        typer.echo(f"{target} reproduces its recorded scores; all files match their sha256.")


@contextmanager
def _found(target: str, tracking: str | None, storage: Path | None) -> Iterator[tuple[Path, Lineage]]:
    """The model that is meant and its record, its files held against their hashes."""
    if target.startswith(("models:/", "runs:/")):
        from sweep.verification import registered

        name = target.partition(":/")[2].partition("@")[0].partition("/")[0]
        with registered(find_registry(name, tracking, storage), target) as found:
            yield found
        return
    study, colon, number = target.rpartition(":")
    if colon and number.isdecimal() and not os.path.exists(target):
        from sweep.deployable import deployable

        chosen, lineage = deployable(find_spec(study, storage), int(number))
        yield chosen.model, lineage
        return
    from sweep.verification import exported

    if not os.path.isdir(target):
        raise UserError(
            f"{target}: no such folder. Name a folder written by `sweep export`, STUDY:TRIAL, "
            "models:/NAME@ALIAS or runs:/ID."
        )
    yield exported(Path(target))
