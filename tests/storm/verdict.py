"""What must hold after a storm, read from the disk, the journal, the spool and MLflow's database."""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from sweep.checkpoints import MANIFEST_NAME, model_folder, read_manifest
from sweep.checkpoints.garbage import left_behind
from sweep.domain import Report, TrialState
from sweep.errors import CheckpointError
from sweep.layout import StudyLayout
from sweep.ports import ModelKept, TrialOver
from sweep.search import StudyReader
from sweep.study_files import read_facts, read_spec
from sweep.testing.checkpointing_objective import QuickObjective
from sweep.tracking.spool import read_entries


def failures(layout: StudyLayout, database: Path, trials: int) -> Iterator[str]:
    """Each promise that was broken, in words; none after a storm that was survived."""
    spec = read_spec(layout)
    reader = StudyReader(spec)
    found = list(reader.trials())
    reports = {trial.number: list(reader.reports(trial.number)) for trial in found}
    reader.close()
    states = Counter(trial.state for trial in found)
    if len(found) != trials or sum(states[s] for s in states if s.is_finished) != trials:
        yield f"{trials} trials must be finished: {dict(states)}"
    if set(states) - {TrialState.COMPLETE, TrialState.PRUNED}:
        errors = [
            (t.number, t.state.value, t.error) for t in found if t.state not in (TrialState.COMPLETE, TrialState.PRUNED)
        ]
        yield f"every trial must be COMPLETE or PRUNED: {errors}"
    configurations = Counter(json.dumps(dict(trial.hyperparameters), sort_keys=True) for trial in found)
    if any(count > 1 for count in configurations.values()):
        yield "a configuration was trained twice"
    yield from _metrics_differ(layout, database, trials, reports)
    yield from _winner_differs(layout, found)
    yield from _left_over(layout)


def _metrics_differ(
    layout: StudyLayout, database: Path, trials: int, reports: dict[int, list[Report]]
) -> Iterator[str]:
    """The spool against the journal, and MLflow and the spool both ways: one value per trial, metric and step."""
    spooled: dict[tuple[int, str, int], float] = {}
    steps: Counter[tuple[int, int]] = Counter()
    for entry in read_entries(layout.spool):
        if isinstance(record := entry.record, Report):
            steps[record.trial_number, record.step] += 1
            for name, value in {"seconds": record.wall_seconds, **record.metrics}.items():
                spooled[record.trial_number, name, record.step] = value
        elif isinstance(record, TrialOver) and record.value is not None and record.step is not None:
            name = "objective_value" if record.state is TrialState.COMPLETE else "value_when_stopped"
            spooled[record.trial_number, name, record.step] = record.value
        elif isinstance(record, ModelKept):
            for name, value in (record.test or {}).items():
                spooled[record.trial_number, f"test_{name}", record.step] = value
    if any(count > 1 for count in steps.values()):
        yield "the spool holds a report twice"
    known = {(number, report.step) for number, history in reports.items() for report in history}
    if missing := known - set(steps):
        yield f"reports of the history are not in the spool: {sorted(missing)[:5]}"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        runs: dict[str, dict[str, Any]] = defaultdict(dict)
        for run_id, status, stage in db.execute("select run_uuid, status, lifecycle_stage from runs"):
            runs[run_id].update(status=status, stage=stage)
        for run_id, key, value in db.execute("select run_uuid, key, value from tags"):
            runs[run_id][key] = value
        active = {k: r for k, r in runs.items() if r["stage"] == "active"}
        children = {k: int(r["sweep.trial_number"]) for k, r in active.items() if "sweep.trial_number" in r}
        if sorted(children.values()) != list(range(trials)) or len(active) != trials + 1:
            yield f"MLflow must hold one run a trial and a parent: {len(active)} runs, {len(children)} trials"
        if bad := Counter(r["status"] for r in active.values() if r["status"] not in ("FINISHED", "KILLED")):
            yield f"MLflow's statuses must be final: {dict(bad)}"
        stored: dict[tuple[int, str, int], list[float]] = defaultdict(list)
        for run_id, key, step, value in db.execute("select run_uuid, key, step, value from metrics"):
            if run_id in children:
                stored[children[run_id], key, step].append(value)
    doubled = [key for key, values in stored.items() if len(values) > 1]
    if doubled:
        yield f"MLflow holds several values of one metric and step: {doubled[:5]}"
    lost = [key for key, value in spooled.items() if stored.get(key) != [value]]
    if lost:
        yield f"MLflow lacks {len(lost)} of {len(spooled)} values of the spool: {lost[:5]}"
    invented = [key for key in stored if key not in spooled and not key[1].startswith("system/")]
    if invented:
        yield f"MLflow holds {len(invented)} values that the spool does not: {invented[:5]}"


def _winner_differs(layout: StudyLayout, found: list[Any]) -> Iterator[str]:
    from sweep.domain import ranked

    spec = read_spec(layout)
    order = ranked(found, spec.rule)
    if not order:
        yield "no trial is complete"
        return
    prepared = Path(read_facts(layout, "data")["folder"])
    for trial in order[: spec.keep]:
        folder = Path(trial.checkpoint or "")
        try:
            read_manifest(folder)
        except CheckpointError as err:
            yield f"the checkpoint of trial {trial.number}, which is kept, is damaged: {err}"
            continue
        metrics = QuickObjective().evaluate(model_folder(folder), prepared, "validation", spec.settings({}))
        if metrics[spec.rule.name] != trial.value:
            yield f"trial {trial.number} re-evaluates to {metrics[spec.rule.name]}, not to {trial.value}"


def _left_over(layout: StudyLayout) -> Iterator[str]:
    hidden = [
        path
        for path in layout.storage.rglob("*")
        if path.name.startswith((".tmp-", ".trash-", ".stop-", ".storages-")) or path.suffix == ".tmp"
    ]
    left = [*hidden, *(surplus.path for surplus in left_behind(layout, time.time()))]
    if left:
        yield f"temporary files are left: {left[:5]}"
    for folder in layout.folder.glob("checkpoints/trial-*/step-*"):
        named = {MANIFEST_NAME, *read_manifest(folder, verify=False).files}
        there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        if named != there:
            yield f"{folder}: the manifest names {sorted(named ^ there)} and the disk does not, or the other way round"
