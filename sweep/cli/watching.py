"""Observers for a running study: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from sweep.cli.frame import final, frame
from sweep.cli.text import duration, number
from sweep.domain import Report, Setback, Trial, fold_metric
from sweep.engine.view import StudySnapshot
from sweep.spec.model import StudySpec
from sweep.study_view import StudyView, StudyWatch

_READ_SECONDS = 1.0
_SHARE = 20.0
"""Between two readings of the history passes at least so many times what one takes."""


def _summary(snapshot: StudySnapshot) -> str:
    """Who leads; in a final that is said by its verdict alone."""
    if snapshot.is_final:
        return ""
    best = snapshot.best
    leader = f"best {number(best.value)} (trial {best.number})" if best else "no trial complete yet"
    return f" {leader} · defaults {number(snapshot.baseline)}"


def _setback(trial: Trial, setback: Setback) -> str:
    reason = (setback.reason.strip().splitlines() or [""])[-1]
    return f"{trial.name}: attempt {setback.attempt} {setback.end.value.lower()} ({reason})"


class PlainView:
    """One line for each thing that happens, on stderr; for logs and pipes."""

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self._began = time.monotonic()

    def __enter__(self) -> PlainView:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def note(self, text: str) -> None:
        """Say one line."""
        self._say(text)

    def reported(self, trial: Trial, report: Report) -> None:
        """Say a trial's evaluation."""
        mean = number(report.metrics[self._metric])
        fold = report.metrics.get(fold_metric(self._metric))
        if fold is None:
            self._say(f"{trial.name}: step {report.step}, {self._metric} {mean}")
        else:
            self._say(f"{trial.name}: fold {report.fidelity:g}, {self._metric} {number(fold)}, mean {mean}")

    def attempt_lost(self, trial: Trial, setback: Setback) -> None:
        """Say that an attempt ended badly."""
        self._say(_setback(trial, setback))

    def trial_over(self, trial: Trial, snapshot: StudySnapshot) -> None:
        """Say how a trial ended."""
        self._say(
            f"{trial.name} {trial.state.value} {number(trial.value)} "
            f"[{snapshot.finished}/{snapshot.budget}]{_summary(snapshot)}"
        )
        if trial.error:
            self._say(f"{trial.name}: {trial.error.strip().splitlines()[-1]}")

    def tick(self, snapshot: StudySnapshot) -> None:
        """Nothing happened."""

    def _say(self, text: str) -> None:
        elapsed = time.monotonic() - self._began
        with contextlib.suppress(OSError):  # who listened is gone; that is no reason to end a study
            sys.stderr.write(f"[{int(elapsed) // 60:02d}:{int(elapsed) % 60:02d}] {text}\n")
            sys.stderr.flush()


class LiveView:
    """The study as it trains, redrawn in place on a terminal.

    What is stored is read as ``sweep watch`` reads it; between evaluations the driver tells how far its trials are.
    """

    def __init__(self, spec: StudySpec) -> None:
        self._spec = spec
        self._note = ""
        self._snapshot: StudySnapshot | None = None
        self._watch: StudyWatch | None = None
        self._view: StudyView | None = None
        self._next_read = 0.0
        self._began = time.monotonic()
        console = Console(stderr=True)
        self._live = Live(console=console, get_renderable=self._drawn, refresh_per_second=4, transient=True)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        if self._watch is not None:
            self._watch.close()

    def note(self, text: str) -> None:
        """Show what takes a while; warnings stay on the screen."""
        if text.startswith("warning"):
            self._live.console.print(Text(text, style="yellow"))
        else:
            self._note = text

    def reported(self, trial: Trial, report: Report) -> None:
        """The next redraw shows it."""

    def attempt_lost(self, trial: Trial, setback: Setback) -> None:
        """Say that an attempt ended badly; the line stays."""
        self._live.console.print(Text(_setback(trial, setback), style="red"))

    def trial_over(self, trial: Trial, snapshot: StudySnapshot) -> None:
        """The next redraw shows it."""

    def tick(self, snapshot: StudySnapshot) -> None:
        """Redraw from this snapshot."""
        self._snapshot = snapshot
        self._note = "stopping: trials commit a checkpoint at their next step and leave" if snapshot.stopping else ""

    def _drawn(self) -> RenderableType:
        try:
            return self._draw()
        except Exception as err:  # noqa: BLE001  what cannot be drawn must not end a study
            return Text(f"{self._spec.study}  cannot be shown: {err}", style="dim")

    def _draw(self) -> RenderableType:
        snapshot = self._snapshot
        view = self._read() if snapshot is not None else None
        if snapshot is None or view is None:
            head = Text(self._spec.study, style="bold")
            return head.append(f"  {self._note} · {duration(time.monotonic() - self._began)}", style="dim")
        if snapshot.is_final:
            return Group(frame(view, note=self._note), final(snapshot))
        return frame(view, {running.number: running for running in snapshot.running}, self._note)

    def _read(self) -> StudyView | None:
        """The study as stored; in a large one less often, so that the driver has the time."""
        began = time.monotonic()
        if began >= self._next_read:
            try:
                self._watch = self._watch or StudyWatch(self._spec)
                self._view = self._watch.read()
            finally:
                self._next_read = began + max(_READ_SECONDS, _SHARE * (time.monotonic() - began))
        return self._view


def watching(spec: StudySpec, *, quiet: bool = False) -> PlainView | LiveView:
    """The view that fits: live on a terminal, plain lines elsewhere."""
    if sys.stderr.isatty() and not quiet:
        return LiveView(spec)
    return PlainView(spec.rule.name)
