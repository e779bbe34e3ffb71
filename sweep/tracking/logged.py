"""A registered version's LoggedModel: a kept checkpoint's where it has these weights, else one of its own."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sweep.errors import RecordingError
from sweep.tracking import words
from sweep.tracking.models import place

if TYPE_CHECKING:
    from sweep.tracking.registry import Origin

_LINEAGE = "sweep.json"
_WEIGHTS = ".safetensors"
_LARGE_BYTES = 1 << 20


def store_package(
    client: Any, package: Path, *, content: str, content_tag: str, origin: Origin, artifacts: Path | None
) -> str:
    """See that a READY LoggedModel holds a package, byte for byte; returns its id."""
    experiment = _experiment(client, origin.study, artifacts)
    for model in _candidates(client, experiment, content, content_tag, origin):
        if _has_the_weights(client, model, package):
            # What makes them servable is small, and the card may say more by now.
            _add_small_files(client, model, package)
            if _is_whole(client, model, package):
                client.set_logged_model_tags(model.model_id, {content_tag: content})
                return str(model.model_id)
    model = client.create_logged_model(
        experiment,
        name=words.trial_name(origin.trial_number) if origin.trial_number is not None else "average",
        source_run_id=origin.run_id,
        tags={words.STUDY: origin.study, content_tag: content},
        model_type="checkpoint",
    )
    place(client, package, model.model_id, str(model.artifact_location), is_local=artifacts is not None)
    if not _is_whole(client, model, package):
        raise RecordingError(f"{model.artifact_location}: MLflow gives out other files than it was given. Try again.")
    client.finalize_logged_model(model.model_id, "READY")
    return str(model.model_id)


def _experiment(client: Any, study: str, artifacts: Path | None) -> str:
    found = client.get_experiment_by_name(study)
    if found is None:
        return str(client.create_experiment(study, artifact_location=None if artifacts is None else str(artifacts)))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def _candidates(client: Any, experiment: str, content: str, content_tag: str, origin: Origin) -> list[Any]:
    filters = [f"tags.`{content_tag}` = '{content}'"]
    if origin.trial_number is not None:
        filters.append(
            f"tags.`{words.STUDY}` = '{origin.study}' AND tags.`{words.TRIAL}` = '{origin.trial_number}' "
            f"AND tags.`{words.STEP}` = '{origin.step}'"
        )
    found = {m.model_id: m for text in filters for m in client.search_logged_models([experiment], filter_string=text)}
    return [model for model in found.values() if str(model.status) == "READY"]


def _has_the_weights(client: Any, model: Any, package: Path) -> bool:
    """Whether a LoggedModel was made of the same files, as it says itself."""
    wanted = json.loads((package / _LINEAGE).read_text(encoding="utf-8"))["files"]
    with _downloaded(client, f"{model.artifact_location}/{_LINEAGE}") as path:
        try:
            own = {} if path is None else json.loads(path.read_text(encoding="utf-8"))["files"]
        except (ValueError, LookupError):
            return False
    # What only makes it servable may have changed since.
    kept = {name: digest for name, digest in own.items() if wanted.get(name) == digest}
    if any(name.endswith(_WEIGHTS) for name in own.keys() - kept.keys()):
        return False
    return bool(kept) and all((package / name).stat().st_size < _LARGE_BYTES for name in wanted.keys() - kept.keys())


def _is_whole(client: Any, model: Any, package: Path) -> bool:
    """Whether MLflow gives out what the package holds."""
    with _downloaded(client, str(model.artifact_location)) as folder:
        files = [path for path in package.rglob("*") if path.is_file()]
        return folder is not None and all(_same(path, folder / path.relative_to(package)) for path in files)


@contextmanager
def _downloaded(client: Any, address: str) -> Iterator[Path | None]:
    """A copy of what lies at an address, for as long as the block runs; None if nothing does."""
    import mlflow.artifacts
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(prefix="sweep-") as scratch:
        try:
            found: str | None = mlflow.artifacts.download_artifacts(artifact_uri=address, dst_path=scratch)
        except (MlflowException, OSError):
            # A server that does not answer says nothing about its files: asked anything, it fails again.
            client.search_registered_models(max_results=1)
            found = None
        yield None if found is None else Path(found)


def _same(path: Path, other: Path) -> bool:
    if not other.is_file() or path.stat().st_size != other.stat().st_size:
        return False
    with path.open("rb") as one, other.open("rb") as two:
        return hashlib.file_digest(one, "sha256").digest() == hashlib.file_digest(two, "sha256").digest()


def _add_small_files(client: Any, model: Any, package: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="sweep-") as scratch:
        for path in package.rglob("*"):
            if path.is_file() and path.stat().st_size < _LARGE_BYTES:
                target = Path(scratch) / path.relative_to(package)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
        client.log_model_artifacts(model.model_id, scratch)
