"""What the experiment and the parent run say about a study as a whole."""

from __future__ import annotations

import csv
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from mlflow.entities import Metric

from sweep.ports import StudyBegun, StudyOver, VerdictReached
from sweep.redaction import redacted_values
from sweep.tracking import words
from sweep.tracking.artifacts import send_files, write_json
from sweep.tracking.memory import StudyMemory
from sweep.tracking.tracker import Tracker

_NOTE = "mlflow.note.content"
_NOTE_LENGTH = 5000


def describe_study(tracker: Tracker, record: StudyBegun) -> None:
    """The experiment's description and sort order; the parent run's parameters, state and status."""
    experiment, parent = tracker.experiment(), tracker.parent(record.at)
    metric = dict(record.spec.get("metric") or {})
    greater_is_better = metric.get("direction", "maximize") == "maximize"
    tags = {
        words.STUDY: record.study,
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.experiment.primaryMetric.name": words.OBJECTIVE_VALUE,
        "mlflow.experiment.primaryMetric.greaterIsBetter": str(greater_is_better),
        _NOTE: _note(record.spec, f"**{record.study}** is running."),
    }
    for key, value in tags.items():
        tracker.client.set_experiment_tag(experiment, key, value)
    # A resumed study may have a larger budget, and MLflow takes a parameter only once.
    shown = tracker.client.get_run(parent).data.params
    parameters = words.study_parameters(record.spec, record.data)
    tracker.log(
        parent,
        params={key: value for key, value in parameters.items() if key not in shown},
        tags={words.STATE: "RUNNING", **words.base_model_tags(record.data)},
    )
    tracker.client.update_run(parent, status="RUNNING")


def end_study(tracker: Tracker, memory: StudyMemory, record: StudyOver) -> None:
    """The leaderboard, the winner, what it gained over the defaults, and how the session ended."""
    parent, at = tracker.parent(), words.milliseconds(record.at)
    numbers = _numbers(memory, record)
    finished = sum(trial.over is not None for trial in memory.trials.values())
    text = _outcome(memory, record, numbers)
    tags = {words.STATE: record.state, _NOTE: text}
    if record.ranking:
        tags["sweep.best_trial"] = str(record.ranking[0])
    tracker.log(parent, metrics=[Metric(key, value, at, finished) for key, value in numbers.items()], tags=tags)
    with tempfile.TemporaryDirectory(prefix="sweep-") as scratch:
        _write_leaderboard(memory, Path(scratch))
        send_files(tracker, parent, Path(scratch))
    spec = memory.begun.spec if memory.begun else {}
    tracker.client.set_experiment_tag(tracker.experiment(), _NOTE, _note(spec, text))
    status = words.STUDY_STATUS.get(record.state, "KILLED")
    if status == "SCHEDULED":
        tracker.client.update_run(parent, status=status)
    else:
        tracker.client.set_terminated(parent, status, end_time=at)


def tell_verdict(tracker: Tracker, record: VerdictReached) -> None:
    """``verdict.json`` and the verdict in short on the parent run."""
    parent, verdict = tracker.parent(), record.verdict
    tags = {
        words.WINNER: verdict.get("winner"),
        words.IS_SIGNIFICANT: verdict.get("is_significant"),
        words.VERDICT: str(verdict.get("sentence", ""))[:4000],
    }
    tracker.log(parent, tags={key: words.text(value) for key, value in tags.items()})
    with tempfile.TemporaryDirectory(prefix="sweep-") as scratch:
        write_json(Path(scratch) / "verdict.json", verdict)
        tracker.client.log_artifacts(parent, scratch)


def _numbers(memory: StudyMemory, record: StudyOver) -> dict[str, float]:
    numbers = {f"trials_{state.lower()}": float(count) for state, count in record.counts.items()}
    best = memory.trial(record.ranking[0]).value if record.ranking else None
    first = memory.trials.get(0)
    baseline = first.value if first is not None and 0 in record.ranking else None
    if best is not None:
        numbers["best_value"] = best
    if baseline is not None:
        numbers["baseline_value"] = baseline
    if best is not None and baseline is not None:
        numbers["gain"] = memory.rule.sign * (best - baseline)
    return numbers


def _outcome(memory: StudyMemory, record: StudyOver, numbers: Mapping[str, float]) -> str:
    counts = ", ".join(f"{count} {state}" for state, count in sorted(record.counts.items()))
    lines = [f"**{record.state}** · {counts}"]
    if record.ranking and "best_value" in numbers:
        best = memory.trial(record.ranking[0])
        drawn = ", ".join(f"{key}={words.text(value)}" for key, value in best.hyperparameters.items())
        name = words.trial_name(best.number)
        lines.append(f"Best: **{name}**, {memory.rule.name} = {numbers['best_value']:.6g} ({drawn})")
    if "gain" in numbers:
        lines.append(f"Defaults (trial-0000): {numbers['baseline_value']:.6g}; gain {numbers['gain']:+.6g}")
    return "\n\n".join(lines)


def _note(spec: Mapping[str, Any], text: str) -> str:
    plain = yaml.safe_dump(redacted_values(dict(spec)), sort_keys=False, allow_unicode=True)
    hint = "Trials are the nested runs; sort by `objective_value`, or filter `tags.sweep.best = 'true'`."
    return f"{text}\n\n{hint}\n\n```yaml\n{plain}```"[:_NOTE_LENGTH]


def _write_leaderboard(memory: StudyMemory, folder: Path) -> None:
    names = sorted({key for trial in memory.trials.values() for key in trial.hyperparameters})
    rows = []
    ranked = memory.order()
    order = [*ranked, *sorted(set(memory.trials) - set(ranked))]
    for position, number in enumerate(order, start=1):
        trial = memory.trial(number)
        rows.append(
            {
                "rank": position if position <= len(ranked) else None,
                "trial_number": number,
                "state": trial.state.value,
                "value": trial.value,
                "step": trial.over.step if trial.over else None,
                **{key: trial.hyperparameters.get(key) for key in names},
            }
        )
    write_json(folder / "leaderboard.json", rows)
    with (folder / "leaderboard.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, ["rank", "trial_number", "state", "value", "step", *names])
        table.writeheader()
        for row in rows:
            table.writerow({k: json.dumps(v) if isinstance(v, tuple | list) else v for k, v in row.items()})
