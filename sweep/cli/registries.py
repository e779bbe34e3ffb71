"""Where the registry lies that a verb is about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli.options import named_storages
from sweep.errors import UserError
from sweep.storages import DEFAULT_STORAGE

if TYPE_CHECKING:
    from sweep.tracking.registry import Registry

TrackingOption = Annotated[
    str | None,
    typer.Option(
        "--tracking",
        envvar="SWEEP_TRACKING_URI",
        help="MLflow's store or server; default: that of the study of this name, or of the newest.",
        show_default=False,
    ),
]


def find_registry(model: str | None, tracking: str | None, storage: Path | None) -> Registry:
    """The registry at an address, or of the study that a registered model is named after, or of the newest study.

    Raises:
        UserError: If there is no study to tell where.
    """
    from sweep.registries import registry_at, registry_of
    from sweep.study_files import read_spec

    if tracking is not None:
        return registry_at(tracking)
    studies = named_storages(storage).studies()
    if not studies:
        raise UserError("no study tells where the registry is. Name --storage, or MLflow's address with --tracking.")
    here = Path(DEFAULT_STORAGE).absolute()
    # Of its name before others, here before elsewhere, newer before older.
    chosen = max(studies, key=lambda layout: (layout.study == model, layout.storage == here))
    return registry_of(read_spec(chosen, needed=("tracking.uri",)))
