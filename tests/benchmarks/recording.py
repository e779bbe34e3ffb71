"""What recording costs: ``python tests/benchmarks/recording.py [TRIALS]``.

Prints the microseconds a driver waits for one record, and how many metric values a second reach MLflow's SQLite
store, beside one ``log_metric`` call for each value. Then what a report costs a driver before a server that takes
no time, a tenth of a second and five seconds for each call, beside a driver without any server.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
import warnings
from contextlib import ExitStack
from pathlib import Path

from sweep.domain import Report
from sweep.layout import StudyLayout
from sweep.ports import Record
from sweep.tracking import SpoolRecorder
from sweep.tracking.settings import quiet_mlflow
from sweep.tracking.store import cache_folder, prepare_sqlite
from tests.fault_proxy import Faults, fault_proxy
from tests.mlflow_server import free_port, running
from tests.recording import attempt, begun, report, study_over

EVALUATIONS = 50
PACE_SECONDS = 0.05
STEP_SECONDS = 0.1
METRICS = {f"metric_{index}": float(index) for index in range(12)}


def records(trials: int) -> list[Record]:
    found: list[Record] = [begun()]
    for number in range(trials):
        found.append(attempt(number))
        found.extend(report(number, step, **METRICS) for step in range(1, EVALUATIONS + 1))
    return [*found, study_over([], state="PAUSED")]


def spooled(storage: Path, made: list[Record]) -> tuple[list[float], float]:
    """Seconds of each record, and seconds until all of them are in MLflow, the process's start included."""
    layout = StudyLayout(storage, "demo")
    prepare_sqlite(storage / "mlflow.db", cache_folder())
    began = time.perf_counter()
    recorder = SpoolRecorder(layout, layout.tracking_uri)
    waits = []
    for record in made:
        before = time.perf_counter()
        recorder.record(record)
        waits.append(time.perf_counter() - before)
    left = recorder.close(600)
    if left:
        raise SystemExit(f"{left} records were not delivered")
    return waits, time.perf_counter() - began


def naive(storage: Path, reports: list[Report]) -> tuple[list[float], float]:
    """The same values by one call each, by the thread that trains."""
    quiet_mlflow()
    warnings.simplefilter("ignore")
    from mlflow import MlflowClient

    prepare_sqlite(storage / "mlflow.db", cache_folder())
    began = time.perf_counter()
    client = MlflowClient(tracking_uri=f"sqlite:///{storage / 'mlflow.db'}")
    experiment = client.create_experiment("naive", artifact_location=str(storage / "artifacts"))
    runs: dict[int, str] = {}
    waits = []
    for one in reports:
        if one.trial_number not in runs:
            runs[one.trial_number] = client.create_run(experiment).info.run_id
        before = time.perf_counter()
        for key, value in one.metrics.items():
            at = round(one.reported_at * 1000)
            client.log_metric(runs[one.trial_number], key, value, timestamp=at, step=one.step)
        waits.append(time.perf_counter() - before)
    return waits, time.perf_counter() - began


def print_far(reports: int) -> None:
    """What a report costs a driver, by what each call to the server takes; in turns, so that all share the noise."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(running(place))
        places = {"no server": f"http://127.0.0.1:{free_port()}"}
        for latency in (0.0, 0.1, 5.0):
            proxy = stack.enter_context(fault_proxy(server.port, Faults(latency_seconds=latency)))
            places[f"{latency} s"] = proxy.address
        recorders = {name: SpoolRecorder(StudyLayout(place, name.split()[0]), uri) for name, uri in places.items()}
        for recorder in recorders.values():
            recorder.record_all([begun(), attempt(0)])
        waits, works = ({name: list[float]() for name in places} for _ in range(2))
        for step in range(1, reports + 1):
            for name, recorder in recorders.items():
                # Paced, so that delivery goes on meanwhile.
                time.sleep(PACE_SECONDS)
                before, worked = time.perf_counter(), time.process_time()
                recorder.record(report(0, step, **METRICS))
                waits[name].append(time.perf_counter() - before)
                works[name].append(time.process_time() - worked)
        for recorder in recorders.values():
            recorder.close(0.5)
    alone = statistics.median(waits["no server"])
    print("a call takes   driver waits   ratio   works   of a step of 0.1 s")
    for name in places:
        wait, work = statistics.median(waits[name]), statistics.median(works[name])
        share = work / STEP_SECONDS
        print(f"{name:12} {wait * 1e6:9.0f} us {wait / alone:7.2f} {work * 1e6:4.0f} us {share:20.2%}")


def main() -> None:
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    made = records(trials)
    reports = [record for record in made if isinstance(record, Report)]
    values = sum(len(one.metrics) + 2 for one in reports)
    with tempfile.TemporaryDirectory() as folder:
        waits, seconds = spooled(Path(folder), made)
    # A tenth is enough to know the rate of the slow way.
    few = reports[: max(EVALUATIONS, len(reports) // 10)]
    with tempfile.TemporaryDirectory() as folder:
        naive_waits, naive_seconds = naive(Path(folder), few)
    naive_rate = sum(len(one.metrics) for one in few) / naive_seconds
    rate = values / seconds
    wait, naive_wait = statistics.median(waits), statistics.median(naive_waits)
    print(f"{len(made)} records, {values} values")
    print(f"driver waits, median:  {wait * 1e6:10.0f} us a record; naive {naive_wait * 1e6:10.0f} us")
    print(f"driver waits, worst:   {max(waits) * 1e6:10.0f} us a record; naive {max(naive_waits) * 1e6:10.0f} us")
    print(f"values in MLflow:      {rate:10.0f} a second; naive {naive_rate:10.0f} a second")
    print(f"ratio:                 {naive_wait / wait:10.0f} x less waiting, {rate / naive_rate:.1f} x the rate")
    print_far(reports=10 * trials)


if __name__ == "__main__":
    main()
