"""Kept checkpoints as LoggedModels, with their metrics tied to the data they were measured on."""

from __future__ import annotations

import json
import os
import shutil
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModel, LoggedModelOutput, Metric
from mlflow.exceptions import MlflowException

from sweep.ports import ModelKept
from sweep.tracking import words
from sweep.tracking.acknowledged import Acknowledged
from sweep.tracking.memory import TrialMemory
from sweep.tracking.tracker import Tracker

_DIGEST_LENGTH = 36
_SHARED_BYTES = 1 << 20


def dataset_inputs(data: Mapping[str, Any], name: str) -> list[DatasetInput]:
    """The study's data as MLflow knows data: named, with a digest; one entry for each split that has rows.

    Args:
        data: Summary returned by ``Objective.prepare``.
        name: What to call the data.
    """
    digest = str(data.get("data_hash") or "")[:_DIGEST_LENGTH]
    rows = dict(data.get("rows") or {})
    if not digest:
        return []
    dataset = Dataset(
        name=name,
        digest=digest,
        source_type="sweep",
        source=json.dumps({"prepared": str(data.get("folder", "")), "data_hash": data.get("data_hash")}),
        profile=json.dumps({"num_rows": sum(rows.values()), **rows}),
    )
    tags = [InputTag("mlflow.data.context", "+".join(rows) or "training")]
    return [DatasetInput(dataset=dataset, tags=tags)]


def keep_model(
    tracker: Tracker, acked: Acknowledged, kept: ModelKept, trial: TrialMemory, inputs: list[DatasetInput]
) -> None:
    """Make, fill and finalise the LoggedModel of a kept checkpoint; what is there already stays."""
    run_id, _ = tracker.child(kept.trial_number)
    key = f"{kept.trial_number}/{kept.step}"
    if key not in acked.models:
        acked.models[key] = _find(tracker, acked, kept) or _make(tracker, kept, trial, run_id)
    model_id = acked.models[key]
    model = tracker.client.get_logged_model(model_id)
    if inputs:
        tracker.client.log_inputs(run_id, datasets=inputs)
    tracker.log(run_id, metrics=_metrics(kept, trial, model_id, inputs))
    if str(model.status) != "READY":
        folder = Path(kept.folder)
        if not folder.is_dir():
            tracker.client.finalize_logged_model(model_id, "FAILED")
            raise FileNotFoundError(f"{folder}: the kept model is gone")
        location, is_local = str(model.artifact_location), tracker.artifacts is not None
        place(tracker.client, folder, model_id, location, is_local=is_local)
        _link(tracker, run_id, model_id, kept.step)
        # Last: what is READY is not looked at again.
        tracker.client.finalize_logged_model(model_id, "READY")


def _link(tracker: Tracker, run_id: str, model_id: str, step: int) -> None:
    """Show the model as its run's output; MLflow refuses a link that is there already."""
    try:
        tracker.client.log_outputs(run_id, [LoggedModelOutput(model_id, step=step)])
    except MlflowException:
        outputs = tracker.client.get_run(run_id).outputs
        if outputs is None or model_id not in {output.model_id for output in outputs.model_outputs}:
            raise


def study_models(tracker: Tracker) -> Iterator[LoggedModel]:
    """All models of the study."""
    token = None
    while True:
        page = tracker.client.search_logged_models(
            [tracker.experiment()], filter_string=f"tags.`{words.UID}` = '{tracker.uid}'", page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def tag_model(tracker: Tracker, model: LoggedModel, wanted: Mapping[str, str]) -> None:
    """Make the tags of a model that move (rank, best) what they should be."""
    changed = {key: value for key, value in wanted.items() if model.tags.get(key) != value}
    if changed:
        tracker.client.set_logged_model_tags(model.model_id, changed)
    for key in (words.RANK, words.BEST):
        if key in model.tags and key not in wanted:
            tracker.client.delete_logged_model_tag(model.model_id, key)


def place(client: Any, folder: Path, model_id: str, location: str, *, is_local: bool) -> None:
    """Store a folder as a LoggedModel's artifacts.

    Args:
        client: MLflow's client.
        folder: What to store.
        model_id: Of the LoggedModel.
        location: Of its artifacts.
        is_local: Whether a path there is one of this host.
    """
    target = urllib.parse.urlparse(location)
    if not is_local or target.scheme not in ("", "file"):
        client.log_model_artifacts(model_id, str(folder))
        return
    path = urllib.parse.unquote(target.path)
    shutil.copytree(folder, path, copy_function=_link_or_copy, dirs_exist_ok=True)


def _link_or_copy(source: str, target: str) -> str:
    """Weights never change, so both places can share them on disk."""
    Path(target).unlink(missing_ok=True)
    if os.stat(source).st_size >= _SHARED_BYTES:
        with suppress(OSError):
            os.link(source, target)
            return target
    return str(shutil.copy2(source, target))


def _find(tracker: Tracker, acked: Acknowledged, kept: ModelKept) -> str | None:
    found = tracker.client.search_logged_models(
        [tracker.experiment()],
        filter_string=(
            f"tags.`{words.UID}` = '{tracker.uid}' AND tags.`{words.TRIAL}` = '{kept.trial_number}' "
            f"AND tags.`{words.STEP}` = '{kept.step}'"
        ),
    )
    return str(found[0].model_id) if found else None


def _make(tracker: Tracker, kept: ModelKept, trial: TrialMemory, run_id: str) -> str:
    parameters = {**trial.hyperparameters, "seed": trial.seed}
    model = tracker.client.create_logged_model(
        tracker.experiment(),
        name=words.trial_name(kept.trial_number),
        source_run_id=run_id,
        tags={
            words.UID: tracker.uid,
            words.STUDY: tracker.study,
            words.TRIAL: str(kept.trial_number),
            words.STEP: str(kept.step),
        },
        params={key: words.text(value) for key, value in parameters.items()},
        model_type="checkpoint",
    )
    return str(model.model_id)


def _metrics(kept: ModelKept, trial: TrialMemory, model_id: str, inputs: list[DatasetInput]) -> list[Metric]:
    data = inputs[0].dataset if inputs else None
    name, digest = (data.name, data.digest) if data else (None, None)
    report, over = trial.reports.get(kept.step), trial.over
    # The run holds these values already: with the same time stamp they stay one.
    at = words.milliseconds(report.reported_at if report else kept.at)
    values = {key: (value, at) for key, value in words.finite(kept.metrics).items()}
    if over is not None and trial.value is not None and over.step == kept.step:
        values[words.value_name(over.state)] = (trial.value, words.milliseconds(over.at))
    for key, value in words.finite(kept.test or {}).items():
        values[f"test_{key}"] = (value, words.milliseconds(kept.at))
    return [
        Metric(key, value, stamp, kept.step, model_id=model_id, dataset_name=name, dataset_digest=digest)
        for key, (value, stamp) in values.items()
    ]
