"""Several Ray nodes on this machine, studies that run on them, and ways for a node to go."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil
from ray._raylet import GcsClient
from ray.autoscaler.v2.sdk import get_cluster_resource_state
from ray.cluster_utils import Cluster
from ray.core.generated import autoscaler_pb2

from sweep.checkpoints import FolderKeeper
from sweep.clock import SystemClock
from sweep.domain import Assignment, Report, Setback, TrainRequest, Trial, trial_seed
from sweep.engine.control import StopRequest
from sweep.engine.loop import LoopResult, StudyLoop
from sweep.engine.view import RunningTrial, StudySnapshot
from sweep.execution.ray_cluster import RayCluster, TrialShare, join_cluster
from sweep.execution.ray_private import private_ray, use_token
from sweep.execution.ray_workers import RayExecutor
from sweep.execution.warm_client import WarmParent
from sweep.ports import AttemptBegun, AttemptOver, Executor, TrialOver
from sweep.search import OptunaStore
from sweep.spec import parse_spec
from sweep.spec.model import StudySpec
from sweep.testing.checkpointing_objective import QuickObjective
from sweep.testing.doubles import MemoryRecorder, SilentObserver

QUICK = "sweep.testing.checkpointing_objective:QuickObjective"
QUICK_MODULES = ("objectives.loading", "sweep.testing.checkpointing_objective")

SPEC = f"""
study: quick
objective:
  task: {QUICK}
  model: softmax-regression
  data: {{}}
  training: {{steps: 40, batch_size: 16, evaluate_every: 20, sleep_seconds: 0.05}}
search:
  learning_rate: 1e-3..1.0 log
  weight_decay: 1e-5..0.1 log
  pruner: none
metric: {{name: accuracy}}
budget: {{trials: 2}}
storage: .
"""


class Nodes:
    """A Ray cluster on the loopback interface; its head takes no trials."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="sweep-nodes-")
        with private_ray():
            use_token()
            head = {"num_cpus": 0, "include_dashboard": False, "temp_dir": self._folder}
            self._cluster = Cluster(initialize_head=True, head_node_args=head)
            self.joined = join_cluster(self._cluster.address, TrialShare(cpus=0.0), workers=None)

    def add(self, cpus: int = 1) -> Any:
        """Another node."""
        with private_ray():
            return self._cluster.add_node(num_cpus=cpus)

    def dismiss(self, node: Any) -> None:
        """End a node in good order, then whatever is left of it."""
        if node in self._cluster.worker_nodes:
            left = self.processes(node)
            send(signal.SIGCONT, left)
            with contextlib.suppress(AssertionError):
                self._cluster.remove_node(node)
            send(signal.SIGKILL, left)

    def cut(self, node: Any) -> None:
        """End a node's daemons by SIGKILL, as Ray's own tests do."""
        self._cluster.remove_node(node, allow_graceful=False)

    def daemon(self, node: Any) -> psutil.Process:
        """The raylet of a node."""
        return psutil.Process(node.all_processes["raylet"][0].process.pid)

    def processes(self, node: Any) -> list[psutil.Process]:
        """All processes of a node: its daemon, the workers, their warm parents, the trials."""
        try:
            daemon = self.daemon(node)
            return [daemon, *daemon.children(recursive=True)]
        except (psutil.NoSuchProcess, KeyError):
            return []

    def trials(self, node: Any) -> list[psutil.Process]:
        """Trial processes on a node."""
        found = []
        for process in self.processes(node):
            with contextlib.suppress(psutil.Error):
                if "warm_parent" in " ".join(process.cmdline()):
                    found += process.children()
        return found

    def workers(self, node: Any) -> list[psutil.Process]:
        """The actors on a node that supervise trials."""
        found = []
        for process in self.processes(node):
            with contextlib.suppress(psutil.Error):
                if "TrialWorker" in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def drain(self, node: Any) -> None:
        """Tell Ray that a node will go in a minute, as a node does that is told so by its cloud."""
        deadline = int((time.time() + 60) * 1000)
        reason = autoscaler_pb2.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
        accepted, _ = GcsClient(address=self._cluster.address).drain_node(
            node.node_id, reason, "preempted", deadline, timeout=5
        )
        assert accepted

    def wanted_cpus(self) -> float:
        """CPUs that actors wait for, as an autoscaler is told."""
        state = get_cluster_resource_state(GcsClient(address=self._cluster.address))
        return sum(
            request.count * request.request.resources_bundle.get("CPU", 0.0)
            for request in state.pending_resource_requests
        )

    def close(self) -> None:
        """End the cluster."""
        for node in list(self._cluster.worker_nodes):
            self.dismiss(node)
        self.joined.shutdown()
        self._cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False, wait=True)
        shutil.rmtree(self._folder, ignore_errors=True)


