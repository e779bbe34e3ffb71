"""What several of these tests start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sweep.execution.warm_client import WarmParent


@pytest.fixture(scope="module")
def parent() -> Iterator[WarmParent]:
    """A warm parent of toy trials."""
    parent = WarmParent(("sweep.testing.toy_objectives",))
    parent.start()
    yield parent
    parent.close()
