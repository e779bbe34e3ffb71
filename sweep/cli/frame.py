"""A study on a terminal: what it has found, how far it is, where trials are cut, what runs now."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sweep.cli.text import counts, duration, number, settings
from sweep.domain import TrialState
from sweep.engine.view import RunningTrial, StudySnapshot
from sweep.study_view import StudyView, TrialView

RECENT_TRIALS = 6
_BAR = 10
_STATE_STYLES = {"RUNNING": "green", "COMPLETE": "green", "PAUSED": "yellow"}
_BAD = frozenset({TrialState.DIVERGED, TrialState.OOM, TrialState.TIMEOUT, TrialState.FAILED, TrialState.CANCELLED})


def frame(view: StudyView, running: Mapping[int, RunningTrial] | None = None, note: str = "") -> RenderableType:
    """The whole study, 80 columns wide.

    Args:
        view: The study.
        running: What is known of running trials beyond it, by trial number.
        note: One more line at the end.
    """
    parts: list[RenderableType] = [_head(view), _facts(view)]
    if any(rung.reached for rung in view.rungs):
        parts += [Text(""), _rungs(view)]
    parts += [Text(""), _trials(view, running or {})]
    if note:
        parts.append(Text(note, style="yellow"))
    return Group(*parts)


def final(snapshot: StudySnapshot) -> RenderableType:
    """The runs of a study's final, below the study."""
    table = Table.grid(padding=(0, 2, 0, 0))
    for live in snapshot.running:
        bar = ProgressBar(total=live.total_steps or 1, completed=live.step, width=_BAR)
        steps = f"{live.step}/{live.total_steps}" if live.total_steps else "starting"
        table.add_row(live.name, bar, steps, number(live.value))
    return Group(Text(f"\nfinal  {snapshot.finished}/{snapshot.budget} runs on fresh seeds", style="bold"), table)


def gained(gain: float | None) -> str:
    """A gain with its sign."""
    return "" if gain is None else f"{gain:+.4f}".replace("-", "−")


def _head(view: StudyView) -> Text:
    facts = view.facts
    head = Text(facts.study, style="bold")
    head.append(f"  {facts.state}", style=_STATE_STYLES.get(facts.state, ""))
    head.append(f"  {facts.finished}/{facts.trials} trials")
    if facts.began_at is not None:
        until = view.at if facts.state == "RUNNING" else facts.last_at or view.at
        head.append(f" · {duration(max(0.0, until - facts.began_at))}")
    if view.eta_seconds is not None:
        head.append(f" · about {duration(view.eta_seconds)} left", style="dim")
    return head


def _facts(view: StudyView) -> Table:
    facts, spend = view.facts, view.spend
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    best = next((trial for trial in view.trials if trial.number == facts.best), None)
    if best is None:
        table.add_row("best", "no trial complete yet")
    else:
        table.add_row("best", Text(f"trial {best.number}, {facts.metric} {number(best.value)}", style="bold"))
        table.add_row("", Text(settings(best.hyperparameters)))
    told = f"trial {facts.baseline or 0}, {facts.metric} {number(facts.baseline_value)}"
    if best is not None and not best.is_baseline and facts.gain is not None:
        told += f"; the best is {gained(facts.gain)} on it"
    table.add_row("defaults", Text(told))
    sentence = (view.verdict or {}).get("sentence")
    if sentence:
        table.add_row("verdict", Text(str(sentence)))
    gpu = f" · {duration(spend.gpu_seconds)} GPU" if spend.gpu_seconds else ""
    saved = f" · pruning saved about {duration(spend.saved_cpu_seconds)} CPU" if spend.saved_cpu_seconds else ""
    table.add_row("spend", f"{duration(spend.cpu_seconds)} CPU{gpu}{saved}")
    table.add_row("trials", counts(facts.counts))
    return table


def _rungs(view: StudyView) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("rung", no_wrap=True)
    for name in (view.facts.fidelity_unit, "reached", "cut", "best there"):
        table.add_column(Text(name), justify="right", no_wrap=True)
    for position, rung in enumerate(view.rungs, start=1):
        best = "" if rung.best is None else f"{number(rung.best)} (trial {rung.best_trial})"
        name = "full run" if rung.is_full_run else str(position)
        cut = "" if rung.is_full_run else f"{rung.cut}"
        table.add_row(name, f"{rung.fidelity:g}", f"{rung.reached}", cut, best)
    return table


def _trials(view: StudyView, running: Mapping[int, RunningTrial]) -> Table:
    facts = view.facts
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    # The last column gives way where the terminal is narrow.
    table.add_column("trial", min_width=5, no_wrap=True)
    table.add_column("state", min_width=8, no_wrap=True)
    table.add_column(Text(facts.metric), min_width=max(7, len(facts.metric)), justify="right", no_wrap=True)
    table.add_column("gain", min_width=7, justify="right", no_wrap=True)
    table.add_column("progress", width=_BAR, no_wrap=True)
    table.add_column("step", min_width=4, justify="right", no_wrap=True)
    table.add_column("", overflow="ellipsis")
    done = [trial for trial in view.trials if trial.ended_at is not None]
    for trial in sorted(done, key=lambda trial: trial.ended_at or 0.0)[-RECENT_TRIALS:]:
        is_best = trial.number == facts.best
        style = "green" if is_best else "red" if trial.state in _BAD else "dim"
        name = f"{trial.number} ★" if is_best else str(trial.number)
        told = trial.error or settings(trial.hyperparameters)
        gain = "" if trial.is_baseline else gained(trial.gain)
        step = str(trial.curve[-1].step) if trial.curve else ""
        row = (name, trial.state, number(trial.value), gain, _bar(view, trial), step, _last(told))
        table.add_row(*row, style=style)
    for trial in view.trials:
        if trial.state == TrialState.RUNNING:
            table.add_row(*_running(view, trial, running.get(trial.number)))
    return table


def _running(view: StudyView, trial: TrialView, live: RunningTrial | None) -> list[RenderableType]:
    bar = _bar(view, trial)
    step = str(trial.curve[-1].step) if trial.curve else "starting"
    told = ""
    if live is not None and live.total_steps:
        bar = ProgressBar(total=live.total_steps, completed=live.step, width=_BAR)
        step = f"{live.step}/{live.total_steps}"
        told = "" if live.loss is None else f"loss {live.loss:.3f}"
    if trial.attempts > 1:
        told = f"{told} attempt {trial.attempts}".strip()
    value, gain = number(trial.value), "" if trial.is_baseline else gained(trial.gain)
    return [str(trial.number), "RUNNING", value, gain, bar, step, _last(told)]


def _bar(view: StudyView, trial: TrialView) -> ProgressBar:
    """How far a trial has come of a full run, by its last evaluation."""
    done = trial.curve[-1].fidelity if trial.curve else 0.0
    return ProgressBar(total=view.facts.full_run, completed=min(done, view.facts.full_run), width=_BAR)


def _last(told: str) -> Text:
    return Text(told, no_wrap=True, overflow="ellipsis")
