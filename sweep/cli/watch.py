"""``sweep watch``."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sweep.cli.options import OptionalStudy, StorageOption, find_spec, print_json
from sweep.strict_json import strict_json

if TYPE_CHECKING:
    from sweep.study_view import StudyView, StudyWatch

COLUMNS_OF_A_PIPE = 80


def watch(
    study: OptionalStudy = None,
    once: Annotated[bool, typer.Option("--once", help="Show it as it is now, and end.")] = False,
    interval: Annotated[float, typer.Option("--interval", min=0.1, help="Seconds between two looks.")] = 1.0,
    storage: StorageOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line for each thing that happens; with --once, the study.")
    ] = False,
) -> None:
    """Watch a study from any terminal until its driver ends; changes nothing.

    Example: `sweep watch intents`
    """
    from sweep.redaction import redact_streams
    from sweep.study_files import redactor_for
    from sweep.study_view import StudyWatch

    spec = find_spec(study, storage)
    redact_streams(redactor_for(spec))
    with StudyWatch(spec) as looking:
        if once:
            _show_once(looking.read(), as_json=as_json)
        elif as_json or not sys.stdout.isatty():
            _say_lines(looking, interval, as_json=as_json)
        else:
            _redraw(looking, interval)


def _show_once(view: StudyView, *, as_json: bool) -> None:
    from rich.console import Console

    from sweep.cli.frame import frame
    from sweep.study_view import to_json

    if as_json:
        # Who reads it once has no use for the name of the moment, and "token" is no word to print.
        print_json({key: value for key, value in to_json(view).items() if key != "token"})
        return
    width = None if sys.stdout.isatty() else int(os.environ.get("COLUMNS", COLUMNS_OF_A_PIPE))
    Console(width=width).print(frame(view))


def _say_lines(looking: StudyWatch, interval: float, *, as_json: bool) -> None:
    from sweep.cli.happenings import happenings, line

    before: StudyView | None = None
    while True:
        now = looking.read()
        for happening in happenings(before, now):
            typer.echo(_json_line(happening) if as_json else line(happening, now.facts.metric))
        sys.stdout.flush()
        if now.facts.state != "RUNNING":
            return
        before = now
        time.sleep(interval)


def _redraw(looking: StudyWatch, interval: float) -> None:
    from rich.live import Live

    from sweep.cli.frame import frame

    view = looking.read()
    # What is left on the screen at the end is the last look.
    with Live(frame(view), auto_refresh=False) as live:
        while view.facts.state == "RUNNING":
            time.sleep(interval)
            view = looking.read()
            live.update(frame(view), refresh=True)


def _json_line(value: Any) -> str:
    return json.dumps(json.loads(strict_json(value)))
