"""Tasks keep the promises of an objective with k-fold validation, too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sweep.testing.objective import CHECKS, ObjectiveUnderTest
from tests.task_studies import folded_study, under_test


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("task", ["text-classification", "question-answering"])
def test_task_in_folds_keeps_the_promise(
    task: str, check: Callable[[ObjectiveUnderTest], None], tmp_path: Path
) -> None:
    check(under_test(folded_study(tmp_path, task)))
