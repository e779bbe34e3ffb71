"""Nothing runs unasked, nothing leaves its place, nobody is called: models, names, servers, the network."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from objectives.testing import tiny_file, tiny_model, tiny_rows, tiny_settings
from sweep import objective_jobs
from sweep.errors import ModelError
from sweep.execution.jobs import run_job
from sweep.execution.warm_client import WarmParent
from sweep.spec import load_spec

ROOT = Path(__file__).parents[2]
PICKLE_STARTS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")
"""Of pickles, and of torch's zip files."""

CONFIGURATION_CODE = """\
from pathlib import Path
from transformers import BertConfig
Path({canary!r}).write_text("this code ran")

class CanaryConfig(BertConfig):
    model_type = "chirp"
"""
MODEL_CODE = """\
from transformers import BertForSequenceClassification
from .configuration_canary import CanaryConfig

class CanaryForSequenceClassification(BertForSequenceClassification):
    config_class = CanaryConfig
"""
SPEC = """\
study: small
objective:
  task: text-classification
  model: ./model
  {trust}
  data: {{train: train.jsonl, validation_fraction: 0.2, test_fraction: 0.2}}
  training: {{epochs: 1, batch_size: 8, max_length: 16}}
search: {{learning_rate: 1e-3..1e-2 log}}
metric: accuracy
budget: {{trials: 2}}
resources: {{workers: 1}}
"""


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmParent]:
    modules = tmp_path_factory.mktemp("modules")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_MODULES_CACHE", str(modules))
        with objective_jobs.warm_parent() as warm:
            yield warm


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_model(tmp_path / "model")
    tiny_file(tmp_path / "train.jsonl", tiny_rows(60))
    return tmp_path


def bring_code(folder: Path) -> Path:
    """Make the model need Python code of its own, which leaves a file behind when it runs."""
    canary, model = folder / "canary", folder / "model"
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config |= {
        "model_type": "chirp",
        "architectures": ["CanaryForSequenceClassification"],
        "auto_map": {
            "AutoConfig": "configuration_canary.CanaryConfig",
            "AutoModelForSequenceClassification": "modeling_canary.CanaryForSequenceClassification",
        },
    }
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (model / "configuration_canary.py").write_text(CONFIGURATION_CODE.format(canary=str(canary)), encoding="utf-8")
    (model / "modeling_canary.py").write_text(MODEL_CODE, encoding="utf-8")
    return canary


def prepare_and_check(folder: Path, parent: WarmParent, trust: str) -> None:
    (folder / "study.yaml").write_text(SPEC.format(trust=trust), encoding="utf-8")
    spec = load_spec(folder / "study.yaml")
    data = objective_jobs.prepare(spec, parent, objective_jobs.objective_settings(spec))
    objective_jobs.check(spec, parent, data)


def test_code_that_a_model_brings_along_does_not_run_unless_the_spec_says_so(folder: Path, parent: WarmParent) -> None:
    canary = bring_code(folder)
    for trust in ("", "trust_remote_code: false"):
        with pytest.raises(ModelError, match=r"brings Python code.*trust_remote_code: true"):
            prepare_and_check(folder, parent, trust)
        assert not canary.exists()
    prepare_and_check(folder, parent, "trust_remote_code: true")
    assert canary.read_text(encoding="utf-8") == "this code ran"


def test_weights_in_a_pickle_alone_are_refused(folder: Path, parent: WarmParent) -> None:
    weights = folder / "model" / "model.safetensors"
    torch.save(load_file(weights), folder / "model" / "pytorch_model.bin")
    settings = tiny_settings(folder / "model", folder / "train.jsonl")
    arguments = {"settings": settings, "folder": folder / "prepared"}
    run_job(parent, "text-classification", "prepare", arguments)
    weights.unlink()
    with pytest.raises(ModelError, match=r"pytorch_model\.bin alone, a pickle"):
        run_job(parent, "text-classification", "prepare", {**arguments, "folder": folder / "again"})
    assert not (folder / "again").exists()


def test_no_source_reads_or_writes_a_pickle() -> None:
    forbidden = re.compile(
        r"\btorch\.(load|save)\(|\bimport (pickle|cloudpickle|dill|joblib|shelve|marshal)|allow_pickle=True|read_pickle"
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for top in ("sweep", "objectives", "dashboards")
        for path in (ROOT / top).rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if forbidden.search(line)
    ]
    assert found == []
    assert forbidden.search("state = torch.load(path)"), "the search finds what it is for"


# A study of the real command line, its sockets watched by an audit hook in each of its Python processes.

SITECUSTOMIZE = """\
import os, sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        address = arguments[1] if event == "socket.connect" else arguments[0]
        with open({log!r}, "a") as file:
            file.write(f"{{event}} {{address!r}} {{os.path.basename(sys.argv[0]) if hasattr(sys, 'argv') else ''}}\\n")
sys.addaudithook(hook)
"""
LOCAL = re.compile(r"socket\.\w+ (\(?'(127\.0\.0\.1|localhost|::1)'|'/|b'/|None|'{host}'|'\\x00)")


