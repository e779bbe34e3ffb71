"""Two finished studies of tiny models over the same rows, one that learnt and one that did not, in one storage."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sweep import objective_jobs, registries
from sweep.execution.warm_client import WarmParent
from sweep.promotion import Promotion, promote
from sweep.spec.model import StudySpec
from sweep.tracking.registry import Registry
from tests.recording import own_cache
from tests.tiny_study import materials, run, tiny_spec

__all__ = ["own_cache"]


@pytest.fixture(scope="session")
def parent() -> Iterator[WarmParent]:
    parent = WarmParent()
    parent.start()
    yield parent
    parent.close()


@pytest.fixture(autouse=True, scope="package")
def _one_warm_parent(parent: WarmParent) -> Iterator[None]:
    """Clean processes are forked from one real parent for all tests: starting it is what takes time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objective_jobs, "warm_parent", lambda: contextlib.nullcontext(parent))
        yield


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, parent: WarmParent) -> Path:
    folder = materials(tmp_path_factory.mktemp("deployment"))
    run(tiny_spec(folder, "good"))
    run(tiny_spec(folder, "bad", good=False))
    return folder


@pytest.fixture(scope="session")
def good(folder: Path) -> StudySpec:
    return tiny_spec(folder, "good")


@pytest.fixture(scope="session")
def bad(folder: Path) -> StudySpec:
    return tiny_spec(folder, "bad", good=False)


@pytest.fixture
def registry(good: StudySpec) -> Registry:
    return registries.registry_of(good)


@pytest.fixture
def promoted(registry: Registry) -> Callable[..., Promotion]:
    """Promotes a study in this process."""

    def act(spec: StudySpec, name: str, **how: Any) -> Promotion:
        options = {"alias": "champion", "if_better": False, "dry_run": False, "note": lambda line: None}
        return promote(spec, registry, name=name, **{**options, **how})

    return act
