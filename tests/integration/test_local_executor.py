from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sweep.domain import AttemptEnd, Decision
from sweep.errors import ExecutionError, InvalidDataError, InvalidSpecError
from sweep.execution.jobs import run_job
from sweep.execution.local import LocalExecutor
from sweep.execution.warm_client import WarmParent
from sweep.ports import Ended, Reported, Started
from sweep.testing.executor import (
    CONFORMANCE_LIMITS,
    ExecutorConformance,
    gather,
    gone_within,
    is_alive,
    run,
    the_end,
    toy_request,
)
from sweep.testing.toy_objectives import LOADER

TOYS = ("sweep.testing.toy_objectives",)


@pytest.fixture(scope="module")
def parent() -> Iterator[WarmParent]:
    parent = WarmParent(TOYS)
    parent.start()
    yield parent
    parent.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


class TestLocalExecutor(ExecutorConformance):
    @pytest.fixture
    def executor(self, parent: WarmParent) -> Iterator[LocalExecutor]:
        executor = LocalExecutor(2, parent, "toy", loader=LOADER, limits=CONFORMANCE_LIMITS)
        yield executor
        executor.close()

    def test_close_leaves_no_trial_process(self, executor: LocalExecutor, folder: Path) -> None:
        executor.start(toy_request(folder, reports=0, then="hang"), folder / "log")
        (started,) = gather(executor, lambda seen: any(isinstance(event, Started) for event in seen))
        assert isinstance(started, Started)
        executor.close()
        assert not is_alive(started.pid)


def test_a_job_returns_what_the_objective_returns(parent: WarmParent, folder: Path) -> None:
    progress: list[object] = []
    result = run_job(
        parent,
        "toy",
        "prepare",
        {"settings": {}, "folder": folder},
        loader=LOADER,
        on_progress=progress.append,
    )
    assert (result["folder"], result["kind"]) == (str(folder), type(folder).__name__)
    assert progress == [{"step": 1, "total_steps": 2, "loss": 0.5}]
    found = run_job(parent, "toy", "check", {"request": toy_request(folder)}, loader=LOADER)
    assert found == {"hyperparameters": {"learning_rate": 1e-3, "keep_layers": [0, 2]}, "metric": "accuracy"}


@pytest.mark.parametrize(
    ("cause", "kind", "words"),
    [
        ("data", InvalidDataError, r"^data/train.csv: 0 rows; give at least 2$"),
        ("spec", InvalidSpecError, "^one\ntwo$"),
        ("bug", ExecutionError, "prepare of toy failed: KeyError: 'bug'"),
        ("exit", ExecutionError, "exited with code 7"),
    ],
)
def test_a_job_that_fails_raises_the_objectives_error(
    parent: WarmParent, folder: Path, cause: str, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        run_job(parent, "toy", "prepare", {"settings": {"raise": cause}, "folder": folder}, loader=LOADER)


def test_a_job_that_takes_too_long_is_ended(parent: WarmParent, folder: Path) -> None:
    with pytest.raises(ExecutionError, match="longer than"):
        run_job(
            parent,
            "toy",
            "prepare",
            {"settings": {"raise": "hang"}, "folder": folder},
            loader=LOADER,
            timeout_seconds=0.5,
        )


def test_a_module_that_cannot_be_imported_is_named(folder: Path) -> None:
    parent = WarmParent(("sweep.no_such_module",))
    try:
        with pytest.raises(ExecutionError, match=r"cannot import sweep\.no_such_module: ModuleNotFoundError"):
            run_job(parent, "toy", "prepare", {"settings": {}, "folder": folder}, loader=LOADER)
        executor = LocalExecutor(1, parent, "toy", loader=LOADER)
        executor.start(toy_request(folder), folder / "log")
        with pytest.raises(ExecutionError, match="no_such_module"):
            gather(executor, lambda seen: bool(seen))
        assert executor.free_slots == 1
    finally:
        parent.close()


def test_an_objective_of_the_working_folder_is_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "my_objective.py").write_text(
        "from sweep.testing.toy_objectives import ToyObjective\n"
        "class Mine(ToyObjective):\n    pass\n"
        "def load(name):\n    return Mine()\n"
    )
    monkeypatch.chdir(folder)
    parent = WarmParent(TOYS)
    try:
        result = run_job(parent, "x", "prepare", {"settings": {}, "folder": folder}, loader="my_objective:load")
        assert result["folder"] == str(folder)
    finally:
        parent.close()