@pytest.fixture(scope="module")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a tiny study ran online, as far as the libraries know, and was exported."""
    folder = tmp_path_factory.mktemp("studied")
    tiny_model(folder / "model")
    tiny_file(folder / "train.jsonl", tiny_rows(60))
    (folder / "study.yaml").write_text(SPEC.format(trust=""), encoding="utf-8")
    (folder / "hook").mkdir()
    code = SITECUSTOMIZE.format(log=str(folder / "connections"))
    (folder / "hook" / "sitecustomize.py").write_text(code, encoding="utf-8")
    switches = ("HF_HUB_OFFLINE", "MLFLOW_DISABLE_TELEMETRY", "RAY_USAGE_STATS_ENABLED", "DO_NOT_TRACK")
    environment = {key: value for key, value in os.environ.items() if key not in switches}
    environment |= {
        "PYTHONPATH": f"{folder / 'hook'}:{os.environ.get('PYTHONPATH', '')}",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "HF_HOME": str(folder / "hub"),
    }
    for arguments in (("run", "study.yaml"), ("export", "small", "--to", "exported")):
        command = [sys.executable, "-m", "sweep.cli.main", *arguments]
        result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
        assert result.returncode == 0, result.stderr
    return folder


def test_a_study_of_local_files_calls_nobody(studied: Path) -> None:
    lines = (studied / "connections").read_text(encoding="utf-8").splitlines()
    assert any("warm_parent" in line or "socket.connect '/" in line for line in lines), "sockets were watched"
    local = re.compile(LOCAL.pattern.replace("{host}", re.escape(socket.gethostname())))
    assert [line for line in lines if not local.match(line)] == []


def test_no_file_of_a_study_is_a_pickle(studied: Path) -> None:
    files = [path for top in ("mlruns", "exported") for path in (studied / top).rglob("*") if path.is_file()]
    assert any(path.suffix == ".safetensors" for path in files)
    assert [str(path) for path in files if path.read_bytes()[:4].startswith(PICKLE_STARTS)] == []


def test_what_runs_unasked_is_told_by_card_and_lineage(studied: Path) -> None:
    lineage = json.loads((studied / "exported" / "sweep.json").read_text(encoding="utf-8"))
    assert lineage["objective"]["trust_remote_code"] is False
    assert '"trust_remote_code": false' in (studied / "exported" / "README.md").read_text(encoding="utf-8")


def export(studied: Path, to: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sweep.cli.main", "export", "small", "--to", to]
    return subprocess.run(command, cwd=studied, capture_output=True, text=True, timeout=120)


def test_an_export_replaces_an_earlier_one_and_nothing_else(studied: Path) -> None:
    assert export(studied, "again").returncode == 0
    assert export(studied, "again").returncode == 0
    own = studied / "again" / "notes.txt"
    own.write_text("mine", encoding="utf-8")
    (studied / "link").symlink_to(studied / "exported")
    (studied / "dangling").symlink_to(studied / "nowhere")
    for place in ("again", "link", "dangling"):
        result = export(studied, place)
        assert result.returncode == 2, place
        assert "is not just an earlier export" in result.stderr
    assert own.read_text(encoding="utf-8") == "mine"
    assert (studied / "exported" / "sweep.json").is_file()
    assert not (studied / "nowhere").exists()


def listening(process: psutil.Process) -> set[str]:
    return {
        each.laddr.ip
        for one in [process, *process.children(recursive=True)]
        for each in one.net_connections("inet")
        if each.status == psutil.CONN_LISTEN
    }


@pytest.mark.parametrize(("options", "bound"), [((), "127.0.0.1"), (("--host", "127.0.0.2"), "127.0.0.2")])
def test_the_ui_binds_to_this_machine_alone_unless_told(studied: Path, options: tuple[str, ...], bound: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "sweep.cli.main", "ui", "small", "--port", str(port), *options]
    with subprocess.Popen(
        command, cwd=studied, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as server:
        try:
            assert server.stdout is not None
            assert server.stderr is not None
            assert server.stdout.readline().startswith("Sweep"), server.stderr.read()
            assert listening(psutil.Process(server.pid)) == {bound}
            commands = [" ".join(child.cmdline()) for child in psutil.Process(server.pid).children(recursive=True)]
            assert not any("sqlite:" in line for line in commands), "a store's URI may hold a password"
        finally:
            os.kill(server.pid, signal.SIGINT)
        warned = server.communicate(timeout=60)[1]
    assert "can be reached from other machines" not in warned


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False)],
)
def test_an_address_that_others_reach_is_known_for_it(host: str, alone: bool) -> None:
    from sweep.cli.ui import is_loopback

    assert is_loopback(host) is alone


def test_the_names_of_metrics_lead_nowhere() -> None:
    from sweep.tracking.words import metric_name

    names = {
        "../../etc/passwd": "etc/passwd",
        "/abs": "abs",
        "a/./b//c/": "a/b/c",
        "..": "_",
        "system/cpu": "system/cpu",
    }
    assert {name: metric_name(name) for name in names} == names