def send(number: signal.Signals, processes: list[psutil.Process]) -> None:
    """Signal all that still live."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


@dataclass
class Watcher(SilentObserver):
    """Calls ``disturb`` once ``ready`` says so, between two turns of the loop."""

    ready: Callable[[], bool] = lambda: False
    disturb: Callable[[], None] = lambda: None
    afterwards: Callable[[], None] = lambda: None
    disturbed_at: float = 0.0
    running: tuple[RunningTrial, ...] = ()
    setbacks: list[Setback] = field(default_factory=list)

    def tick(self, snapshot: StudySnapshot) -> None:
        self.running = snapshot.running
        if self.disturbed_at:
            self.afterwards()
        elif self.ready():
            self.disturbed_at = time.time()
            self.disturb()

    def attempt_lost(self, trial: Trial, setback: Setback) -> None:
        self.setbacks.append(setback)


class QuickStudy:
    """A study of the quick objective, from its spec to its records."""

    def __init__(self, folder: Path, *overrides: str) -> None:
        self.spec: StudySpec = parse_spec(SPEC, place="study.yaml", folder=folder, overrides=overrides)
        self.prepared = QuickObjective().prepare(self.spec.objective_settings(), self.spec.layout.prepared)
        self.recorder = MemoryRecorder()
        self.observer = Watcher()
        self.trials: list[Trial] = []
        self.stop = StopRequest.NONE

    def run(self, executor: Executor) -> LoopResult:
        """Run it in this thread, or go on with it."""
        store = OptunaStore.open(self.spec) if self.trials else OptunaStore.create(self.spec)
        try:
            loop = StudyLoop(
                spec=self.spec,
                store=store,
                executor=executor,
                recorder=self.recorder,
                keeper=FolderKeeper(self.spec.layout.checkpoints),
                clock=SystemClock(),
                observer=self.observer,
                request_for=self.request,
                log_of=self.spec.layout.log,
                artifacts_of=self.spec.layout.artifacts,
                stop_requested=lambda: self.stop,
            )
            result = loop.run()
            self.trials = list(store.trials())
            return result
        finally:
            store.close()

    def request(self, assignment: Assignment) -> TrainRequest:
        return TrainRequest(
            assignment=assignment,
            prepared=str(self.prepared["folder"]),
            model="none",
            settings=self.spec.settings(assignment.hyperparameters),
            metric=self.spec.rule,
            evaluate_at=self.spec.evaluate_at,
            fidelity_unit=self.spec.fidelity_unit,
            checkpoints=str(self.spec.layout.checkpoints(assignment.trial_number)),
            artifacts=str(self.spec.layout.artifacts(assignment.trial_number)),
        )

    def log(self, trial_number: int) -> str:
        """What a trial's attempts have written so far."""
        path = self.spec.layout.log(trial_number)
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def trial_of(self, processes: list[psutil.Process]) -> int | None:
        """The trial that one of these processes trains, once it has reported in its present attempt."""
        pids = {process.pid for process in processes}
        for number in range(self.spec.budget.trials):
            attempts = re.findall(r"\(process (\d+)\)(.*?)(?=\(process|\Z)", self.log(number), flags=re.DOTALL)
            if attempts and int(attempts[-1][0]) in pids and ": accuracy" in attempts[-1][1]:
                return number
        return None

    def pid_of(self, trial_number: int) -> int:
        """Process id of a trial's newest attempt."""
        return int(re.findall(r"\(process (\d+)\)", self.log(trial_number))[-1])

    def steps_done(self, trial_number: int) -> int:
        """Steps that a trial's newest sign of life tells of."""
        return max(running.step or 0 for running in self.observer.running if running.number == trial_number)

    def resumed_at(self, trial_number: int) -> int:
        """Step of the checkpoint that a trial's last attempt began from; 0 from the start."""
        steps = re.findall(r"from \S+/step-0*(\d+), seed", self.log(trial_number))
        return int(steps[-1]) if steps else 0

    def begun_again(self) -> list[AttemptBegun]:
        """Attempts after the first, in order."""
        return [record for record in self.recorder.records if isinstance(record, AttemptBegun) and record.attempt > 1]

    def assert_each_trial_finished_once_as_if_nothing_had_happened(self) -> None:
        """Every configuration has one end, one report for each step, and the metrics of an undisturbed run."""
        assert [trial.state.value for trial in self.trials] == ["COMPLETE"] * self.spec.budget.trials
        ends = [record.trial_number for record in self.recorder.records if isinstance(record, TrialOver)]
        assert sorted(ends) == list(range(self.spec.budget.trials))
        for trial in self.trials:
            told = [r for r in self.recorder.records if isinstance(r, Report) and r.trial_number == trial.number]
            assignment = self.request_of(trial)
            undisturbed = list(QuickObjective().train(assignment))
            assert [(r.step, dict(r.metrics)) for r in told] == [(r.step, dict(r.metrics)) for r in undisturbed]
        overs = {(r.trial_number, r.attempt) for r in self.recorder.records if isinstance(r, AttemptOver)}
        assert len(overs) == len([r for r in self.recorder.records if isinstance(r, AttemptOver)])

    def request_of(self, trial: Trial) -> TrainRequest:
        """A request that trains a trial again, without a pause and elsewhere."""
        seed = trial_seed(self.spec.search.seed, trial.number)
        request = self.request(
            Assignment(trial_number=trial.number, attempt=1, hyperparameters=trial.hyperparameters, seed=seed)
        )
        elsewhere = str(self.spec.layout.folder / "undisturbed" / str(trial.number))
        return replace(request, settings={**request.settings, "sleep_seconds": 0}, checkpoints=elsewhere)


@contextlib.contextmanager
def workers(
    cluster: RayCluster,
    parent: WarmParent | None = None,
    *,
    share: TrialShare | None = None,
    count: int | None = None,
    objective: str = QUICK,
    modules: Sequence[str] = QUICK_MODULES,
    **more: Any,
) -> Iterator[RayExecutor]:
    """Workers on a cluster, of the quick objective if no other is named."""
    executor = RayExecutor(
        RayCluster(workers=count), share or TrialShare(), objective, parent=parent, modules=modules, **more
    )
    try:
        yield executor
    finally:
        executor.close()


def eventually(what: str, condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found
