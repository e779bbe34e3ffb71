"""Every task that comes with the product keeps the promises of an objective."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from objectives.loading import task_names
from sweep.spec import parse_spec
from sweep.testing.checkpointing_objective import QuickObjective
from sweep.testing.objective import CHECKS, ObjectiveUnderTest
from tests.language_tasks import LESSONS
from tests.task_studies import ROWS, small_study, under_test
from tests.unit.test_quick_objective import SPEC

each_check = pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))


@each_check
@pytest.mark.parametrize("task", sorted(ROWS))
def test_task_keeps_the_promise(task: str, check: Callable[[ObjectiveUnderTest], None], tmp_path: Path) -> None:
    check(under_test(small_study(tmp_path, task)))


@each_check
def test_quick_objective_keeps_the_promise(check: Callable[[ObjectiveUnderTest], None], tmp_path: Path) -> None:
    spec = parse_spec(SPEC, place="study.yaml", folder=tmp_path)
    check(ObjectiveUnderTest(create=QuickObjective, spec=spec))


def test_every_task_is_held_to_them() -> None:
    # Those of language and speech are held to them by tests/integration/test_language_tasks.py.
    assert set(task_names()) == set(ROWS) | {lesson.task for lesson in LESSONS.values()}
