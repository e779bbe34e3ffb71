"""MLflow's model registry: versions, aliases and their history. Finds before it makes, so that it can be run again."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweep.errors import PromotionRefusedError, RecordingError, UserError
from sweep.redaction import redacted
from sweep.tracking.settings import quiet_mlflow
from sweep.tracking.store import sqlite_path

CONTENT = "sweep.content"
"""Tag: one hash of a model's weights, tokenizer and config, by which versions and LoggedModels are found again."""

PACKAGE = "sweep.package"
"""Tag of a version: one hash of all files it was registered with."""

_HISTORY = "sweep.history."
_LONGEST_DESCRIPTION = 5000
_ADDED_BY_MLFLOW = frozenset({"registered_model_meta"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version of a registered model.

    Attributes:
        name: Of the registered model.
        number: Of the version, from 1.
        source: The LoggedModel's URI, or wherever its files lie.
        tags: Its tags.
    """

    name: str
    number: int
    source: str
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        """How MLflow names it."""
        return f"models:/{self.name}/{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a model that is to be published comes from.

    Attributes:
        study: Name of the MLflow experiment.
        run_id: MLflow's run of the training, if it is known.
        trial_number: Of ``study``; None for an average of several.
        step: Optimizer step of the weights; None likewise.
    """

    study: str
    run_id: str | None
    trial_number: int | None
    step: int | None


class Registry:
    """The registry of a tracking store or server.

    Args:
        tracking_uri: MLflow's store or server.
        artifacts: Where a new experiment's artifacts go; None leaves it to the server.

    Raises:
        UserError: If there is no such store.
        RecordingError: By every method, if MLflow cannot be reached or refuses.
    """

    def __init__(self, tracking_uri: str, artifacts: Path | None) -> None:
        path = sqlite_path(tracking_uri)
        if path is not None and not path.exists():
            raise UserError(f"{path}: no MLflow store there. Deliver the study's record first: `sweep sync STUDY`.")
        quiet_mlflow(delivering=True)
        import mlflow
        from mlflow.tracking import MlflowClient

        from sweep.tracking.patience import PatientClient

        self._uri = tracking_uri
        self._artifacts = artifacts
        # Some of MLflow's own calls know no other address than the process-wide one, and would make ./mlflow.db.
        mlflow.set_tracking_uri(tracking_uri)
        mlflow.set_registry_uri(tracking_uri)
        self._client: Any = PatientClient(MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri))

    def names(self) -> list[str]:
        """Names of the registered models; also the cheapest way to learn that MLflow answers."""
        with self._asking("its registered models"):
            return [model.name for model in self._client.search_registered_models(max_results=1000)]

    def champion(self, name: str, alias: str) -> Version | None:
        """The version that an alias names, or None."""
        model = self._model(name)
        number = None if model is None else model.aliases.get(alias)
        return None if number is None else self.version(name, int(number))

    def version(self, name: str, number: int) -> Version | None:
        """A version, or None if there is none of that number."""
        from sweep.tracking.failures import is_missing

        with self._asking(f"version {number} of {name!r}"):
            try:
                return _version(self._client.get_model_version(name, str(number)))
            except Exception as err:
                if is_missing(err):
                    return None
                raise

    def version_of(self, name: str, content: str) -> Version | None:
        """The newest version with that content, or None."""
        with self._asking(f"the versions of {name!r}"):
            found = self._client.search_model_versions(f"name = '{name}' AND tags.`{CONTENT}` = '{content}'")
        return max(map(_version, found), key=lambda version: version.number, default=None)

    def history(self, name: str, alias: str) -> list[dict[str, Any]]:
        """How an alias moved, oldest first; empty for a new one."""
        model = self._model(name)
        try:
            entries: list[dict[str, Any]] = json.loads((model.tags if model else {}).get(_HISTORY + alias, "[]"))
        except ValueError as err:
            raise RecordingError(
                f"{name!r}: its tag {_HISTORY + alias} is no JSON ({err}). Mend or delete it in MLflow."
            ) from err
        return entries

    def move_alias(
        self, name: str, alias: str, number: int, history: list[dict[str, Any]], *, before: int | None
    ) -> None:
        """Write the alias's history, then move it: a crash in between leaves a move that is known to be unfinished.

        MLflow moves an alias unconditionally. So whoever moves one says so in the history first, and looks whether
        alias and history are as they should be, before and after: of several at the same moment, one is told that it
        worked at most.

        Args:
            name: The registered model.
            alias: Of it.
            number: The version it is to name.
            history: With this move as the last.
            before: The version that it names now, or None.

        Raises:
            PromotionRefusedError: If somebody else moves it at the same moment.
        """
        told = json.dumps(history)
        with self._asking(f"moving the alias {alias!r} of {name!r}"):
            _insisting(lambda: self._client.set_registered_model_tag(name, _HISTORY + alias, told))
            now, said = self._alias(name, alias)
            if now != before and said == told:
                # It was moved by hand, or in one go: this move never was.
                self._client.set_registered_model_tag(name, _HISTORY + alias, json.dumps(history[:-1]))
            if (now, said) == (before, told):
                _insisting(lambda: self._client.set_registered_model_alias(name, alias, str(number)))
                now, said = self._alias(name, alias)
                if (now, said) == (number, told):
                    return
        raise PromotionRefusedError(
            f"{name}@{alias}: somebody else moved it at the same moment; it is {_named(now)} now. "
            "Run the same command again."
        )

    def _alias(self, name: str, alias: str) -> tuple[int | None, str | None]:
        """The version that an alias names, and its history as stored."""
        model = self._client.get_registered_model(name)
        number = model.aliases.get(alias)
        return None if number is None else int(number), model.tags.get(_HISTORY + alias)

    def tag(self, version: Version, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        with self._asking(f"tagging {version.uri}"):
            for key, value in tags.items():
                self._client.set_model_version_tag(version.name, str(version.number), key, value)

    def publish(
        self, package: Path, name: str, *, content: str, origin: Origin, tags: Mapping[str, str], description: str
    ) -> Version:
        """Register a model folder as a new version of ``name``; what an interrupted call made is used.

        The weights of a kept checkpoint's LoggedModel are not stored again, if they are these.

        Args:
            package: Folder made ready by :func:`~sweep.tracking.pyfunc.make_servable`.
            name: The registered model; made if it is new.
            content: Hash of its weights, tokenizer and config.
            origin: Where it comes from.
            tags: Of the version.
            description: Of the version, Markdown; its end is cut off where MLflow takes no more.
        """
        from sweep.tracking.logged import store_package

        with self._asking(f"registering {name!r}"):
            model_id = store_package(
                self._client, package, content=content, content_tag=CONTENT, origin=origin, artifacts=self._artifacts
            )
            if self._model(name) is None:
                self._client.create_registered_model(name)
            return _version(
                self._client.create_model_version(
                    name,
                    source=f"models:/{model_id}",
                    run_id=origin.run_id,
                    tags={CONTENT: content, **tags},
                    description=description[:_LONGEST_DESCRIPTION],
                    model_id=model_id,
                )
            )

    @contextmanager
    def fetched(self, uri: str) -> Iterator[Path]:
        """A copy of a model's folder as MLflow gives it out, for as long as the block runs.

        Args:
            uri: ``models:/name@alias``, ``models:/name/version``, ``models:/m-…`` or an artifact's address.

        Raises:
            UserError: If there is none.
        """
        import mlflow.artifacts

        from sweep.tracking.failures import is_refusal

        with tempfile.TemporaryDirectory(prefix="sweep-") as scratch:
            with self._asking(uri):
                try:
                    folder = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=scratch))
                except Exception as err:
                    if is_refusal(err):
                        raise UserError(
                            f"{uri}: not to be had from {redacted(self._uri)} ({_line(err, self._uri)}). "
                            "Check name, version and alias."
                        ) from err
                    raise
            for name in _ADDED_BY_MLFLOW:
                (folder / name).unlink(missing_ok=True)
            yield folder

    def package_tag(self, uri: str) -> str | None:
        """The hash of all files that a version was registered with; None if it is no version, or has none."""
        name, at, alias = uri.removeprefix("models:/").partition("@")
        if at:
            version = self.champion(name, alias)
        else:
            name, _, number = name.partition("/")
            version = self.version(name, int(number)) if number.isdecimal() else None
        return None if version is None else version.tags.get(PACKAGE)

    def model_of_run(self, run_id: str) -> str:
        """URI of the model that a run kept, the newest of several.

        Raises:
            UserError: If there is no such run, or it kept none.
        """
        from sweep.tracking.failures import is_refusal

        with self._asking(f"run {run_id!r}"):
            try:
                run = self._client.get_run(run_id)
            except Exception as err:
                if is_refusal(err):
                    raise UserError(f"runs:/{run_id}: {redacted(self._uri)} has no such run.") from err
                raise
        models = run.outputs.model_outputs if run.outputs else []
        if not models:
            raise UserError(f"runs:/{run_id}: no model of this run was kept. `sweep best` names the kept ones.")
        return f"models:/{max(models, key=lambda output: output.step).model_id}"

    def _model(self, name: str) -> Any:
        from sweep.tracking.failures import is_missing

        with self._asking(f"the registered model {name!r}"):
            try:
                return self._client.get_registered_model(name)
            except Exception as err:
                if is_missing(err):
                    return None
                raise

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        import requests
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (MlflowException, requests.RequestException, SQLAlchemyError, OSError) as err:
            raise RecordingError(
                f"MLflow at {redacted(self._uri)}: {what}: {_line(err, self._uri)}. "
                "Once it answers, run the same command again: what was done is found, not done twice."
            ) from err


def _insisting(write: Callable[[], object]) -> None:
    """Write, and once more where somebody else has written the same for the first time at the same moment."""
    from mlflow.exceptions import MlflowException

    try:
        write()
    except MlflowException as err:
        if "IntegrityError" not in str(err):
            raise
        write()


def _named(number: int | None) -> str:
    return "nobody's" if number is None else f"version {number}"


def _version(found: Any) -> Version:
    return Version(name=found.name, number=int(found.version), source=found.source, tags=dict(found.tags))


def _line(error: Exception, uri: str) -> str:
    return redacted(" ".join(str(error).split())[:300], uri)
