"""A study's report, drawn by a process of its own: charts take libraries that a driver does not carry."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from sweep.errors import SweepError
from sweep.layout import StudyLayout
from sweep.ports import Clock, Recorder, StudyFiles
from sweep.spec.credentials import VARIABLES
from sweep.spec.model import StudySpec

DRAWING_SECONDS = 300.0
"""A report of 5,000 trials takes half a minute on a busy core."""

AT_THE_END_SECONDS = 60.0
"""How long a driver that has nothing else to do waits for one."""


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
) -> None:
    """Write the report of a study as one HTML file, and a PNG of each chart into the folder ``png``.

    Args:
        spec: The study.
        to: The file.
        png: A folder, or None for no pictures.
        is_over: Whether this process drives the study, and is at its end.
        timeout_seconds: How long it may take.

    Raises:
        SweepError: If it cannot be read, drawn or written in time.
    """
    layout = spec.layout
    command = [sys.executable, "-m", "dashboards.report", str(layout.storage), layout.study, "--to", str(to)]
    command += ["--png", str(png)] if png else []
    command += ["--over"] if is_over else []
    # What the stored spec leaves out goes by the environment: a command line is everybody's to read.
    secrets = {"tracking.uri": spec.tracking.uri, "history": spec.history}
    environment = os.environ | {VARIABLES[key]: value for key, value in secrets.items() if value}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_seconds,
        )
    except subprocess.TimeoutExpired as err:
        raise SweepError(
            f"{to}: the report was not ready in {timeout_seconds:g} s. Try again on a quiet host."
        ) from err
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise SweepError(lines[-1])


def report_at_the_end(spec: StudySpec, recorder: Recorder, clock: Clock, note: Callable[[str], None]) -> None:
    """Write the report of a session that ends, and hand it to the record; a study is no worse without one."""
    folder = report_folder(spec.layout)
    note("writing the report")
    try:
        write_report(spec, folder / "report.html", folder, is_over=True, timeout_seconds=AT_THE_END_SECONDS)
        recorder.record(StudyFiles(folder=str(folder), name=folder.name, at=clock.now()))
    except (SweepError, OSError) as err:
        note(f"warning: no report: {err} `sweep report {spec.study}` writes it later.")
