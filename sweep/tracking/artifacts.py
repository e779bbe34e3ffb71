"""Files that go with runs: gathered in one temporary folder, then sent."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import yaml

from sweep.ports import StudyBegun
from sweep.redaction import redacted_values
from sweep.strict_json import strict_json
from sweep.tracking.curves import draw, write_table
from sweep.tracking.memory import TrialMemory
from sweep.tracking.tracker import Tracker
from sweep.tracking.words import trial_name


def log_study_files(tracker: Tracker, record: StudyBegun) -> None:
    """``spec.yaml``, ``environment.json`` and ``data.json`` of the parent run."""
    with tempfile.TemporaryDirectory(prefix="sweep-") as scratch:
        folder = Path(scratch)
        spec = yaml.safe_dump(redacted_values(record.spec), sort_keys=False, allow_unicode=True)
        (folder / "spec.yaml").write_text(spec, encoding="utf-8")
        write_json(folder / "environment.json", dict(record.environment))
        write_json(folder / "data.json", dict(record.data))
        send_files(tracker, tracker.parent(), folder)


def log_trial_files(tracker: Tracker, run_id: str, trial: TrialMemory, metric: str) -> None:
    """Log, the objective's own files, settings and learning curves of a finished trial."""
    over = trial.over
    with tempfile.TemporaryDirectory(prefix="sweep-") as scratch:
        folder = Path(scratch)
        if over and over.artifacts and Path(over.artifacts).is_dir():
            shutil.copytree(over.artifacts, folder, dirs_exist_ok=True)
        if over and over.log and Path(over.log).is_file():
            shutil.copyfile(over.log, folder / "log.txt")
        write_json(folder / "settings.json", {**trial.settings, "seed": trial.seed})
        if trial.history:
            write_table(trial.history, folder / "curves.csv")
            title = f"{trial_name(trial.number)} · {trial.state}"
            draw(trial.history, folder / "learning_curves.png", title=title, metric=metric)
        send_files(tracker, run_id, folder)


def send_files(tracker: Tracker, run_id: str, folder: Path) -> None:
    """Each file by itself: where calls fail by chance, the client is patient with each."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            below = path.parent.relative_to(folder).as_posix()
            tracker.client.log_artifact(run_id, str(path), None if below == "." else below)


def write_json(path: Path, value: object) -> None:
    """Readable JSON, on which every reader agrees."""
    path.write_text(strict_json(value), encoding="utf-8")
