"""Trials and exported models side by side: what they were, how they learnt, and how they answer the same rows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sweep import objective_jobs
from sweep.checkpoints import model_folder
from sweep.deployable import deployable
from sweep.deployment.lineage import LINEAGE_FILE, Lineage, read_lineage
from sweep.domain import Report, ranked
from sweep.errors import StudyNotFoundError, UserError
from sweep.execution.warm_client import WarmParent
from sweep.layout import StudyLayout
from sweep.ports import Columns
from sweep.search import read_trials
from sweep.search.reading import StudyReader
from sweep.selection.assessment import ModelOnSplit
from sweep.selection.predictions import class_scores, flips, read_predictions
from sweep.selection.winner import read_verdict
from sweep.spec.model import StudySpec
from sweep.spec.references import with_values
from sweep.storages import Storages
from sweep.study_files import read_facts, read_spec, redactor_for


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the things compared.

    Attributes:
        reference: How its user named it.
        label: How it is spoken of: study and trial.
        task: Name of its objective.
        metric: Name of its study's metric.
        hyperparameters: The drawn values.
        settings: All training settings, for the evaluation alone: secrets are filled in.
        shown: The same, as everybody may read them.
        recorded: Metrics on the validation split, as recorded; with folds, their means.
        folds: How many these are; 0 with a validation split.
        curve: (step, metric) of each evaluation; empty for an export.
        model: Folder that transformers can load; None if it was not kept.
        prepared: Folder of its prepared data.
        study: Where its study lies; None for an export from elsewhere.
    """

    reference: str
    label: str
    task: str
    metric: str
    hyperparameters: Mapping[str, Any]
    settings: Mapping[str, Any]
    shown: Mapping[str, Any]
    recorded: Mapping[str, float]
    folds: int
    curve: Sequence[tuple[int, float]] = ()
    model: Path | None
    prepared: str
    study: StudyLayout | None


def find_side(reference: str, storages: Storages, *, trust_remote_code: bool = False) -> Side:
    """What a reference names: ``STUDY:3``, ``STUDY`` for its winner, or a folder written by ``sweep export``.

    Args:
        reference: See above; a folder that was exported comes before a study of the same name. A study with a verdict
            stands for the model that it would deploy: of its final, not of its search.
        storages: Where to look for studies.
        trust_remote_code: Whether code that an exported model brings along may run: not for the folder to say.

    Raises:
        UserError: If there is no such study or trial.
        SweepError: If it cannot be read.
    """
    if os.path.isfile(Path(reference) / LINEAGE_FILE):
        return _exported(reference, read_lineage(Path(reference)), storages, trust_remote_code=trust_remote_code)
    name, colon, number = reference.rpartition(":")
    if not colon:
        return _winner(reference, read_spec(storages.find(reference)))
    if not number.isdigit():
        raise UserError(f"{reference}: {number!r} is no trial number. Write STUDY:NUMBER, e.g. `{name}:3`.")
    return _trial(reference, read_spec(storages.find(name)), int(number))


def _winner(reference: str, spec: StudySpec) -> Side:
    verdict = read_verdict(spec.layout)
    if verdict is None or verdict.winner is None:
        order = ranked(read_trials(spec), spec.rule)
        if not order:
            raise UserError(f"study {spec.study!r} has no complete trial yet. See `sweep status {spec.study}`.")
        return _trial(reference, spec, order[0].number)
    number = verdict.finalist(verdict.winner).trial_number
    if verdict.deploy is None and number is not None:
        # The final kept no model; the search's has another seed, and another score than the verdict speaks of.
        return replace(_trial(reference, spec, number), model=None)
    chosen, lineage = deployable(spec)
    curve: Sequence[tuple[int, float]] = ()
    label = f"{spec.study}: {verdict.winner}"
    if chosen.run is not None:
        final = read_spec(StudyLayout(spec.layout.storage, chosen.study), given=spec)
        with closing(StudyReader(final)) as reader:
            curve = _curve(reader.reports(chosen.run), spec.rule.name)
        label = f"{spec.study}:{number} on seed {(verdict.deploy or {}).get('seed_index', 0) + 1}"
    trust = spec.objective.trust_remote_code
    return _of_lineage(reference, label, lineage, chosen.model, spec.layout, curve, trust_remote_code=trust)


def _trial(reference: str, spec: StudySpec, number: int) -> Side:
    with closing(StudyReader(spec)) as reader:
        trials, reports = list(reader.trials()), reader.reports(number)
    trial = next((trial for trial in trials if trial.number == number), None)
    if trial is None:
        raise UserError(
            f"study {spec.study!r} has no trial {number}. It has {len(trials)}: `sweep status {spec.study}`."
        )
    data = read_facts(spec.layout, "data")
    model = None if trial.checkpoint is None else model_folder(Path(trial.checkpoint))
    return Side(
        reference=reference,
        label=f"{spec.study}:{trial.number}",
        task=spec.objective.task,
        metric=spec.rule.name,
        hyperparameters=dict(trial.hyperparameters),
        settings=spec.settings(trial.hyperparameters),
        shown=redactor_for(spec).values(spec.settings(trial.hyperparameters, as_written=True)),
        recorded=dict(trial.metrics),
        folds=len(trial.values) if spec.objective.data.folds else 0,
        curve=_curve(reports, spec.rule.name),
        model=model if model is not None and model.is_dir() else None,
        prepared=str(data.get("folder", "")),
        study=spec.layout,
    )


