"""Cost of the study store's calls, by storage and number of trials: ``python tests/benchmarks/study_store.py``.

Compares this store (memory copy, written through) on a journal and on SQLite with Optuna's own ask/tell on
the same storages, which draws and prunes through the storage. Medians in milliseconds, with the disk's fsync
measured beside them.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from sweep.domain import TrialState
from sweep.search import OptunaStore, read_trials
from sweep.search.space import SearchSpace
from sweep.spec.model import DataSpec, ObjectiveSpec, SamplerSpec, SearchSpec, StudySpec, TrainingSpec
from sweep.spec.space import FloatRange
from sweep.testing.study_store import evaluation

SPACE = {
    "learning_rate": FloatRange(low=1e-5, high=3e-3, log=True),
    "dropout": FloatRange(low=0.0, high=0.5),
    "weight_decay": FloatRange(low=1e-6, high=0.3, log=True),
}
WINDOW = 30
"""Trials over which a median is taken."""

Timings = dict[str, list[float]]


def spec_in(storage: Path, sampler: Any, history: str | None) -> StudySpec:
    return StudySpec(
        study="benchmark",
        objective=ObjectiveSpec(
            model="bundled:minilm-l6",
            data=DataSpec(source="bundled:tweets"),
            training=TrainingSpec(epochs=4.0),
        ),
        search=SearchSpec(space=SPACE, sampler=SamplerSpec(name=sampler)),
        storage=str(storage),
        history=history,
    )


def timed(timings: Timings, name: str, call: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    result = call()
    timings[name].append((time.perf_counter() - began) * 1000)
    return result


def value_at(number: int, level: float) -> float:
    return (number * 7919 % 1000) / 1000 - 0.1 / level


def run_ours(spec: StudySpec, trials: int) -> Timings:
    timings: Timings = defaultdict(list)
    store = OptunaStore.create(spec)
    for _ in range(trials):
        number = timed(timings, "ask", store.ask).number
        timed(timings, "begin", lambda n=number: store.begin_attempt(n))
        for level in spec.evaluate_at:
            report = evaluation(number, round(level * 100), value_at(number, level), fidelity=level)
            timed(timings, "report", lambda r=report: store.report(r, r.metrics["accuracy"]))
            if timed(timings, "should_prune", lambda n=number: store.should_prune(n)):
                break
        timed(timings, "tell", lambda n=number, r=report: store.tell(n, TrialState.COMPLETE, r))
        timed(timings, "trials()", store.trials)
    store.close()
    timed(timings, "reopen", lambda: OptunaStore.open(spec)).close()
    timed(timings, "read_trials", lambda: read_trials(spec))
    return timings


def run_plain(spec: StudySpec, trials: int, storage: Any) -> Timings:
    """Optuna's own ask/tell, with the report and the attempt as user attributes."""
    timings: Timings = defaultdict(list)
    sampler = (
        optuna.samplers.TPESampler(seed=0)
        if spec.search.sampler.name == "tpe"
        else optuna.samplers.QMCSampler(scramble=True, seed=0, warn_independent_sampling=False)
    )
    ladder = spec.ladder
    assert ladder is not None
    pruner = optuna.pruners.SuccessiveHalvingPruner(
        min_resource=int(ladder.min_fidelity * 1000), reduction_factor=ladder.reduction_factor
    )
    study = optuna.create_study(storage=storage, study_name="plain", sampler=sampler, pruner=pruner)
    distributions = SearchSpace(SPACE).optuna
    for _ in range(trials):
        trial = timed(timings, "ask", lambda: study.ask(fixed_distributions=distributions))
        timed(timings, "begin", lambda t=trial: t.set_user_attr("sweep:attempt", 1))
        for level in spec.evaluate_at:
            value = -value_at(trial.number, level)

            def report(trial: Any = trial, level: float = level, value: float = value) -> None:
                trial.set_user_attr(f"sweep:report:{level}", {"value": value, "step": level})
                trial.report(value, round(level * 1000))

            timed(timings, "report", report)
            if timed(timings, "should_prune", trial.should_prune):
                break
        timed(timings, "tell", lambda t=trial, v=value: study.tell(t, v))
        timed(timings, "trials()", lambda: study.get_trials(deepcopy=False))
    return timings


def fsync_milliseconds(folder: Path) -> float:
    took = []
    with (folder / "fsync").open("ab") as stream:
        for _ in range(30):
            stream.write(b"x" * 300)
            stream.flush()
            began = time.perf_counter()
            os.fsync(stream.fileno())
            took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


def runs_in(root: Path, sampler: str, trials: int, postgres: str | None) -> dict[str, Callable[[], Timings]]:
    journal = spec_in(root, sampler, None)
    sqlite = spec_in(root, sampler, f"sqlite:///{root / 'ours.db'}")
    runs = {
        "journal, this store": lambda: run_ours(journal, trials),
        "journal, plain Optuna": lambda: run_plain(
            journal, trials, JournalStorage(JournalFileBackend(str(root / "plain.log")))
        ),
    }
    if trials <= 100:  # minutes otherwise
        runs["sqlite, this store"] = lambda: run_ours(sqlite, trials)
        runs["sqlite, plain Optuna"] = lambda: run_plain(journal, trials, RDBStorage(f"sqlite:///{root / 'plain.db'}"))
    if postgres:
        shared = spec_in(root, sampler, postgres).model_copy(update={"study": f"benchmark-{time.time_ns()}"})
        runs["postgresql, this store"] = lambda: run_ours(shared, trials)
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--samplers", nargs="+", default=["sobol", "tpe"])
    parser.add_argument("--postgres", help="URL of a database to measure as well")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    columns = ("ask", "begin", "report", "should_prune", "tell", "trials()", "reopen", "read_trials")
    print(f"{'':34}" + "".join(f"{name:>13}" for name in columns) + f"{'fsync':>9}")
    for sampler in arguments.samplers:
        for trials in arguments.trials:
            with tempfile.TemporaryDirectory(dir=".") as folder:
                root = Path(folder).resolve()
                for name, run in runs_in(root, sampler, trials, arguments.postgres).items():
                    timings = run()
                    medians = (statistics.median(timings.get(c, [math.nan])[-WINDOW:]) for c in columns)
                    cells = "".join(f"{median:13.2f}" for median in medians)
                    print(f"{sampler:6}{trials:6}  {name:20}{cells}{fsync_milliseconds(root):9.2f}", flush=True)


if __name__ == "__main__":
    main()
