"""``sweep sync``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sweep.cli.options import JsonOption, StorageOption, StudyArgument, find_spec, print_json
from sweep.errors import RecordingError
from sweep.redaction import redacted

if TYPE_CHECKING:
    from sweep.spec.model import StudySpec


def sync(
    study: StudyArgument,
    timeout: Annotated[float, typer.Option("--timeout", min=0, help="Seconds to try.")] = 60.0,
    again: Annotated[
        bool, typer.Option("--again", help="Deliver everything once more, also what was refused and set aside.")
    ] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Deliver what the tracker has not taken yet, and put right what it says of a study that nothing drives.

    What the tracker refuses for good is set aside and told. Mend the cause, then use `--again`: what is there
    already stays as it is.

    Example: `sweep sync intents`
    """
    from sweep.engine.lock import current_holder
    from sweep.study_files import tracking_uri
    from sweep.tracking import drain, set_aside, start_over, undelivered

    spec = find_spec(study, storage, needed=("tracking.uri",))
    if spec.layout.confirmation.spec.exists():
        _deliver_final(spec, timeout, again=again)
    layout = spec.layout
    if again:
        start_over(layout)
    before = undelivered(layout)
    left = drain(
        layout,
        tracking_uri(spec),
        timeout_seconds=timeout,
        is_driven=current_holder(layout.lock) is not None,
        watch=_progress(lambda: undelivered(layout)),
    )
    delivered = max(0, before - left)
    refused, file = set_aside(layout)
    if as_json:
        told = {"records": refused, "file": str(file) if refused else None}
        print_json({"study": spec.study, "delivered": delivered, "undelivered": left, "set_aside": told})
    else:
        typer.echo(f"delivered {delivered} records; {left} wait.")
        if refused:
            typer.echo(set_aside_line(refused, file))
    if left:
        raise RecordingError(
            f"{left} records of {spec.study!r} wait for {redacted(tracking_uri(spec))}. Try again once it answers."
        )


def _deliver_final(spec: StudySpec, timeout: float, *, again: bool) -> None:
    """The records of a study's final; what is left of them is told."""
    from sweep.engine.lock import current_holder
    from sweep.study_files import tracking_uri
    from sweep.tracking import drain, start_over

    layout = spec.layout.confirmation
    if again:
        start_over(layout)
    is_driven = current_holder(layout.lock) is not None
    left = drain(layout, tracking_uri(spec), timeout_seconds=timeout, is_driven=is_driven)
    if left:
        sys.stderr.write(f"{left} records of the final {layout.study!r} wait: `sweep sync {layout.study}`.\n")


def set_aside_line(records: int, file: Path | str) -> str:
    """What to tell of records that MLflow refused for good."""
    return f"refused and set aside: {records}, with the reasons in {file}"


def _progress(waiting: Callable[[], int]) -> Callable[[], None]:
    """Tell on stderr how many records wait, whenever that has changed."""
    told: list[int] = []

    def watch() -> None:
        count = waiting()
        if told[-1:] != [count]:
            told.append(count)
            sys.stderr.write(f"{count} records wait …\n")
            sys.stderr.flush()

    return watch