def _curve(reports: Sequence[Report], name: str) -> Sequence[tuple[int, float]]:
    return tuple((report.step, report.metrics[name]) for report in reports if name in report.metrics)


def _exported(reference: str, lineage: Lineage, storages: Storages, *, trust_remote_code: bool) -> Side:
    study = None
    with suppress(StudyNotFoundError):  # exported elsewhere: compared all the same
        study = storages.find(lineage.study)
    who = "average of the finalists" if lineage.trial_number is None else lineage.trial_number
    label = f"{reference} ({lineage.study}:{who})"
    model = Path(reference).absolute()
    return _of_lineage(reference, label, lineage, model, study, trust_remote_code=trust_remote_code)


def _of_lineage(
    reference: str,
    label: str,
    lineage: Lineage,
    model: Path,
    study: StudyLayout | None,
    curve: Sequence[tuple[int, float]] = (),
    *,
    trust_remote_code: bool,
) -> Side:
    return Side(
        reference=reference,
        label=label,
        task=lineage.task,
        metric=lineage.metric["name"],
        hyperparameters=dict(lineage.hyperparameters),
        settings={**with_values(lineage.settings, os.environ), "trust_remote_code": trust_remote_code},
        shown=dict(lineage.settings),
        recorded=dict(lineage.validation),
        folds=len(lineage.data.get("folds") or ()),
        curve=curve,
        model=model,
        prepared=str(lineage.data["folder"]),
        study=study,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two sides on the same rows.

    Attributes:
        models: Metrics and interval of the first and the second, as :func:`sweep.selection.assessment.assess` says.
        difference: Second minus first: mean, interval, p-value, method; None where it cannot be tested.
        note: Why something is missing.
        classes: Scores of each class for the first and the second; empty where there are no classes.
        better: Rows that the second answers better than the first.
        worse: Rows that the second answers worse.
    """

    models: Sequence[Mapping[str, Any]] = ()
    difference: Mapping[str, Any] | None = None
    note: str | None = None
    classes: Sequence[Sequence[Mapping[str, Any]]] = ()
    better: Sequence[Mapping[str, Any]] = ()
    worse: Sequence[Mapping[str, Any]] = ()


def compare_sides(parent: WarmParent, first: Side, second: Side, split: str) -> Pair:
    """Have two models answer a split, and compare their answers row by row.

    Raises:
        SweepError: If a model or its data cannot be used.
    """
    obstacle = _obstacle(first, second, split)
    if obstacle is not None:
        return Pair(note=obstacle)
    with TemporaryDirectory(prefix="sweep-") as name:
        folder = Path(name)
        # The difference is the first's to the second's: ask for them the other way round.
        found = objective_jobs.assess_models(
            parent,
            [
                ModelOnSplit(model=side.model, prepared=side.prepared, settings=side.settings)
                for side in (second, first)
                if side.model is not None
            ],
            task=first.task,
            split=split,
            metric=first.metric,
            folder=folder,
        )
        models = list(reversed(found["models"]))
        if any(one["rows"] is None for one in models):
            return Pair(models=models, note=found["note"])
        answers = [read_predictions(folder / file) for file in ("1.json", "0.json")]
    return _pair(models, found, answers)


def _pair(models: Sequence[Mapping[str, Any]], found: Mapping[str, Any], answers: Sequence[Columns]) -> Pair:
    scored = [class_scores(columns) for columns in answers]
    classes = [rows for rows in scored if rows is not None]
    is_paired = found["difference"] is not None
    better, worse = flips(*answers) if is_paired else ([], [])
    return Pair(
        models=models,
        difference=found["difference"],
        note=found["note"],
        classes=classes if len(classes) == len(scored) else (),
        better=better,
        worse=worse,
    )


def _obstacle(first: Side, second: Side, split: str) -> str | None:
    """Why the two cannot answer the same rows."""
    if first.task != second.task:
        return (
            f"{first.label} is of task {first.task}, {second.label} of {second.task}: they answer different questions."
        )
    for side in (first, second):
        if split == "validation" and side.folds:
            return (
                f"{side.label} was validated in folds, by other models than the one that is kept, which has trained on "
                "all of these rows: there is no paired test on them. Add `--split test`."
            )
        if side.model is None:
            return f"the model of {side.label} was not kept, so its answers are not to be had (`keep` in the spec)."
        if not os.path.isdir(side.prepared):
            return (
                f"the prepared data of {side.label} is gone ({side.prepared or 'the study has none'}). "
                "`sweep verify` on an export of it prepares it again."
            )
    return None
