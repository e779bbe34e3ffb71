"""Observers for a running study: a live view on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweep.cli.text import counts, duration, number, settings
from sweep.domain import Report, Setback, Trial
from sweep.engine.view import StudySnapshot

RECENT_TRIALS = 6


def _summary(snapshot: StudySnapshot) -> str:
    best = snapshot.best
    leader = f"best {number(best.value)} (trial {best.number})" if best else "no trial complete yet"
    return f"{leader} · defaults {number(snapshot.baseline)}"


def _setback(trial_number: int, attempt: int, setback: Setback) -> str:
    reason = (setback.reason.strip().splitlines() or [""])[-1]
    return f"trial {trial_number}: attempt {attempt} {setback.end.value.lower()} ({reason})"


def _finished(snapshot: StudySnapshot) -> int:
    return sum(count for state, count in snapshot.counts.items() if state not in {"RUNNING", "PAUSED", "PENDING"})


def _eta(snapshot: StudySnapshot) -> str:
    done = _finished(snapshot)
    if not done or done >= snapshot.budget:
        return ""
    return f" · about {duration(snapshot.elapsed_seconds / done * (snapshot.budget - done))} left"


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

    def reported(self, report: Report, value: float) -> None:
        """Say a trial's evaluation."""
        own = report.metrics[self._metric]
        self._say(f"trial {report.trial_number}: step {report.step}, {self._metric} {number(own)}")

    def attempt_lost(self, trial_number: int, attempt: int, setback: Setback) -> None:
        """Say that an attempt ended badly."""
        self._say(_setback(trial_number, attempt, setback))

    def trial_over(self, trial: Trial, snapshot: StudySnapshot) -> None:
        """Say how a trial ended."""
        self._say(
            f"trial {trial.number} {trial.state.value} {number(trial.value)} "
            f"[{_finished(snapshot)}/{snapshot.budget}] {_summary(snapshot)}"
        )
        if trial.error:
            self._say(f"trial {trial.number}: {trial.error.strip().splitlines()[-1]}")

    def tick(self, snapshot: StudySnapshot) -> None:
        """Nothing happened."""

    def _say(self, text: str) -> None:
        elapsed = time.monotonic() - self._began
        with contextlib.suppress(OSError):  # who listened is gone; that is no reason to end a study
            sys.stderr.write(f"[{int(elapsed) // 60:02d}:{int(elapsed) % 60:02d}] {text}\n")
            sys.stderr.flush()


class LiveView:
    """Trials as they train, redrawn in place on a terminal."""

    def __init__(self, study: str, metric: str) -> None:
        self._study, self._metric = study, metric
        self._recent: deque[Trial] = deque(maxlen=RECENT_TRIALS)
        self._note = ""
        self._snapshot: StudySnapshot | None = None
        self._began = time.monotonic()
        console = Console(stderr=True)
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=4, transient=True)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        """Show what takes a while; warnings stay on the screen."""
        if text.startswith("warning"):
            self._live.console.print(Text(text, style="yellow"))
        else:
            self._note = text

    def reported(self, report: Report, value: float) -> None:
        """The next redraw shows it."""

    def attempt_lost(self, trial_number: int, attempt: int, setback: Setback) -> None:
        """Say that an attempt ended badly; the line stays."""
        self._live.console.print(Text(_setback(trial_number, attempt, setback), style="red"))

    def trial_over(self, trial: Trial, snapshot: StudySnapshot) -> None:
        """Add to the finished trials."""
        self._recent.append(trial)

    def tick(self, snapshot: StudySnapshot) -> None:
        """Redraw from this snapshot."""
        self._snapshot = snapshot
        self._note = "stopping: trials commit a checkpoint at their next step and leave" if snapshot.stopping else ""

    def _draw(self) -> Group:
        snapshot = self._snapshot
        head = Text(self._study, style="bold")
        if snapshot is None:
            head.append(f"  {self._note} · {duration(time.monotonic() - self._began)}", style="dim")
            return Group(head)
        head.append(f"  {_finished(snapshot)}/{snapshot.budget} trials · {duration(snapshot.elapsed_seconds)}")
        head.append(_eta(snapshot), style="dim")
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for column in ("trial", "state", self._metric, "progress", "step", "loss", "hyperparameters"):
            table.add_column(column, no_wrap=True, overflow="ellipsis")
        for trial in self._recent:
            is_best = snapshot.best is not None and trial.number == snapshot.best.number
            name = f"{trial.number} ★" if is_best else str(trial.number)
            style = "green" if is_best else "dim"
            step = str(trial.step or "")
            row = (
                name,
                trial.state.value,
                number(trial.value),
                "",
                step,
                "",
                settings(trial.hyperparameters),
            )
            table.add_row(*row, style=style)
        for running in snapshot.running:
            bar = ProgressBar(total=max(1, running.total_steps), completed=running.step, width=20)
            loss = "" if running.loss is None else f"{running.loss:.3f}"
            step = f"{running.step}/{running.total_steps}" if running.total_steps else "starting"
            table.add_row(str(running.number), "RUNNING", number(running.value), bar, step, loss, "")
        tail = Text(f"{_summary(snapshot)} · {counts(snapshot.counts)}", style="bold")
        if self._note:
            tail.append(f"\n{self._note}", style="yellow")
        return Group(head, table, tail)


def watching(study: str, metric: str, *, quiet: bool = False) -> PlainView | LiveView:
    """The view that fits: live on a terminal, plain lines elsewhere."""
    if sys.stderr.isatty() and not quiet:
        return LiveView(study, metric)
    return PlainView(metric)
