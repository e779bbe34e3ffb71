"""``sweep export``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from sweep.cli.options import JsonOption, StorageOption, StudyArgument, find_spec, print_json
from sweep.cli.text import number
from sweep.domain import Trial, ranked
from sweep.errors import UserError


def export(
    study: StudyArgument,
    to: Annotated[Path, typer.Option("--to", help="Folder to write.", show_default=False)],
    trial: Annotated[int | None, typer.Option("--trial", help="Trial number; default: the best.")] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a trial's model as a folder that stands on its own: weights, tokenizer, config, card, lineage.

    Example: `sweep export intents --to intents-model`
    """
    from sweep.checkpoints import model_folder, read_manifest
    from sweep.deployment.export import export_model
    from sweep.finale import lineage_of
    from sweep.search import read_trials
    from sweep.study_files import read_facts, redactor_for
    from sweep.tracking import run_ids

    spec = find_spec(study, storage)
    layout = spec.layout
    chosen = _choose(spec.study, ranked(read_trials(spec), spec.rule), trial)
    if chosen.checkpoint is None or not Path(chosen.checkpoint).is_dir():
        raise UserError(
            f"trial {chosen.number} of {spec.study!r}: its model was not kept (keep={spec.keep} in the spec). "
            f"Export one of the kept trials: `sweep best {spec.study} -k {spec.keep}`."
        )
    read_manifest(Path(chosen.checkpoint))
    lineage = lineage_of(
        spec,
        chosen,
        data=read_facts(layout, "data"),
        environment=read_facts(layout, "environment"),
        run_id=run_ids(layout).get(chosen.number),
        now=time.time(),
        redactor=redactor_for(spec),
    )
    export_model(model_folder(Path(chosen.checkpoint)), lineage, to)
    if as_json:
        row = {"folder": str(to.absolute()), "trial_number": chosen.number, "value": chosen.value}
        print_json({**row, "metrics": dict(chosen.metrics), "test": dict(chosen.test) if chosen.test else None})
        return
    typer.echo(f"Exported trial {chosen.number} ({spec.rule.name} {number(chosen.value)}) to {to}.")
    typer.echo(f"Check that it reproduces its score: sweep verify {to}")


def _choose(study: str, order: list[Trial], number: int | None) -> Trial:
    if number is None:
        if not order:
            raise UserError(f"study {study!r} has no complete trial yet. See `sweep status {study}`.")
        return order[0]
    for trial in order:
        if trial.number == number:
            return trial
    raise UserError(f"trial {number} of {study!r} is not complete. Complete ones: `sweep best {study} -k 100`.")
