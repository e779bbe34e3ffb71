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
        bool, typer.Option("--adapter", help="The adapter alone, as peft loads it onto the base model.")
    ] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a trial's model as a folder that stands on its own: weights, tokenizer, config, card, lineage.

    An adapter is merged into its base model, unless --adapter asks for it alone.

    Example: `sweep export intents --to intents-model`
    """
    from sweep.checkpoints.adapted import base_of
    from sweep.deployable import deployable
    from sweep.deployment.export import export_model

    if adapter and onnx:
        raise UserError("--onnx: an adapter alone is not written as ONNX. Leave one of --adapter and --onnx out.")
    spec = find_spec(study, storage)
    chosen, lineage = deployable(spec, trial)
    base = base_of(chosen.model)
    if adapter and base is None:
        raise UserError("--adapter: this model is no adapter (method: lora or dora). Leave it out.")
    if onnx or (base is not None and not adapter):
        from sweep.converted_export import export_converted

        trust = spec.objective.trust_remote_code
        lineage = export_converted(chosen.model, lineage, to, trust_remote_code=trust, onnx=onnx)
    else:
        lineage = export_model(chosen.model, lineage, to)
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
    if adapter and base is not None:
        held = "" if base.quantization == "none" else f" in {base.quantization}, the only one on which its scores hold"
        typer.echo(f"It is an adapter of {base.reference}{held}: PeftModel.from_pretrained(base, {str(to)!r}).")
    typer.echo(f"Check that it reproduces its score: sweep verify {to}")