def test_a_warm_parent_that_dies_loses_its_attempts_and_is_replaced(folder: Path) -> None:
    parent = WarmParent(TOYS)
    executor = LocalExecutor(1, parent, "toy", loader=LOADER)
    try:
        executor.start(toy_request(folder, reports=0, then="hang"), folder / "log")
        (started,) = gather(executor, lambda seen: any(isinstance(event, Started) for event in seen))
        assert isinstance(started, Started)
        assert parent.pid is not None
        os.kill(parent.pid, signal.SIGKILL)
        end = the_end(gather(executor, lambda seen: any(isinstance(event, Ended) for event in seen)))
        assert end.end is AttemptEnd.LOST
        assert gone_within(5, started.pid)
        assert the_end(run(executor, toy_request(folder), folder / "log")).end is AttemptEnd.FINISHED
    finally:
        executor.close()
        parent.close()


def test_an_attached_process_may_die_without_leaving_its_trial(parent: WarmParent, folder: Path) -> None:
    script = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from sweep.execution.local import LocalExecutor\n"
        "from sweep.execution.warm_client import WarmAddress, WarmParent\n"
        "from sweep.testing.executor import toy_request\n"
        "parent = WarmParent(attach_to=WarmAddress(host=sys.argv[1], path=sys.argv[2]))\n"
        "executor = LocalExecutor(1, parent, 'toy', loader=sys.argv[3])\n"
        "executor.start(toy_request(Path(sys.argv[4]), reports=0, then='hang'), Path(sys.argv[4]) / 'log')\n"
        "print(executor.wait(20)[0].pid, parent.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, parent.address.host, parent.address.path, LOADER, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        trial, own_parent = other.stdout.readline().split()
        assert own_parent == "None"
        assert is_alive(int(trial))
        other.kill()
        assert gone_within(5, int(trial))


def test_an_interrupt_of_the_terminal_leaves_trials_alone(parent: WarmParent, folder: Path) -> None:
    executor = LocalExecutor(1, parent, "toy", loader=LOADER)
    executor.start(toy_request(folder, reports=1), folder / "log")
    events = gather(executor, lambda seen: any(isinstance(event, Reported) for event in seen), decision=None)
    (started,) = [event for event in events if isinstance(event, Started)]
    assert parent.pid is not None
    for pid in (started.pid, parent.pid):
        assert os.getpgid(pid) != os.getpgrp()
        os.kill(pid, signal.SIGINT)
    time.sleep(0.1)
    (report,) = [event.report for event in events if isinstance(event, Reported)]
    executor.decide(report.trial_number, report.attempt, Decision.CONTINUE)
    end = the_end(gather(executor, lambda seen: any(isinstance(event, Ended) for event in seen)))
    assert end.end is AttemptEnd.FINISHED


def test_closing_the_warm_parent_leaves_nothing(folder: Path) -> None:
    parent = WarmParent(TOYS)
    socket_folder = Path(parent.address.path).parent
    executor = LocalExecutor(1, parent, "toy", loader=LOADER)
    executor.start(toy_request(folder, reports=0, then="hang"), folder / "log")
    (started,) = gather(executor, lambda seen: any(isinstance(event, Started) for event in seen))
    assert isinstance(started, Started)
    assert parent.pid is not None
    pids = (started.pid, parent.pid)
    parent.close()
    assert gone_within(5, *pids)
    assert not socket_folder.exists()
    executor.close()


def test_an_order_whose_socket_did_not_arrive_is_refused_and_the_parent_lives_on(
    parent: WarmParent, folder: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(30)
        connection.connect(parent.address.path)
        order = {"entry": "sweep.execution.trial_process:train", "log": os.devnull}
        connection.sendall(json.dumps(order).encode() + b"\n")
        assert "too many open files" in json.loads(connection.recv(65536))["error"]
    executor = LocalExecutor(1, parent, "toy", loader=LOADER)
    assert the_end(run(executor, toy_request(folder, reports=1), folder / "log")).end is AttemptEnd.FINISHED
    executor.close()
