"""Records of a small made-up study, and what MLflow's SQLite store holds of it, read without MLflow."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sweep.domain import Report, TrialState
from sweep.layout import StudyLayout
from sweep.ports import AttemptBegun, ModelKept, Record, StudyBegun, StudyOver, TrialOver

BEGAN = 1_700_000_000.0
STEPS = (10, 20, 30)

SPEC: dict[str, Any] = {
    "study": "demo",
    "objective": {
        "task": "text-classification",
        "model": "bundled:minilm-l6",
        "data": {"source": "bundled:tweets"},
        "training": {"epochs": 3.0, "steps": None},
    },
    "search": {"learning_rate": {"low": 1e-5, "high": 1e-3}, "seed": 7, "sampler": {"name": "sobol"}},
    "metric": {"name": "accuracy", "direction": "maximize", "from": "best"},
    "budget": {"trials": 4, "hours": None},
    "history": "postgresql://ann:secret@db/optuna",
}


def begun(at: float = BEGAN, **changes: Any) -> StudyBegun:
    data = {"folder": "/prepared/x", "data_hash": "ab" * 32, "rows": {"train": 90, "validation": 10}}
    spec = {**SPEC, **changes}
    return StudyBegun(study="demo", spec=spec, data=data, environment={"python": "3.11"}, at=at)


def attempt(number: int, attempt: int = 1, **hyperparameters: Any) -> AttemptBegun:
    drawn = {"learning_rate": 1e-4 * (number + 1), "keep_layers": (0, 2, 5), **hyperparameters}
    settings = {"epochs": 3.0, "keep_layers": [0, 2, 5]}
    at = BEGAN + number * 100 + attempt
    return AttemptBegun(
        trial_number=number, attempt=attempt, hyperparameters=drawn, settings=settings, seed=number, at=at
    )


def report(number: int, step: int, **metrics: float) -> Report:
    values = {"accuracy": accuracy(number, step), "loss": 1.0 / step, "system/cpu_percent": 50.0, **metrics}
    return Report(
        trial_number=number,
        attempt=1,
        step=step,
        fidelity=step / 10,
        metrics=values,
        checkpoint=None,
        wall_seconds=step / 10,
        reported_at=BEGAN + number * 100 + step + 0.125,
    )


def accuracy(number: int, step: int) -> float:
    return 0.5 + number / 100 + step / 1000


def over(number: int, state: TrialState = TrialState.COMPLETE, **changes: Any) -> TrialOver:
    fields: dict[str, Any] = {
        "trial_number": number,
        "state": state,
        "value": accuracy(number, STEPS[-1]),
        "step": STEPS[-1],
        "error": None,
        "artifacts": None,
        "log": None,
        "at": BEGAN + number * 100 + 50,
    }
    return TrialOver(**{**fields, **changes})


def kept(layout: StudyLayout, number: int, **changes: Any) -> ModelKept:
    folder = layout.exports / f"trial-{number:04d}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"w" * 2_000_000)
    fields: dict[str, Any] = {
        "trial_number": number,
        "step": STEPS[-1],
        "folder": str(folder),
        "metrics": report(number, STEPS[-1]).metrics,
        "test": {"accuracy": 0.9 + number / 1000},
        "at": BEGAN + 5000,
    }
    return ModelKept(**{**fields, **changes})


def study_over(ranking: list[int], state: str = "COMPLETE", at: float = BEGAN + 6000, **counts: int) -> StudyOver:
    return StudyOver(state=state, ranking=ranking, counts=counts, at=at)


def whole_trial(number: int) -> Iterator[Record]:
    yield attempt(number)
    for step in STEPS:
        yield report(number, step)
    yield over(number)


class Store:
    """MLflow's SQLite store, read directly: an oracle that shares no code with the product.

    Args:
        path: The database.
        study: The experiment to look at; all of them if it is None.
    """

    def __init__(self, path: Path, study: str | None = None) -> None:
        self._path = path
        self._study = study

    def rows(self, sql: str, *arguments: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)) as database:
            return database.execute(sql, arguments).fetchall()

    def experiments(self) -> list[str]:
        return [name for (name,) in self.rows("SELECT name FROM experiments WHERE name != 'Default'")]

    def runs(self, role: str = "trial") -> dict[str, str]:
        """Run id by trial number (or study name); fails if one is there twice."""
        key = "sweep.trial_number" if role == "trial" else "sweep.study"
        found = self.rows(
            "SELECT k.value, r.run_uuid FROM runs r JOIN tags k ON k.run_uuid = r.run_uuid AND k.key = ? "
            "JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'sweep.role' AND t.value = ? "
            "JOIN experiments e ON e.experiment_id = r.experiment_id AND e.name = coalesce(?, e.name) "
            "WHERE r.lifecycle_stage = 'active' ORDER BY k.value",
            key,
            role,
            self._study,
        )
        assert len({name for name, _ in found}) == len(found), f"a run is there twice: {found}"
        return dict(found)

    def parent(self) -> str:
        (run_id,) = self.runs("study").values()
        return run_id

    def run(self, number: int) -> str:
        return self.runs()[str(number)]

    def info(self, run_id: str) -> dict[str, Any]:
        ((name, status, start, end),) = self.rows(
            "SELECT name, status, start_time, end_time FROM runs WHERE run_uuid = ?", run_id
        )
        return {"name": name, "status": status, "start": start, "end": end}

    def tags(self, run_id: str) -> dict[str, str]:
        return dict(self.rows("SELECT key, value FROM tags WHERE run_uuid = ?", run_id))

    def params(self, run_id: str) -> dict[str, str]:
        return dict(self.rows("SELECT key, value FROM params WHERE run_uuid = ?", run_id))

    def metric(self, run_id: str, key: str) -> list[tuple[int, float, int]]:
        sql = "SELECT step, value, timestamp FROM metrics WHERE run_uuid = ? AND key = ? ORDER BY step"
        return self.rows(sql, run_id, key)

    def doubles(self) -> list[tuple[Any, ...]]:
        """Metrics that have more than one value at a step."""
        return self.rows("SELECT run_uuid, key, step, count(*) FROM metrics GROUP BY 1, 2, 3 HAVING count(*) > 1")

    def statuses(self) -> dict[str, tuple[str, str]]:
        """MLflow's status and our state of each trial's run, and of the study's under the name ``study``."""
        runs = {**self.runs(), "study": self.parent()}
        return {name: (self.info(run)["status"], self.tags(run)["sweep.state"]) for name, run in runs.items()}

    def models(self) -> list[tuple[str, int]]:
        """Name and status of LoggedModels; status 2 is READY."""
        return self.rows("SELECT name, status FROM logged_models ORDER BY name")


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache of prepared stores, shared by these modules alone, so that no test writes into the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        yield
