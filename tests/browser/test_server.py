"""`sweep ui` and its server live and die together."""

from __future__ import annotations

import os
import signal
import socket
import urllib.request
from pathlib import Path

import psutil
import pytest

from sweep.spec import spec_text
from tests.browser.studies import served, until, write_spec


@pytest.fixture(scope="module")
def folder_of_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with a study that has not begun."""
    folder = tmp_path_factory.mktemp("served")
    spec = write_spec(folder, "idle", trials=2)
    spec.layout.folder.mkdir(parents=True)
    spec.layout.spec.write_text(spec_text(spec.resolved()), encoding="utf-8")
    return folder


def is_served(address: str) -> bool:
    host, port = address.removeprefix("http://").split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_sweep_ui_ends_its_server_too(folder_of_one: Path, sign: signal.Signals) -> None:
    with served(folder_of_one, "idle") as (address, process):
        assert urllib.request.urlopen(f"{address}/sweep", timeout=60).status == 200
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        assert len(family) == 1, "one process serves all"
        os.kill(process.pid, sign)
        process.wait(30)
        until(lambda: not is_served(address), "nobody listens any more", 30)
        assert not any(each.is_running() for each in family)
