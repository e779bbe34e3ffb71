"""The model registry beside a study's record."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sweep.spec.model import StudySpec
from sweep.study_files import tracking_uri

if TYPE_CHECKING:
    from sweep.layout import StudyLayout
    from sweep.tracking.registry import Registry


def registry_of(spec: StudySpec) -> Registry:
    """The model registry of a study's record.

    Raises:
        RecordingError: If its store cannot be opened.
    """
    return registry_at(tracking_uri(spec), spec.layout)


def registry_at(uri: str, layout: StudyLayout | None = None) -> Registry:
    """The model registry at an address.

    Args:
        uri: MLflow's store or server.
        layout: Of the study whose models are published.

    Raises:
        UserError: If there is no such store.
        RecordingError: If it cannot be opened.
    """
    from sweep.tracking.registry import Registry

    is_server = uri.startswith(("http://", "https://", "databricks"))
    return Registry(uri, None if is_server or layout is None else layout.tracking_artifacts)
