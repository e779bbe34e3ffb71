"""``sweep export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweep.cli.options import JsonOption, StorageOption, StudyArgument, find_spec, print_json
from sweep.cli.text import number
from sweep.errors import UserError


def export(
    study: StudyArgument,
    to: Annotated[Path, typer.Option("--to", help="Folder to write.", show_default=False)],
    trial: Annotated[int | None, typer.Option("--trial", help="Trial number; default: the winner.")] = None,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Add model.onnx, compared with the weights on validation rows.")
    ] = False,
    adapter: Annotated[
        bool, typer.Option("--adapter", help="Add adapter/: what the trial trained, before it was merged.")
    ] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a trial's model as a folder that stands on its own: weights, tokenizer, config, card, lineage.

    Example: `sweep export intents --to intents-model`
    """
    from sweep.checkpoints import adapter_folder
    from sweep.deployable import deployable
    from sweep.deployment.export import export_model

    spec = find_spec(study, storage)
    chosen, lineage = deployable(spec, trial)
    extra = {}
    if adapter:
        beside = adapter_folder(chosen.model.parent)
        if not beside.is_dir():
            raise UserError("--adapter: this model was not trained by an adapter (method: lora or dora). Leave it out.")
        extra["adapter"] = beside
    if onnx:
        from sweep.onnx_export import export_with_onnx

        lineage = export_with_onnx(
            chosen.model, lineage, to, trust_remote_code=spec.objective.trust_remote_code, folders=extra
        )
    else:
        lineage = export_model(chosen.model, lineage, to, folders=extra)
    if as_json:
        row = {"folder": str(to.absolute()), "trial_number": chosen.trial_number, "value": chosen.score}
        test = None if lineage.test is None else dict(lineage.test)
        print_json({**row, "metrics": dict(lineage.validation), "test": test, "onnx": lineage.onnx})
        return
    who = "the average of the finalists" if chosen.trial_number is None else f"trial {chosen.trial_number}"
    typer.echo(f"Exported {who} ({spec.rule.name} {number(chosen.score)}) to {to}.")
    if lineage.onnx is not None:
        typer.echo(
            f"{lineage.onnx['file']} gives the same logits on {lineage.onnx['rows']} validation rows "
            f"(largest difference {lineage.onnx['max_difference']:.1e})."
        )
    typer.echo(f"Check that it reproduces its score: sweep verify {to}")
