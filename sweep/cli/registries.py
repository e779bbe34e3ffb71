"""Where the registry lies that a verb is about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli.options import find_spec, named_storages
from sweep.errors import StudyNotFoundError, UserError

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
    from sweep.wiring import registry_at, registry_of

    if tracking is not None:
        return registry_at(tracking)
    needed = ("tracking.uri",)
    names = {layout.study for layout in named_storages(storage).studies()}
    try:
        return registry_of(find_spec(model if model in names else None, storage, needed=needed))
    except StudyNotFoundError as err:
        raise UserError(f"{err} Or name MLflow's address with --tracking.") from err
