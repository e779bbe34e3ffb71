from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from sweep.domain import AttemptEnd
from sweep.errors import ExecutionError, NoWorkersError
from sweep.execution.messages import request_to_json
from sweep.execution.ray_actor import Answer, TrialWorker, WorkerIdentity, WorkerSettings
from sweep.execution.ray_cluster import RayCluster, TrialShare, start_cluster
from sweep.execution.ray_slot import WorkerSlot
from sweep.execution.ray_workers import RayExecutor
from sweep.execution.warm_client import WarmParent
from sweep.ports import AttemptLimits, Ended, Event, Reported, Started
from sweep.testing.executor import (
    CONFORMANCE_LIMITS,
    ExecutorConformance,
    gather,
    gone_within,
    run,
    start,
    the_end,
    toy_request,
    wait_for,
)
from sweep.testing.toy_objectives import LOADER
from tests.fault.clusters import eventually

TOYS = ("sweep.testing.toy_objectives",)


@pytest.fixture(scope="module")
def parent() -> Iterator[WarmParent]:
    parent = WarmParent(TOYS)
    parent.start()
    yield parent
    parent.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    cluster = start_cluster(TrialShare(cpus=1.0), workers=4, logical_gpus=2)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def gpu_executor(cluster: RayCluster, parent: WarmParent) -> Iterator[RayExecutor]:
    two = RayCluster(workers=2)
    executor = RayExecutor(
        two, TrialShare(gpus=1.0), "toy", parent=parent, loader=LOADER, modules=TOYS, limits=CONFORMANCE_LIMITS
    )
    yield executor
    executor.close()


@pytest.fixture
def executor(gpu_executor: RayExecutor) -> RayExecutor:
    while gpu_executor.free_slots < gpu_executor.slots:
        gpu_executor.wait(0.5)
    return gpu_executor


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def ended(seen: object) -> bool:
    return any(isinstance(event, Ended) for event in seen)  # type: ignore[attr-defined]


def begin(executor: RayExecutor, folder: Path) -> Started:
    start(executor, toy_request(folder, reports=0, then="hang"), folder / "log")
    (started,) = gather(executor, lambda seen: any(isinstance(event, Started) for event in seen))
    assert isinstance(started, Started)
    return started


class TestRayExecutor(ExecutorConformance):
    pass


def test_trials_side_by_side_get_devices_of_their_own(executor: RayExecutor, folder: Path) -> None:
    for _ in range(2):
        executor.start(toy_request(folder, reports=1, sleep_seconds=0.1), folder / "log")
    events = gather(executor, lambda seen: sum(isinstance(event, Ended) for event in seen) == 2)
    devices = {event.report.metrics["device"] for event in events if isinstance(event, Reported)}
    assert devices == {0.0, 1.0}


def test_trials_without_gpus_see_none(cluster: RayCluster, parent: WarmParent, folder: Path) -> None:
    one = RayCluster(workers=1)
    executor = RayExecutor(one, TrialShare(cpus=0.5), "toy", parent=parent, loader=LOADER, modules=TOYS)
    try:
        run(executor, toy_request(folder), folder / "log")
        assert "devices ''" in (folder / "log").read_text()
    finally:
        executor.close()


def test_a_killed_worker_loses_its_attempt_and_is_replaced(executor: RayExecutor, folder: Path) -> None:
    started = begin(executor, folder)
    actor = executor.worker_pids[int(started.worker.rsplit("-", 1)[1])]
    os.kill(actor, signal.SIGKILL)
    events = gather(executor, ended)
    assert the_end(events).end is AttemptEnd.LOST
    assert gone_within(5, started.pid, actor)
    seen: list[Event] = []
    while executor.free_slots < executor.slots:
        seen += executor.wait(0.5)
    assert seen == []
    for _ in range(executor.slots):
        executor.start(toy_request(folder), folder / "log")
    again = gather(executor, lambda seen: sum(isinstance(event, Ended) for event in seen) == executor.slots)
    assert {event.end for event in again if isinstance(event, Ended)} == {AttemptEnd.FINISHED}


