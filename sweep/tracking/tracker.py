"""A study's experiment and runs in MLflow, found before they are made, so that nothing is made twice."""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow.entities import Experiment, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException

from sweep.tracking import words
from sweep.tracking.acknowledged import Acknowledged
from sweep.tracking.failures import is_missing
from sweep.tracking.patience import PatientClient

_METRICS_PER_BATCH = 1000
_RUNS_PER_PAGE = 1000


class Tracker:
    """Find-or-make for one study.

    Attributes:
        client: MLflow's client.
        study: The study's name.
        uid: The spool's name, which tells this study from another of the same name.
        artifacts: Where a new experiment's artifacts go; None leaves it to the server.
        tags: What each run is known to be tagged with, for the tags that move (rank, best, name).
    """

    def __init__(
        self,
        client: PatientClient,
        acked: Acknowledged,
        *,
        study: str,
        uid: str,
        artifacts: Path | None,
        is_own_store: bool,
    ) -> None:
        """Nothing is asked or made yet.

        Args:
            client: MLflow's client.
            acked: What was made before; kept up to date here.
            study: The study's name.
            uid: The spool's name.
            artifacts: Where artifacts go, or None.
            is_own_store: Whether the store is the storage's own, which holds studies alone.
        """
        self.client = client
        self.tags: dict[int, dict[str, str]] = {}
        self._acked = acked
        self.study = study
        self.uid = uid
        self.artifacts = artifacts
        self._is_own_store = is_own_store
        self._looked = False
        self._is_open = False

    def doubt(self) -> None:
        """A request may have worked though it failed: look before making anything more."""
        self._looked = False

    def is_lost(self) -> bool:
        """Whether the store no longer has what was made there, so that all must be delivered again."""
        if self._acked.parent_run_id is None:
            return False
        try:
            self.client.get_run(self._acked.parent_run_id)
        except MlflowException as err:
            if is_missing(err):
                return True
            raise
        return False

    def probe(self) -> None:
        """Write something harmless, once and without patience: a tag that goes again, and a file.

        Raises:
            Exception: Of ``failures.FAILURES``, if the tracker takes writes not now, or has no run of this study yet.
        """
        if self._acked.parent_run_id is None:
            raise LookupError("the study's run is not made yet")
        client = self.client.impatient
        client.set_tag(self._acked.parent_run_id, words.PROBE, str(time.time()))
        client.delete_tag(self._acked.parent_run_id, words.PROBE)
        client.log_text(self._acked.parent_run_id, "Written to see whether files are taken.\n", "probe.txt")

    def experiment(self) -> str:
        """The study's experiment, restored if somebody deleted it before this connection was made."""
        if self._acked.experiment_id is None or not self._is_open:
            found = self._find_experiment()
            self._acked.experiment_id = self._make_experiment() if found is None else self._revive(found)
            self._is_open = True
        return self._acked.experiment_id

    def parent(self, began_at: float | None = None) -> str:
        """The study's run."""
        if self._acked.parent_run_id is None:
            self.look_again()
        if self._acked.parent_run_id is None:
            tags = {words.ROLE: "study", words.STATE: "RUNNING", **self._common()}
            self._acked.parent_run_id = self._make_run(self.study, tags, began_at)
        return self._acked.parent_run_id

    def child(self, number: int, began_at: float | None = None) -> tuple[str, bool]:
        """A trial's run, and whether it is new."""
        if number not in self._acked.runs:
            self.look_again()
        if number in self._acked.runs:
            return self._acked.runs[number], False
        tags = {
            words.ROLE: "trial",
            words.TRIAL: str(number),
            words.STATE: "RUNNING",
            "mlflow.parentRunId": self.parent(),
            **self._common(),
        }
        run_id = self._make_run(words.trial_name(number), tags, began_at)
        self._acked.runs[number] = run_id
        return run_id, True

    def log(
        self,
        run_id: str,
        *,
        metrics: list[Metric] | None = None,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """As few requests as MLflow's limits allow."""
        waiting = list(metrics or ())
        pairs = [Param(key, value) for key, value in (params or {}).items()]
        labels = [RunTag(key, value) for key, value in (tags or {}).items()]
        if pairs or labels or waiting:
            first = _METRICS_PER_BATCH - min(100, len(pairs)) - min(100, len(labels))
            self.client.log_batch(run_id, metrics=waiting[:first], params=pairs, tags=labels)
            for start in range(first, len(waiting), _METRICS_PER_BATCH):
                self.client.log_batch(run_id, metrics=waiting[start : start + _METRICS_PER_BATCH])

    def look_again(self) -> None:
        """Take stock of the store if anything was in doubt."""
        if not self._looked:
            self.survey()

    def survey(self) -> list[Run]:
        """Take stock of the store: the study's runs as they are now, without the doubles."""
        runs = self._take_stock(list(self._search()))
        self._looked = True
        return runs

    def _search(self) -> Iterator[Run]:
        token = None
        experiment = self.experiment()
        while True:
            page = self.client.search_runs(
                [experiment],
                filter_string=f"tags.`{words.UID}` = '{self.uid}'",
                run_view_type=ViewType.ACTIVE_ONLY,
                max_results=_RUNS_PER_PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            yield from page
            token = page.token
            if not token:
                return

    def _take_stock(self, runs: list[Run]) -> list[Run]:
        kept = []
        for run in runs:
            role, run_id = run.data.tags.get(words.ROLE), run.info.run_id
            if role == "study":
                self._acked.parent_run_id = self._acked.parent_run_id or run_id
                keeper = self._acked.parent_run_id
            elif role == "trial":
                number = int(run.data.tags[words.TRIAL])
                keeper = self._acked.runs.setdefault(number, run_id)
                if keeper == run_id:
                    moving = {key: run.data.tags[key] for key in (words.RANK, words.BEST) if key in run.data.tags}
                    self.tags[number] = {**moving, "name": run.info.run_name or ""}
            else:
                continue
            if keeper == run_id:
                kept.append(run)
            else:
                # A request that seemed to fail had made it after all.
                self.client.delete_run(run_id)
        return kept

    def _find_experiment(self) -> Experiment | None:
        known = self._acked.experiment_id
        if known is not None:
            try:
                return self.client.get_experiment(known)
            except MlflowException as err:
                if not is_missing(err):
                    raise
        return self.client.get_experiment_by_name(self.study)

    def _make_experiment(self) -> str:
        location = None if self.artifacts is None else str(self.artifacts)
        try:
            made: str = self.client.create_experiment(self.study, artifact_location=location)
        except MlflowException:
            # Another writer, or a request of ours that seemed to fail, was quicker.
            found = self.client.get_experiment_by_name(self.study)
            if found is None:
                raise
            return self._revive(found)
        if self._is_own_store:
            self._hide_default()
        return made

    def _hide_default(self) -> None:
        """Take MLflow's own empty experiment out of sight of a storage's store: it holds studies alone."""
        default = self.client.get_experiment_by_name("Default")
        if default is None or default.lifecycle_stage == "deleted":
            return
        if not self.client.search_runs([default.experiment_id], max_results=1):
            self.client.delete_experiment(default.experiment_id)

    def _revive(self, experiment: Experiment) -> str:
        if experiment.lifecycle_stage == "deleted":
            self.client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)

    def _make_run(self, name: str, tags: Mapping[str, str], began_at: float | None) -> str:
        run = self.client.create_run(
            self.experiment(),
            start_time=None if began_at is None else words.milliseconds(began_at),
            tags=dict(tags),
            run_name=name,
        )
        return str(run.info.run_id)

    def _common(self) -> dict[str, Any]:
        return {
            words.UID: self.uid,
            words.STUDY: self.study,
            "mlflow.source.name": "sweep",
            "mlflow.source.type": "LOCAL",
            "mlflow.user": _user(),
        }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
