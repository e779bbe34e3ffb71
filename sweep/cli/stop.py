"""``sweep stop``."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from sweep.cli.options import StorageOption, StudyArgument, find_study
from sweep.errors import SweepError


def stop(
    study: StudyArgument,
    now: Annotated[
        bool, typer.Option("--now", help="End running trials at once; they go on from their last checkpoint.")
    ] = False,
    wait: Annotated[float, typer.Option("--wait", help="Seconds to wait until the driver is gone.")] = 0.0,
    storage: StorageOption = None,
) -> None:
    """Stop a running study: no new trials, running ones commit a checkpoint at their next step.

    Example: `sweep stop intents --now`
    """
    from sweep.engine.control import StopRequest, request_stop
    from sweep.engine.lock import current_holder

    layout = find_study(study, storage)
    layout = layout.searched or layout  # one driver drives both
    if current_holder(layout.lock) is None:
        typer.echo(f"study {layout.study!r} is not running.")
        return
    request_stop(layout, StopRequest.NOW if now else StopRequest.DRAIN)
    typer.echo(f"asked the driver of {layout.study!r} to stop{' at once' if now else ''}.")
    until = time.monotonic() + wait
    while wait and current_holder(layout.lock) is not None:
        if time.monotonic() > until:
            raise SweepError(f"study {layout.study!r} still runs after {wait:g} s. Try `--now`.")
        time.sleep(0.2)
    if wait:
        sys.stderr.write("stopped\n")
