"""``sweep init``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from sweep.errors import SweepError, UserError


def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="Spec file to write.")] = Path("study.yaml"),
    task: Annotated[str, typer.Option("--task", help="What is trained; see `sweep tasks`.")] = "text-classification",
    data: Annotated[
        Path | None, typer.Option("--data", help="Training file (csv, tsv, jsonl, parquet …) to fill in.")
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="Column of the text.")] = None,
    label: Annotated[str | None, typer.Option("--label", help="Column of the label.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option("--column", metavar="PART=NAME", help="Any other column that the task reads; repeatable."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite FILE.")] = False,
) -> None:
    """Write a commented spec to start from; without --task and --data it runs as it is.

    Example: `sweep init intents.yaml --data train.csv --label category`
    """
    from sweep.spec import study_name_from, template
    from sweep.spec.needs import needs_of
    from sweep.spec.problems import suggestion
    from sweep.spec.rules import BUNDLED_COLUMNS
    from sweep.spec.tasks import sheet_of, task_sheets
    from sweep.study_files import write_atomically

    if os.path.lexists(file) and not force:
        raise UserError(f"{file}: exists already. Name another file, or overwrite it with --force.")
    if not os.path.isdir(file.parent):
        raise UserError(f"{file}: there is no folder {file.parent}. Create it first.")
    if task not in task_sheets():
        raise UserError(f"--task {task}: is not a known task. {suggestion(task, task_sheets())}")
    parts = sheet_of(task).columns
    if data is None and not {part for part, usual in parts.items() if usual is not None} <= set(BUNDLED_COLUMNS):
        raise UserError(f"--task {task}: there is no bundled data for it. Name a file with --data; {needs_of(task)}.")
    train = None
    if data is not None:
        if not os.path.isfile(data):
            raise UserError(f"{data}: no such file. Name a csv, tsv, jsonl or parquet file with --data.")
        folder = file.parent.absolute()
        train = (
            str(data.absolute().relative_to(folder)) if data.absolute().is_relative_to(folder) else str(data.absolute())
        )
    columns = _columns({"text": text, "label": label}, column or [])
    for part in columns:
        if part not in parts:
            raise UserError(f"{part}: is no column that {task} reads. It reads {', '.join(parts)}.")
    try:
        write_atomically(file, template(study=study_name_from(file.stem), task=task, train=train, columns=columns))
    except (OSError, SweepError) as err:
        raise UserError(str(err)) from err
    typer.echo(f"Wrote {file}. Edit it, then `sweep check {file}` and `sweep run {file}`.")


def _columns(named: Mapping[str, str | None], given: Sequence[str]) -> dict[str, str]:
    """Columns by the parts they play."""
    found = {part: name for part, name in named.items() if name is not None}
    for entry in given:
        part, sign, name = entry.partition("=")
        if not (part and sign and name):
            raise UserError(f"--column {entry}: is not PART=NAME. Write such as --column score=rating.")
        found[part] = name
    return found
