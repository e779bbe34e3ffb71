"""``sweep sync``."""

from __future__ import annotations

from typing import Annotated

import typer

from sweep.cli.options import JsonOption, StorageOption, StudyArgument, find_spec, print_json
from sweep.errors import RecordingError


def sync(
    study: StudyArgument,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="Seconds to try.")] = 60.0,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Deliver what the tracker has not taken yet.

    Example: `sweep sync intents`
    """
    from sweep.redaction import redacted
    from sweep.tracking import drain, undelivered
    from sweep.wiring import tracking_uri

    spec = find_spec(study, storage, needed=("tracking.uri",))
    layout = spec.layout
    before = undelivered(layout)
    left = drain(layout, tracking_uri(spec), timeout_seconds=timeout)
    if as_json:
        print_json({"study": spec.study, "delivered": before - left, "undelivered": left})
    else:
        typer.echo(f"delivered {before - left} records; {left} wait.")
    if left:
        raise RecordingError(
            f"{left} records of {spec.study!r} wait for {redacted(tracking_uri(spec))}. Try again once it answers."
        )
