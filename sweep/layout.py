"""Where things lie below a storage root; nothing here touches the disk.

::

    <storage>/
      mlflow.db                    MLflow's store
      artifacts/                   MLflow's artifacts
      prepared/<key>/              tokenised data, keyed by content, shared between studies
      studies/<study>.confirm/     the final of a study: a study of its own, with the folders of one
      studies/<study>/
        spec.yaml                  the resolved spec
        driver.lock                held by the running driver; names it
        history/                   Optuna's journal
        spool/                     records on their way to MLflow
        control/                   requests to the running driver
        logs/trial-0000.log        one log for each trial
        checkpoints/trial-0000/step-00000012/
        checkpoints/soup-0000/3-7/   averages of the finalists' weights, by seed; in a final
        artifacts/trial-0000/      files a trial shows
        exports/                   models made ready for deployment
        verdict.json               what the final says of the finalists
        gc.jsonl                   what `sweep gc` removed
        gc.reserve                 room for its next lines, on a full disk
        test_openings.jsonl        every look at the test split
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

CONFIRMATION_SUFFIX = ".confirm"
"""The final is a study of its own, named after the searched one."""

LONGEST_NAME = 64
"""Characters of a study's name, a final's as well."""


@dataclass(frozen=True, slots=True)
class StudyLayout:
    """Paths of one study.

    Attributes:
        storage: Absolute storage root.
        study: The study's name.
    """

    storage: Path
    study: str

    @property
    def folder(self) -> Path:
        """The study's own folder."""
        return self.storage / "studies" / self.study

    @property
    def spec(self) -> Path:
        """The resolved spec, as YAML."""
        return self.folder / "spec.yaml"

    @property
    def lock(self) -> Path:
        """The running driver's lock file."""
        return self.folder / "driver.lock"

    @property
    def history(self) -> Path:
        """Folder of the study's history."""
        return self.folder / "history"

    @property
    def spool(self) -> Path:
        """Folder of the records on their way to the tracker."""
        return self.folder / "spool"

    @property
    def control(self) -> Path:
        """Folder of requests to the running driver."""
        return self.folder / "control"

    @property
    def logs(self) -> Path:
        """Folder of logs."""
        return self.folder / "logs"

    @property
    def tracking_log(self) -> Path:
        """Log of the delivery to the tracker."""
        return self.logs / "tracking.log"

    @property
    def exports(self) -> Path:
        """Folder of exported models."""
        return self.folder / "exports"

    @property
    def verdict(self) -> Path:
        """What the final says of the finalists."""
        return self.folder / "verdict.json"

    @property
    def confirmation(self) -> StudyLayout:
        """The study's final."""
        return StudyLayout(self.storage, self.study + CONFIRMATION_SUFFIX)

    @property
    def searched(self) -> StudyLayout | None:
        """The study whose final this is; None if it is a search."""
        name = self.study.removesuffix(CONFIRMATION_SUFFIX)
        return StudyLayout(self.storage, name) if name != self.study else None

    @property
    def removals(self) -> Path:
        """What garbage collection removed, one JSON object a line."""
        return self.folder / "gc.jsonl"

    @property
    def test_openings(self) -> Path:
        """Every look at the test split; a study and its final have the same."""
        return (self.searched or self).folder / "test_openings.jsonl"

    @property
    def prepared(self) -> Path:
        """Folder of prepared data, shared between studies."""
        return self.storage / "prepared"

    @property
    def tracking_uri(self) -> str:
        """MLflow's store in this storage."""
        return f"sqlite:///{self.storage / 'mlflow.db'}"

    @property
    def tracking_artifacts(self) -> Path:
        """MLflow's artifact root in this storage."""
        return self.storage / "artifacts"

    def export(self, trial_number: int) -> Path:
        """The export of a kept trial's model."""
        return self.exports / f"trial-{trial_number:04d}"

    @property
    def soup_export(self) -> Path:
        """In a final, the export of the average that is deployed."""
        return self.exports / "soup"

    def log(self, trial_number: int) -> Path:
        """Log file of a trial."""
        return self.logs / f"trial-{trial_number:04d}.log"

    def checkpoints(self, trial_number: int) -> Path:
        """Folder of a trial's checkpoints."""
        return self.folder / "checkpoints" / f"trial-{trial_number:04d}"

    def checkpoint(self, trial_number: int, stored: str) -> Path:
        """Where a trial's checkpoint lies now, wherever it lay when its path was stored: a storage may be moved."""
        return self.checkpoints(trial_number) / Path(stored).name

    def soup(self, seed_index: int, trials: Sequence[int]) -> Path:
        """In a final, the average of the models that some trials have on a seed."""
        name = "-".join(map(str, trials))
        # A file's name has at most 255 bytes.
        name = name if len(name) <= LONGEST_NAME else hashlib.sha256(name.encode()).hexdigest()
        return self.folder / "checkpoints" / f"soup-{seed_index:04d}" / name

    def artifacts(self, trial_number: int) -> Path:
        """Folder of the files a trial shows."""
        return self.folder / "artifacts" / f"trial-{trial_number:04d}"