def test_an_idle_worker_that_dies_is_replaced_before_it_is_needed(executor: RayExecutor, folder: Path) -> None:
    victims = list(executor.worker_pids)
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    assert gone_within(5, *victims)
    while any(pid in victims for pid in executor.worker_pids) or executor.free_slots < executor.slots:
        assert list(executor.wait(0.5)) == []
    assert the_end(run(executor, toy_request(folder), folder / "log")).end is AttemptEnd.FINISHED


def test_workers_without_the_drivers_warm_parent_start_their_own(cluster: RayCluster, folder: Path) -> None:
    one = RayCluster(workers=1)
    executor = RayExecutor(one, TrialShare(cpus=0.5), "toy", parent=None, loader=LOADER, modules=TOYS)
    try:
        started = begin(executor, folder)
        own_parent = psutil.Process(started.pid).ppid()
        executor.close()
        assert gone_within(5, started.pid, own_parent)
    finally:
        executor.close()


def test_a_broken_warm_parent_is_told_as_an_error(cluster: RayCluster, folder: Path) -> None:
    broken = WarmParent(("sweep.no_such_module",))
    one = RayCluster(workers=1)
    executor = RayExecutor(one, TrialShare(cpus=0.5), "toy", parent=broken, loader=LOADER)
    try:
        start(executor, toy_request(folder), folder / "log")
        with pytest.raises(ExecutionError, match=r"cannot import sweep\.no_such_module"):
            gather(executor, ended)
    finally:
        executor.close()
        broken.close()


@ray.remote(max_restarts=0, concurrency_groups={"control": 1, "life": 1})
class Clumsy:
    """A worker that cannot do its part."""

    def __init__(self, settings: WorkerSettings) -> None:
        if settings.objective == "none":
            raise OSError("no room for a worker")

    def identify(self) -> WorkerIdentity:
        return WorkerIdentity(name="clumsy-0", pid=os.getpid(), node_id=ray.get_runtime_context().get_node_id())

    def live(self) -> None:
        threading.Event().wait()

    def begin(self, request: dict[str, Any], log: str, timeout_seconds: float, run: int) -> Answer:
        assignment = request["assignment"]
        if assignment["trial_number"] > 0:
            raise OSError("too many open files")
        started = Started(trial_number=0, attempt=1, worker="clumsy-0", pid=os.getpid())
        ended = Ended(trial_number=0, attempt=1, end=AttemptEnd.FINISHED)
        return Answer(events=[started, ended], is_going=False)


