"""A real server and quick writers, shared by the tests of this folder; none writes into the user's own cache."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mlflow_server import MlflowServer
from tests.recording import own_cache
from tests.writers import Writers

__all__ = ["own_cache"]


@pytest.fixture(scope="session")
def writers() -> Writers:
    return Writers()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """One for all tests that do not kill it; each has a study of its own name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))
        server = MlflowServer(tmp_path_factory.mktemp("server"))
        server.start()
    yield server
    server.kill()
