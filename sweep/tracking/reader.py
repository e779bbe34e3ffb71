"""What delivery has made so far, read from its own notes, and models read from MLflow."""

from __future__ import annotations

from pathlib import Path

from sweep.errors import ModelError, RecordingError
from sweep.layout import StudyLayout
from sweep.redaction import redacted
from sweep.tracking.acknowledged import Acknowledged
from sweep.tracking.rejected import FILE, count_rejected
from sweep.tracking.spool import count_records


def run_ids(layout: StudyLayout) -> dict[int, str]:
    """MLflow's run by trial number, for the trials delivered so far. Does not import MLflow."""
    return Acknowledged.readable(layout.spool).runs


def experiment_id(layout: StudyLayout) -> str | None:
    """MLflow's id of the study's experiment, once it is made. Does not import MLflow."""
    return Acknowledged.readable(layout.spool).experiment_id


def undelivered(layout: StudyLayout) -> int:
    """How many records wait in the spool: all, where delivery's notes cannot be read. Does not import MLflow."""
    return count_records(layout.spool, Acknowledged.readable(layout.spool).offset)


def damaged_notes(layout: StudyLayout) -> str | None:
    """Why delivery's notes cannot be read, with the remedy; None if they can."""
    try:
        Acknowledged.load(layout.spool)
    except RecordingError as err:
        return str(err)
    return None


def set_aside(layout: StudyLayout) -> tuple[int, Path]:
    """How many records the tracker refused for good, and the file that has them and the reasons."""
    return count_rejected(layout.spool), layout.spool / FILE


def resolve_model(uri: str, tracking_uri: str) -> Path:
    """Folder of a model in MLflow's registry or of a LoggedModel, downloaded unless it lies here.

    Args:
        uri: ``models:/name@alias``, ``models:/name/version`` or ``models:/m-…``.
        tracking_uri: MLflow's store or server.

    Raises:
        ModelError: If there is none, or it is not a folder transformers can load.
    """
    from sweep.tracking.settings import quiet_mlflow

    quiet_mlflow()
    import mlflow
    import mlflow.artifacts
    import requests
    from mlflow.exceptions import MlflowException

    # Some of MLflow's own calls know no other address than the process-wide one, and would make ./mlflow.db.
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_registry_uri(tracking_uri)
    try:
        folder = Path(
            mlflow.artifacts.download_artifacts(artifact_uri=uri, tracking_uri=tracking_uri, registry_uri=tracking_uri)
        )
    except (MlflowException, OSError, requests.RequestException) as err:
        raise ModelError(
            f"objective.model={uri!r}: cannot be had from {redacted(tracking_uri)} "
            f"({redacted(str(err), tracking_uri)}). "
            "Check the name and the alias, or give a folder."
        ) from err
    # MLflow's own transformers flavour puts the weights one level down.
    for candidate in (folder, folder / "model"):
        if (candidate / "config.json").is_file():
            return candidate
    raise ModelError(
        f"objective.model={uri!r}: {folder} has no config.json, so transformers cannot load it. "
        "Give a model that sweep kept, or one saved by save_pretrained."
    )
