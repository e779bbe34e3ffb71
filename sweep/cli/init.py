"""``sweep init``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from sweep.errors import UserError


def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="Spec file to write.")] = Path("study.yaml"),
    data: Annotated[
        Path | None, typer.Option("--data", help="Training file (csv, tsv, jsonl, parquet) to fill in.")
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="Column of the text.")] = None,
    label: Annotated[str | None, typer.Option("--label", help="Column of the label.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
) -> None:
    """Write a commented spec to start from; without --data it runs as it is.

    Example: `sweep init intents.yaml --data train.csv --label category`
    """
    from sweep.spec import study_name_from, template
    from sweep.study_files import write_atomically

    if os.path.lexists(file) and not force:
        raise UserError(f"{file}: exists already. Name another file, or overwrite it with --force.")
    if not os.path.isdir(file.parent):
        raise UserError(f"{file}: there is no folder {file.parent}. Create it first.")
    train = None
    if data is not None:
        if not os.path.isfile(data):
            raise UserError(f"{data}: no such file. Name a csv, tsv, jsonl or parquet file with --data.")
        folder = file.parent.absolute()
        train = (
            str(data.absolute().relative_to(folder)) if data.absolute().is_relative_to(folder) else str(data.absolute())
        )
    try:
        write_atomically(file, template(study=study_name_from(file.stem), train=train, text=text, label=label))
    except OSError as err:
        raise UserError(f"{file}: cannot be written ({err.strerror}). Name another file.") from err
    typer.echo(f"Wrote {file}. Edit it, then `sweep check {file}` and `sweep run {file}`.")
