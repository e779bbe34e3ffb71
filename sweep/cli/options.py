"""Options that several verbs share."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweep.errors import UserError
from sweep.layout import StudyLayout
from sweep.storages import Storages
from sweep.strict_json import strict_json

if TYPE_CHECKING:
    from sweep.spec.model import StudySpec

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
    return _found(_given(study), study, storage)


def find_spec(
    study: str | None,
    storage: Path | None,
    *,
    needed: Collection[str] | None = ("history",),
    **changes: Mapping[str, Any],
) -> StudySpec:
    """The spec of a study found by its name or by its spec file; see :func:`sweep.study_files.read_spec`.

    Raises:
        UserError: If there is none, a change is not allowed, or a secret is not to be had.
        SweepError: If it cannot be read.
    """
    from sweep.study_files import read_spec

    given = _given(study)
    return read_spec(_found(given, study, storage), given=given, needed=needed, **changes)


def _given(study: str | None) -> StudySpec | None:
    """The spec in a file, if a study is named by one."""
    if study is None or Path(study).suffix not in SPEC_SUFFIXES or not os.path.isfile(study):
        return None
    from sweep.spec import load_spec

    return load_spec(Path(study))


def _found(given: StudySpec | None, study: str | None, storage: Path | None) -> StudyLayout:
    return named_storages(storage).find(study) if given is None else Storages(given.layout.storage).find(given.study)


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
    typer.echo(strict_json(value, ascii_only=False))
