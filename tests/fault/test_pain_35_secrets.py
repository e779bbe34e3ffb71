"""Pain 35: secrets end up in parameters, logs and command lines. Canaries everywhere, and every byte is searched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
import yaml
from sqlalchemy.engine import make_url

from sweep.domain import AttemptEnd
from sweep.execution.local import LocalExecutor
from sweep.execution.warm_client import WarmParent
from sweep.testing.executor import run, the_end, toy_request
from tests.mlflow_server import running

ENVIRONMENT = {
    "HF_TOKEN": "canary-hub-5d1f",
    "MLFLOW_TRACKING_PASSWORD": "canary-mlflow-77a0",
    "AWS_SECRET_ACCESS_KEY": "canary/aws+e3b0",
    "RAY_AUTH_TOKEN": "canary-ray-91c2-0123456789abcdef",
    "WANDB_API_KEY": "canary-wandb-4410",
    "MY_SERVICE_KEY": "canary-reference-c0de",
}
URI_PASSWORD = "canary-uri-8e2b"
HISTORY_PASSWORD = "canary-history-19af"
API_KEY = "canary-api-key-f00d"
ARGUMENT = "canary-argument-3141"
SHAPED = "ghp_canary0canary0canary0canary0canary0"
CANARIES = [*ENVIRONMENT.values(), URI_PASSWORD, HISTORY_PASSWORD, API_KEY, ARGUMENT, SHAPED]
PATIENCE_SECONDS = 240
POSTGRES = os.environ.get("SWEEP_TEST_POSTGRES_URL")

OBJECTIVE = """
import logging, os, subprocess, sys, time
from pathlib import Path
from sweep.domain import Report

class Leaky:
    progress = leaving = None

    def prepare(self, settings, folder):
        training = settings["training"]
        assert training["api_key"] == {api_key!r}, "what is used must not be struck out"
        assert training["service_key"] == os.environ["MY_SERVICE_KEY"]
        assert training["argument_password"] == {argument!r}
        print("preparing with", settings)
        return {{"folder": str(folder), "data_hash": "0" * 64, "rows": {{"train": 1}}, "labels": [], "training_rows": 1,
                "checkpoint_bytes": 1, "warnings": ["a warning with api_key=" + training["api_key"]]}}

    def check(self, request):
        return {{"metrics": ["accuracy"], "step_seconds": 0.1, "parameters": 1}}

    def train(self, request):
        settings = request.settings
        secrets = [*{environment!r}.values(), {shaped!r}, settings["api_key"], settings["argument_password"]]
        for secret in secrets:
            print("printed", secret)
            print("in one", secret, "line", end="", flush=True)
            print("warned", secret, file=sys.stderr)
            logging.getLogger("leaky").warning("logged %s", secret)
            os.write(2, f"by C {{secret}}\\n".encode())
            subprocess.run(["cat"], input=f"by a command {{secret}}\\n".encode(), check=True)
        print(dict(os.environ))
        number = request.assignment.trial_number
        yield Report(trial_number=number, attempt=request.assignment.attempt, step=1, fidelity=1.0, checkpoint=None,
                     metrics={{"accuracy": 0.5 + number / 10}}, wall_seconds=0.1, reported_at=time.time())
        if number == 1:
            raise RuntimeError("cannot log in: " + ", ".join(secrets))

def load(name):
    return Leaky()
"""
WORDS = ("printed ***", "in one *** line", "warned ***", "logged ***", "by C ***", "by a command ***")

SPEC = """\
study: leaky
objective:
  task: leaky:Leaky
  model: bundled:minilm-l6
  training:
    epochs: 1
    api_key: {api_key}
    service_key: ${{MY_SERVICE_KEY}}
