"""``sweep stop``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from sweep.cli.options import StorageOption, StudyArgument, find_spec, find_study
from sweep.errors import SweepError


def stop(
    study: StudyArgument,
    now: Annotated[
        bool, typer.Option("--now", help="End running trials at once; they go on from their last checkpoint.")
    ] = False,
    trial: Annotated[int | None, typer.Option("--trial", min=0, help="End this trial alone, as CANCELLED.")] = None,
    wait: Annotated[float, typer.Option("--wait", help="Seconds to wait until the driver is gone.")] = 0.0,
    storage: StorageOption = None,
) -> None:
    """Stop a running study: no new trials, running ones commit a checkpoint at their next step.

    Example: `sweep stop intents --now`, `sweep stop intents --trial 3`
    """
    from sweep import steering
    from sweep.engine.lock import current_holder

    if trial is not None:
        _stop_trial(study, trial, storage)
        return
    layout = find_study(study, storage)
    layout = layout.searched or layout  # one driver drives both
    if current_holder(layout.lock) is None:
        typer.echo(f"study {layout.study!r} is not running.")
        return
    typer.echo(steering.stop_study(layout, now=now))
    until = time.monotonic() + wait
    while wait and current_holder(layout.lock) is not None:
        if time.monotonic() > until:
            raise SweepError(f"study {layout.study!r} still runs after {wait:g} s. Try `--now`.")
        time.sleep(0.2)
    if wait:
        sys.stderr.write("stopped\n")


def _stop_trial(study: str, trial: int, storage: Path | None) -> None:
    from sweep import steering
    from sweep.search import read_trials

    spec = find_spec(study, storage)
    typer.echo(steering.cancel_trial(spec, read_trials(spec), trial))
