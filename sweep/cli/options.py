"""Options that several verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sweep.layout import StudyLayout
from sweep.storages import Storages
from sweep.strict_json import strict_json

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
    if study is not None and Path(study).suffix in SPEC_SUFFIXES and Path(study).is_file():
        from sweep.spec import load_spec

        layout = load_spec(Path(study)).layout
        return Storages(layout.storage).find(layout.study)
    return Storages(storage).find(study)


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(strict_json(value, ascii_only=False))