search: {{learning_rate: 1e-5..1e-3 log}}
metric: {{name: accuracy, direction: maximize}}
budget: {{trials: 2}}
resources: {{workers: 1}}
tracking: {{uri: "http://ann:{uri_password}@127.0.0.1:{port}"}}
storage: mlruns
history: {history}
"""


def leaks_in(content: bytes) -> list[str]:
    return [canary for canary in CANARIES if canary.encode() in content]


def leaks_below(folder: Path) -> dict[str, list[str]]:
    """Canaries by file, for those that hold one."""
    found = {}
    for path in folder.rglob("*"):
        try:
            if path.is_file() and not path.is_symlink() and (leaks := leaks_in(path.read_bytes())):
                found[str(path.relative_to(folder))] = leaks
        except OSError:  # gone meanwhile
            continue
    return found


@dataclass
class Sweep:
    """Runs ``sweep`` in a folder and watches temporary files and command lines while it runs."""

    folder: Path
    temporary: Path
    said: str = ""
    leaks: dict[str, list[str]] = field(default_factory=dict)
    watched: int = 0

    def __call__(self, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("SWEEP_")},
            **ENVIRONMENT,
            "TMPDIR": str(self.temporary),
            "HOME": str(self.folder / "home"),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "PYTHONPATH": f"{self.folder / 'code'}:{os.environ.get('PYTHONPATH', '')}",
        }
        command = [sys.executable, "-m", "sweep.cli.main", *arguments]
        with subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            over = threading.Event()
            watcher = threading.Thread(target=self._watch, args=(process.pid, command, over))
            watcher.start()
            try:
                out, err = process.communicate(timeout=PATIENCE_SECONDS)
            finally:
                process.kill()
                over.set()
                watcher.join()
        self.said += out + err
        assert process.returncode == expect, f"{arguments}: {process.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def _watch(self, driver: int, typed: list[str], over: threading.Event) -> None:
        while not over.wait(0.3):
            try:
                self.leaks |= leaks_below(self.temporary)
                for child in psutil.Process(driver).children(recursive=True):
                    self.watched += 1
                    line = child.cmdline()
                    # A child that is not another program yet still has the line that the user typed.
                    if line != typed and (leaks := leaks_in(" ".join(line).encode())):
                        self.leaks[child.name()] = leaks
            except (psutil.Error, OSError):  # gone meanwhile
                continue


def write_objective(folder: Path) -> None:
    code = OBJECTIVE.format(environment=ENVIRONMENT, shaped=SHAPED, api_key=API_KEY, argument=ARGUMENT)
    (folder / "leaky.py").write_text(code, encoding="utf-8")


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweep]:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "code").mkdir()
    write_objective(tmp_path / "study" / "code")
    # Ray's sockets lie there, whose paths must be short.
    temporary = Path(tempfile.mkdtemp(prefix="c-", dir="/tmp"))
    yield Sweep(tmp_path / "study", temporary)
    shutil.rmtree(temporary)


@pytest.mark.parametrize(
    "database",
    [
        # PostgreSQL, where there is one, has one more password to hide.
        pytest.param(None, id="journal", marks=[pytest.mark.slow] if POSTGRES else []),
        pytest.param(
            POSTGRES,
            id="postgresql",
            marks=pytest.mark.skipif(
                POSTGRES is None, reason="SWEEP_TEST_POSTGRES_URL is not set: no PostgreSQL server"
            ),
        ),
    ],
)
def test_pain_35_no_secret_is_in_any_byte_that_a_study_writes_or_says(sweep: Sweep, database: str | None) -> None:
    history = "null"
    if database is not None:
        name = f"canary_{os.getpid()}"
        url = make_url(database)
        _make_database(database, name)
        history = url.set(password=HISTORY_PASSWORD, database=name).render_as_string(hide_password=False)
    given = {"code", "study.yaml"}
    with running(sweep.folder) as server:
        port = server.port
        text = SPEC.format(api_key=API_KEY, uri_password=URI_PASSWORD, port=port, history=history)
        (sweep.folder / "study.yaml").write_text(text, encoding="utf-8")
        override = f"objective.training.argument_password={ARGUMENT}"
        told = sweep("run", "study.yaml", "--set", override).stderr
        assert "the secret in tracking.uri is not stored" in told
        assert "the secret in objective.training.api_key is not stored" in told
        assert "RuntimeError: cannot log in: ***" in told

        stored = yaml.safe_load((sweep.folder / "mlruns/studies/leaky/spec.yaml").read_text(encoding="utf-8"))
        assert stored["tracking"]["uri"] == f"http://***@127.0.0.1:{port}"
        assert stored["objective"]["training"]["service_key"] == "${MY_SERVICE_KEY}"
        if database is None:
            assert '"tracking_uri": "http://***@127.0.0.1' in sweep("status", "leaky", "--json").stdout
        refused = sweep("resume", "leaky", "--trials", "3", expect=2).stderr.strip()
        assert len(refused.splitlines()) == 1
        assert "tracking.uri" in refused
        assert "objective.training.api_key" in refused
        assert "SWEEP_TRACKING_URI" in refused
        # By its file, which has all secrets but the one of the command line.
        text = text.replace("service_key", f"argument_password: {ARGUMENT}\n    service_key", 1)
        (sweep.folder / "study.yaml").write_text(text, encoding="utf-8")
        sweep("resume", "study.yaml", "--trials", "3")
        sweep("check", "study.yaml", "--json", expect=2)  # it exists

    assert leaks_in(sweep.said.encode()) == []
    assert sweep.watched > 5, "processes were seen"
    assert sweep.leaks == {}
    log = (sweep.folder / "mlruns/studies/leaky/logs/trial-0000.log").read_text(encoding="utf-8")
    assert [words for words in WORDS if words not in log] == []
    found = {path: leaks for path, leaks in leaks_below(sweep.folder).items() if Path(path).parts[0] not in given}
    assert found == {}
    # A killed server leaves its newest words in the write-ahead log.
    database_bytes = b"".join(path.read_bytes() for path in sweep.folder.glob("server.db*"))
    assert b"cannot log in: ***" in database_bytes


def test_pain_35_log_and_error_of_a_trial_hold_no_secret_whoever_printed_it(tmp_path: Path) -> None:
    write_objective(tmp_path)
    log = tmp_path / "logs" / "trial.log"
    parent = WarmParent(("leaky",), environment=ENVIRONMENT, extra_path=[str(tmp_path)])
    executor = LocalExecutor(1, parent, "leaky", loader="leaky:load")
    try:
        request = toy_request(tmp_path, number=1, api_key=API_KEY, argument_password=ARGUMENT)
        events = run(executor, request, log)
    finally:
        executor.close()
        parent.close()
    end = the_end(events)
    assert end.end is AttemptEnd.FAILED
    assert "RuntimeError: cannot log in: ***, ***" in (end.detail or "")
    assert leaks_in((end.detail or "").encode()) == []
    content = log.read_bytes()
    assert [words for words in WORDS if words.encode() not in content] == []
    assert content.rstrip().endswith(b"***, ***"), "the last words are there"
    assert leaks_in(content) == []


def test_pain_35_the_command_line_says_no_secret_of_its_environment(tmp_path: Path) -> None:
    canary = ENVIRONMENT["HF_TOKEN"]
    command = [sys.executable, "-m", "sweep.cli.main", "status", f"study-{canary}", "--storage", str(tmp_path)]
    result = subprocess.run(command, env={**os.environ, "HF_TOKEN": canary}, capture_output=True, text=True)
    assert result.returncode == 2
    assert "no study 'study-***'" in result.stderr
    assert canary not in result.stdout + result.stderr


def _make_database(url: str, name: str) -> None:
    from sqlalchemy import create_engine, text

    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
