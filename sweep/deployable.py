"""The model of a study that is to be deployed, and all that is known of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sweep.checkpoints import MANIFEST_NAME, model_folder, read_manifest
from sweep.deployment.export import verify_files
from sweep.deployment.lineage import LINEAGE_FILE, Lineage, read_lineage
from sweep.deployment.search_summary import search_summary
from sweep.domain import Trial, ranked
from sweep.errors import CheckpointError, UserError
from sweep.finale import lineage_of, located
from sweep.layout import StudyLayout
from sweep.search import read_trials
from sweep.selection.winner import Winner, own_model, winner
from sweep.spec.model import StudySpec
from sweep.study_files import read_facts, read_spec, redactor_for
from sweep.tracking import run_ids


def deployable(spec: StudySpec, trial_number: int | None = None) -> tuple[Winner, Lineage]:
    """A study's winner, or a trial's own model, with its origin; its files are what their manifest says.

    Args:
        spec: The study.
        trial_number: Of the trial to take in the winner's place.

    Raises:
        UserError: If there is none, or its model was not kept.
        CheckpointError: If a file is missing or was altered.
    """
    trials = read_trials(spec)
    chosen = winner(spec, trials, model_folder) if trial_number is None else _trial(spec, trials, trial_number)
    _check_files(chosen.model)
    return chosen, _origin(spec, trials, chosen)


def _trial(spec: StudySpec, trials: Sequence[Trial], number: int) -> Winner:
    trial = next((trial for trial in ranked(trials, spec.rule) if trial.number == number), None)
    if trial is None:
        raise UserError(
            f"trial {number} of {spec.study!r} is not complete. Complete ones: `sweep best {spec.study} -k 100`."
        )
    trial = located(trial, spec.layout)
    if trial.checkpoint is None or not Path(trial.checkpoint).is_dir():
        raise UserError(
            f"trial {number} of {spec.study!r}: its model was not kept (keep={spec.keep} in the spec). "
            f"Choose one of the kept trials: `sweep best {spec.study} -k {spec.keep}`."
        )
    return own_model(spec, trial, model_folder(Path(trial.checkpoint)))


def _check_files(model: Path) -> None:
    checkpoint = model.parent
    if (checkpoint / MANIFEST_NAME).exists():
        read_manifest(checkpoint)
    elif (model / LINEAGE_FILE).exists():
        verify_files(model, read_lineage(model))
    elif not (model / "config.json").is_file():
        raise CheckpointError(f"{model}: no model is there any more. Restore it, or choose another trial.")


def _origin(spec: StudySpec, trials: Sequence[Trial], chosen: Winner) -> Lineage:
    source, theirs = spec, trials
    if chosen.study != spec.study:
        source = read_spec(StudyLayout(spec.layout.storage, chosen.study), given=spec)
        theirs = read_trials(source)
    trained = next((trial for trial in theirs if trial.number == chosen.run), None)
    if trained is None:
        trained = _averaged(trials, chosen)
    lineage = lineage_of(
        source,
        trained,
        data=_where_it_lies(read_facts(source.layout, "data") or read_facts(spec.layout, "data"), spec.layout),
        environment=read_facts(source.layout, "environment") or read_facts(spec.layout, "environment"),
        run_id=run_ids(source.layout).get(chosen.run) if chosen.run is not None else None,
        now=time.time(),
        redactor=redactor_for(spec),
        trials=trials,
    )
    kept = source.layout.soup_export if chosen.run is None else source.layout.export(chosen.run)
    if source is not spec and (kept / LINEAGE_FILE).exists():
        # A run of the final may have had a split of its own.
        theirs_own = read_lineage(kept)
        lineage = replace(lineage, data=_where_it_lies(theirs_own.data, spec.layout), objective=theirs_own.objective)
    verdict = None
    if chosen.verdict is not None:
        verdict = {key: value for key, value in chosen.verdict.to_json().items() if key != "deploy"}
    return replace(
        lineage,
        study=spec.study,
        trial_number=chosen.trial_number,
        hyperparameters={} if chosen.run is None else lineage.hyperparameters,
        seed=chosen.seed,
        step=chosen.step,
        search=search_summary(spec, trials),
        verdict=verdict,
    )


def _averaged(trials: Sequence[Trial], chosen: Winner) -> Trial:
    """What is known of an average of weights, which belongs to no trial: it has the settings of the first averaged."""
    verdict = chosen.verdict
    deploy = dict(verdict.deploy or {}) if verdict else {}
    test = dict(verdict.test or {}).get("winner", {}).get("metrics") if verdict else None
    first = next(trial for trial in trials if trial.number == deploy["trials"][0])
    return replace(first, metrics=deploy["metrics"], test=test, checkpoint=None, step=None)


def _where_it_lies(data: Mapping[str, Any], layout: StudyLayout) -> dict[str, Any]:
    """With the prepared data in the storage as it lies now, where it is gone from where it was."""
    folder = Path(data.get("folder", ""))
    return dict(data) if folder.is_dir() else {**data, "folder": str(layout.prepared / folder.name)}