def test_a_worker_that_cannot_do_its_part_loses_the_attempt_alone_and_the_third_in_a_row_ends_the_study(
    cluster: RayCluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.execution.ray_slot.TrialActor", Clumsy)
    executor = RayExecutor(RayCluster(workers=1), TrialShare(cpus=0.5), "toy", parent=None, loader=LOADER)
    try:
        run(executor, toy_request(folder, number=0), folder / "log")
        for _ in range(2):
            end = the_end(run(executor, toy_request(folder, number=1), folder / "log"))
            assert end.end is AttemptEnd.PREEMPTED, "the trial does not answer for it"
            assert "too many open files" in (end.detail or "")
        with pytest.raises(NoWorkersError, match="too many open files"):
            run(executor, toy_request(folder, number=1), folder / "log")
    finally:
        executor.close()


def test_workers_that_cannot_be_made_are_one_clear_error(
    cluster: RayCluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.execution.ray_slot.TrialActor", Clumsy)
    monkeypatch.setattr("sweep.execution.ray_workers._LONGEST_PAUSE_SECONDS", 0.1)
    executor = RayExecutor(RayCluster(workers=1), TrialShare(cpus=0.5), "none", parent=None, loader=LOADER)
    try:
        with pytest.raises(NoWorkersError, match=r"no worker can be started: .*no room for a worker"):
            wait_for(lambda: executor.wait(0.1))
    finally:
        executor.close()


def test_workers_that_fail_to_start_side_by_side_count_as_one_failure(
    cluster: RayCluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.execution.ray_workers._LONGEST_PAUSE_SECONDS", 0.0)
    many = RayCluster(workers=6)
    executor = RayExecutor(many, TrialShare(cpus=0.1), "toy", parent=None, loader=LOADER)
    try:
        assert len(executor._workers) == 6
        for worker in list(executor._workers):
            executor._lose(worker, "killed while it began")
        assert executor._failed_starts == 1
    finally:
        executor.close()


def test_workers_that_cannot_be_made_for_a_while_end_no_study_that_has_run_trials(
    cluster: RayCluster, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweep.execution.ray_workers._LONGEST_PAUSE_SECONDS", 0.1)
    executor = RayExecutor(RayCluster(workers=1), TrialShare(cpus=0.5), "toy", parent=None, loader=LOADER)
    made: list[str] = []
    make = WorkerSlot.make

    def counted(settings: WorkerSettings, *others: Any) -> WorkerSlot:
        made.append(settings.objective)
        return make(settings, *others)

    monkeypatch.setattr(WorkerSlot, "make", counted)
    try:
        with monkeypatch.context() as clumsy:
            clumsy.setattr("sweep.execution.ray_slot.TrialActor", Clumsy)
            run(executor, toy_request(folder, number=0), folder / "log")
            executor._settings = replace(executor._settings, objective="none")
            identity = executor._workers[0].identity
            assert identity is not None
            os.kill(identity.pid, signal.SIGKILL)
            eventually("workers that fail", lambda: not executor.wait(0.1) and made.count("none") > 6, seconds=120)
            executor._settings = replace(executor._settings, objective="toy")
            wait_for(lambda: not executor.wait(0.1) and executor.free_slots == 1)
            ended = the_end(run(executor, toy_request(folder, number=0, attempt=2), folder / "log"))
            assert ended.end is AttemptEnd.FINISHED
    finally:
        executor.close()


def test_a_second_close_by_another_thread_waits_for_the_first_and_does_nothing(
    cluster: RayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut: list[float] = []

    def slowly(self: RayCluster) -> None:
        time.sleep(0.5)
        shut.append(time.monotonic())

    monkeypatch.setattr(RayCluster, "shutdown", slowly)
    one = RayCluster(workers=1)
    executor = RayExecutor(one, TrialShare(cpus=0.5), "toy", parent=None, loader=LOADER, owns_cluster=True)
    seen: list[int] = []

    def close() -> None:
        executor.close()
        seen.append(len(shut))

    threads = [threading.Thread(target=close) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == [1, 1]


def worker_here(parent: WarmParent, *, unattended_seconds: float = 60.0) -> TrialWorker:
    """A worker in this process instead of in an actor of its own."""
    before = signal.getsignal(signal.SIGTERM)
    settings = WorkerSettings(
        slot=0,
        objective="toy",
        loader=LOADER,
        modules=TOYS,
        extra_path=(),
        warm=parent.address,
        gpus=0.0,
        limits=AttemptLimits(),
        unattended_seconds=unattended_seconds,
    )
    worker = TrialWorker(settings)
    signal.signal(signal.SIGTERM, before)
    return worker


def test_an_order_that_comes_late_is_not_for_the_next_attempt_of_the_same_name(
    parent: WarmParent, folder: Path
) -> None:
    worker = worker_here(parent)

    def end_of(run: int) -> Ended:
        events = worker.begin(request_to_json(toy_request(folder, reports=0)), str(folder / "log"), 10, run).events
        while not ended(events):
            events += worker.poll(None, 10).events
        return the_end(events)

    assert end_of(1).end is AttemptEnd.FINISHED
    worker.kill(1)
    worker.leave(1)
    assert end_of(2).end is AttemptEnd.FINISHED


def test_a_trial_whose_driver_asks_no_more_leaves_and_its_end_is_kept(parent: WarmParent, folder: Path) -> None:
    worker = worker_here(parent, unattended_seconds=0.5)
    events = worker.begin(
        request_to_json(toy_request(folder, reports=0, then="train-on")), str(folder / "log"), 10, 1
    ).events
    while not any(isinstance(event, Started) for event in events):
        events += worker.poll(None, 10).events
    started = next(event for event in events if isinstance(event, Started))
    assert gone_within(20, started.pid)
    while not ended(events):
        events += worker.poll(None, 10).events
    assert the_end(events).end is AttemptEnd.PREEMPTED


def test_an_interrupt_of_the_terminal_leaves_ray_and_the_trial_alone(executor: RayExecutor, folder: Path) -> None:
    executor.start(toy_request(folder, reports=1), folder / "log")
    events = gather(executor, lambda seen: any(isinstance(event, Reported) for event in seen), decision=None)
    # Ray's daemons live in the driver's process group; what earlier tests left there is none of theirs.
    ours = [child for child in psutil.Process().children(recursive=True) if os.getpgid(child.pid) == os.getpgrp()]
    in_reach = [child for child in ours if "/ray/" in " ".join(child.cmdline())]
    assert in_reach
    for child in in_reach:
        child.send_signal(signal.SIGINT)
    (report,) = [event.report for event in events if isinstance(event, Reported)]
    executor.decide(report.trial_number, report.attempt, "CONTINUE")  # type: ignore[arg-type]
    assert the_end(gather(executor, ended)).end is AttemptEnd.FINISHED
    assert [child for child in in_reach if gone_within(0, child.pid)] == []


def test_nothing_of_ray_listens_to_the_network(cluster: RayCluster) -> None:
    listening = [
        connection.laddr.ip
        for process in psutil.Process().children(recursive=True)
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert listening
    assert set(listening) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_nothing_of_ray_tells_of_its_use(cluster: RayCluster) -> None:
    family = psutil.Process().children(recursive=True)
    daemons = [child for child in family if child.name() in ("gcs_server", "raylet")]
    assert len(daemons) == 2
    assert {child.environ().get("RAY_USAGE_STATS_ENABLED") for child in daemons} == {"0"}


JOINING = """
import sys
from sweep.execution.messages import request_to_json
from sweep.execution.ray_actor import Answer, TrialWorker, WorkerIdentity, WorkerSettings
from sweep.execution.ray_cluster import TrialShare, join_cluster
from sweep.errors import SweepError
try:
    join_cluster(sys.argv[1], TrialShare(), workers=None).shutdown()
    print("joined")
except SweepError as error:
    print(error, flush=True)
"""


@pytest.mark.parametrize(
    ("token", "words"),
    [
        (None, "joined"),
        ("f" * 64, "wants another token than this process has. Put its token into RAY_AUTH_TOKEN"),
    ],
)
def test_a_cluster_with_a_token_is_joined_by_those_who_have_it(
    cluster: RayCluster, tmp_path: Path, token: str | None, words: str
) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"},
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "HOME": str(tmp_path),
    }
    assert environment["RAY_AUTH_TOKEN"]  # this cluster's, set when it was started
    environment["RAY_AUTH_TOKEN"] = token or environment["RAY_AUTH_TOKEN"]
    command = [sys.executable, "-c", JOINING, ray.get_runtime_context().gcs_address]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    assert words in answer.stdout
    assert len(answer.stdout.splitlines()) == 1
    assert "Traceback" not in answer.stderr


GROWING = """
import sys
from ray._raylet import GcsClient
from ray.core.generated.autoscaler_pb2 import ClusterConfig, NodeGroupConfig
from sweep.execution.ray_cluster import TrialShare, join_cluster
from sweep.execution.ray_private import use_token
use_token()
kinds = [NodeGroupConfig(resources={"CPU": cpus}, max_count=count) for cpus, count in ((64, int(sys.argv[2])), (8, 1))]
gcs = GcsClient(address=sys.argv[1])
gcs.report_cluster_config(ClusterConfig(node_group_configs=kinds).SerializeToString())
try:
    join_cluster(sys.argv[1], TrialShare(cpus=32), workers=None).shutdown()
    print("joined")
except Exception as error:
    print(error)
"""


@pytest.mark.parametrize(("count", "words"), [(2, "joined"), (0, "a trial needs 32 CPUs and 0 GPUs on one node")])
def test_a_cluster_is_joined_before_it_has_grown_by_a_node_that_has_room(
    cluster: RayCluster, count: int, words: str
) -> None:
    environment = {**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    command = [sys.executable, "-c", GROWING, ray.get_runtime_context().gcs_address, str(count)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    assert words in answer.stdout, answer.stderr


def test_a_running_cluster_is_joined_and_left_running(cluster: RayCluster, folder: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from sweep.execution.ray_workers import RayExecutor\n"
        "from sweep.testing.executor import run, toy_request\n"
        "executor = RayExecutor.open('toy', parent=None, address=sys.argv[1], cpus_per_trial=0.5, workers=1,\n"
        "                            loader=sys.argv[2], modules=('sweep.testing.toy_objectives',))\n"
        "folder = Path(sys.argv[3])\n"
        "print(run(executor, toy_request(folder), folder / 'log')[-1].end)\n"
        "executor.close()\n"
    )
    address = ray.get_runtime_context().gcs_address
    command = [sys.executable, "-c", script, address, LOADER, str(folder)]
    # Without it, Ray looks for a local address on the network, where this cluster does not listen.
    environment = {**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert (answer.stdout, answer.stderr) == ("FINISHED\n", "")
    assert ray.cluster_resources()["CPU"] >= 4


def test_a_head_that_never_answers_is_given_up() -> None:
    script = (
        "import sweep.execution.ray_cluster as ray_cluster, os, sys\n"
        "ray_cluster._JOIN_SECONDS = 1.0\n"
        "try:\n"
        "    ray_cluster.join_cluster(sys.argv[1], ray_cluster.TrialShare(), workers=None)\n"
        "except ray_cluster.ExecutionError as error:\n"
        "    print(error, flush=True)\n"
        "os._exit(0)\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        address = f"127.0.0.1:{deaf.getsockname()[1]}"
        answer = subprocess.run(
            [sys.executable, "-c", script, address], capture_output=True, text=True, timeout=60, check=True
        )
    assert (
        answer.stdout
        == f"the Ray cluster at {address!r} did not answer within 1 s. Look at its head with `ray status`\n"
    )


@pytest.mark.parametrize(
    ("address", "words"),
    [("127.0.0.1:9", "no Ray cluster answers at '127.0.0.1:9'"), ("nonsense", "is not host:port")],
)
def test_an_address_without_a_cluster_is_told_at_once(address: str, words: str) -> None:
    with pytest.raises(ExecutionError, match=words):
        RayExecutor.open("toy", parent=None, address=address)


def test_a_trial_that_fits_nowhere_is_told(tmp_path: Path) -> None:
    script = (
        "from sweep.execution.ray_workers import RayExecutor\n"
        "from sweep.errors import ExecutionError\n"
        "try:\n"
        "    RayExecutor.open('toy', parent=None, gpus_per_trial=1.0, logical_gpus=0)\n"
        "except ExecutionError as error:\n"
        "    print(error)\n"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert answer.stdout.startswith("a trial needs 1 CPUs and 1 GPUs on one node, but the nodes have")
    assert answer.stderr == ""
