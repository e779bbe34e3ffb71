"""A trial's learning curves, as a picture and as a table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from sweep.domain import Report
from sweep.tracking import words

_PANELS = (("accuracy", "macro_f1", "mcc"), ("loss", "train_loss"))


def write_table(history: Sequence[Report], path: Path) -> None:
    """One row for each evaluation, one column for each metric."""
    names = sorted({name for report in history for name in report.metrics})
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["step", "fidelity", "wall_seconds", "attempt", *names])
        for report in history:
            values = [report.metrics.get(name, "") for name in names]
            table.writerow([report.step, report.fidelity, report.wall_seconds, report.attempt, *values])


def draw(history: Sequence[Report], path: Path, *, title: str, metric: str) -> None:
    """A small picture: what is optimised and its kin, and the losses; one panel each.

    Args:
        history: Evaluations by step; at least one.
        path: A PNG file.
        title: Stands above the panels.
        metric: What the study optimises; it has a place even if no panel names it.
    """
    # Not pyplot: it keeps every figure in a global list.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    series = [words.finite(report.metrics) for report in history]
    known = {name for values in series for name in values}
    shown = [[name for name in panel if name in known] for panel in _PANELS]
    if metric in known and not any(metric in panel for panel in shown):
        shown[0].insert(0, metric)
    panels = [panel for panel in shown if panel]
    if not panels:
        return
    # A layout engine would double the time, and there is a picture for every trial.
    figure = Figure(figsize=(4 * len(panels), 3), dpi=80)
    figure.subplots_adjust(left=0.24 / len(panels), right=0.97, bottom=0.16, top=0.88, wspace=0.25)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    for position, names in enumerate(panels, start=1):
        axes = figure.add_subplot(1, len(panels), position)
        for name in names:
            points = [
                (report.step, values[name]) for report, values in zip(history, series, strict=True) if name in values
            ]
            axes.plot(*zip(*points, strict=True), marker=".", label=name)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.legend(fontsize=7)
        axes.grid(alpha=0.3)
    figure.savefig(path)
