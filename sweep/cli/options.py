"""Options that several verbs share."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from sweep.errors import UserError
from sweep.layout import StudyLayout
from sweep.storages import Storages

SPEC_SUFFIXES = {".yaml", ".yml"}

StudyArgument = Annotated[
    str, typer.Argument(metavar="STUDY", help="Name of the study, or its spec file.", show_default=False)
]
OptionalStudy = Annotated[
    str | None,
    typer.Argument(metavar="[STUDY]", help="Name of the study, or its spec file; default: the newest."),
]
StorageOption = Annotated[
    Path | None,
    typer.Option(
        "--storage",
        envvar="SWEEP_STORAGE",
        help="Storage root; default: ./mlruns, then the storages used before.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


def find_study(study: str | None, storage: Path | None) -> StudyLayout:
    """Where a study lies, by its name or by its spec file.

    Raises:
        UserError: If there is none.
    """
    if study is not None and Path(study).suffix in SPEC_SUFFIXES and os.path.isfile(study):
        from sweep.spec import load_spec

        layout = load_spec(Path(study)).layout
        return Storages(layout.storage).find(layout.study)
    return named_storages(storage).find(study)


def named_storages(storage: Path | None) -> Storages:
    """Where to look for studies.

    Raises:
        UserError: If the named storage is no folder.
    """
    if storage is not None and not os.path.isdir(storage):
        what = "is no folder" if os.path.exists(storage) else "does not exist"
        raise UserError(f"--storage {storage}: {what}. Name the folder that holds `studies`.")
    return Storages(storage)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))
