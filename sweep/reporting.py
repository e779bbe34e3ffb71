"""A study's report, drawn by a process of its own: charts take libraries that a driver does not carry."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sweep.errors import SweepError
from sweep.layout import StudyLayout
from sweep.ports import Clock, Recorder, StudyFiles
from sweep.spec.credentials import VARIABLES
from sweep.spec.model import StudySpec

DRAWING_SECONDS = 300.0
"""A report of 5,000 trials takes half a minute on a busy core."""

AT_THE_END_SECONDS = 120.0
"""How long a driver that has nothing else to do waits for one."""

_POLL_SECONDS = 0.05


def report_folder(layout: StudyLayout) -> Path:
    """Where a study's own report lies, and its pictures."""
    return layout.folder / "report"


def write_report(
    spec: StudySpec,
    to: Path,
    png: Path | None = None,
    *,
    is_over: bool = False,
    timeout_seconds: float = DRAWING_SECONDS,
    is_unwanted: Callable[[], bool] = lambda: False,
) -> None:
    """Write the report of a study as one HTML file, and a PNG of each chart into the folder ``png``.

    Args:
        spec: The study.
        to: The file.
        png: A folder, or None for no pictures.
        is_over: Whether this process drives the study, and is at its end.
        timeout_seconds: How long it may take.
        is_unwanted: Polled; whether to give it up.

    Raises:
        SweepError: If it cannot be read, drawn or written in time, or was given up.
    """
    layout = spec.layout
    command = [sys.executable, "-P", "-m", "dashboards.report", str(layout.storage), layout.study, "--to", str(to)]
    command += ["--png", str(png)] if png else []
    command += ["--over"] if is_over else []
    # What the stored spec leaves out goes by the environment: a command line is everybody's to read.
    secrets = {"tracking.uri": spec.tracking.uri, "history": spec.history}
    environment = os.environ | {VARIABLES[key]: value for key, value in secrets.items() if value}
    until = time.monotonic() + timeout_seconds
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        drawing = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            while drawing.poll() is None:
                if is_unwanted():
                    raise SweepError("it was given up, as the study stops.")
                if time.monotonic() > until:
                    raise SweepError(f"{to}: was not ready in {timeout_seconds:g} s. Try again on a quiet host.")
                time.sleep(_POLL_SECONDS)
        finally:
            drawing.kill()
            drawing.wait()
        if drawing.returncode:
            said.seek(0)
            raise SweepError((said.read().strip().splitlines() or [f"exit code {drawing.returncode}"])[-1])


def report_at_the_end(
    spec: StudySpec,
    recorder: Recorder,
    clock: Clock,
    note: Callable[[str], None],
    is_unwanted: Callable[[], bool],
) -> None:
    """Write the report of a session that ends, and hand it to the record; a study is no worse without one."""
    if is_unwanted():
        return
    folder = report_folder(spec.layout)
    note("writing the report")
    try:
        write_report(
            spec,
            folder / "report.html",
            folder,
            is_over=True,
            timeout_seconds=AT_THE_END_SECONDS,
            is_unwanted=is_unwanted,
        )
        recorder.record(StudyFiles(folder=str(folder), name=folder.name, at=clock.now()))
    except (SweepError, OSError) as err:
        note(f"warning: no report: {err} `sweep report {spec.study}` writes it later.")
    finally:
        _tidy(folder)


def _tidy(folder: Path) -> None:
    """Remove what a drawing process that was killed has left, in this session or in one before."""
    for path in folder.glob(".*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
