"""The objectives in the README run as they stand there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from objectives.loading import load_objective
from sweep.errors import UserError
from sweep.ports import DivergedError
from sweep.spec import load_spec
from sweep.testing.objective import CHECKS, ObjectiveUnderTest

README = Path(__file__).parents[2] / "README.md"
EXAMPLE = re.compile(r"<!-- example: (\S+) -->\n```python\n(.*?)```\n(?:```yaml\n(.*?)```\n)?", re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the README's files, in which the test runs."""
    for name, code, spec in EXAMPLE.findall(README.read_text(encoding="utf-8")):
        (tmp_path / name).write_text(code, encoding="utf-8")
        if spec:
            (tmp_path / f"{Path(name).stem}.yaml").write_text(spec, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for module in ("my_function", "my_objective"):
        sys.modules.pop(module, None)
    return tmp_path


def test_the_functions_example_keeps_the_promise(folder: Path) -> None:
    spec = load_spec(folder / "my_function.yaml", ["search.pruner=none", "objective.training.steps=4"])
    under_test = ObjectiveUnderTest(create=lambda: load_objective(spec.objective.task), spec=spec)
    for check in CHECKS:
        check(under_test)


def test_the_classs_example_passes_the_readmes_own_test(folder: Path) -> None:
    (folder / "my_objective.yaml").rename(folder / "study.yaml")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_objective.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
    assert f"{len(CHECKS)} passed" in done.stdout


FUNCTIONS = """
def forgetful(hyperparameters, report):
    for step in range(1, 5):
        report(step, {"loss": 1 / step})
def infinite(hyperparameters, report):
    report(1, {"loss": float("nan")})
def silent(hyperparameters, report):
    pass
def broken(hyperparameters, report):
    raise RuntimeError("mine")
def anew(hyperparameters, report, checkpoint):
    (checkpoint / "state.json").write_text("{}")
    for step in range(1, 5):
        report(step, {"loss": 1 / step})
def stubborn(hyperparameters, report):
    for step in range(1, 100):
        try:
            report(step, {"loss": 1.0})
        except Exception:
            pass
"""


def under_test(folder: Path, name: str) -> ObjectiveUnderTest:
    (folder / "functions.py").write_text(FUNCTIONS, encoding="utf-8")
    sys.modules.pop("functions", None)
    text = (folder / "my_function.yaml").read_text(encoding="utf-8").replace("my_function:train", f"functions:{name}")
    (folder / "study.yaml").write_text(text.replace("distance", "loss").replace("20", "4"), encoding="utf-8")
    spec = load_spec(folder / "study.yaml", ["search.pruner=none"])
    return ObjectiveUnderTest(create=lambda: load_objective(spec.objective.task), spec=spec, resumes=False)


def test_a_function_without_checkpoints_says_that_it_begins_anew(folder: Path) -> None:
    tested = under_test(folder, "forgetful")
    assert any("begins anew" in warning for warning in tested.prepared()["warnings"])
    assert [report.checkpoint for report in tested.create().train(tested.request())] == [None] * 4
    for check in CHECKS:
        check(tested)


def test_steps_that_a_function_reports_again_after_it_began_anew_are_told_once(folder: Path) -> None:
    tested = under_test(folder, "anew")
    training = tested.create().train(tested.request())
    before = [next(training) for _ in range(2)]
    training.close()  # type: ignore[attr-defined]
    after = list(tested.create().train(tested.request(attempt=2, start_from=before[-1].checkpoint)))
    assert [report.step for report in after] == [2, 3, 4]
    assert after[0].reported_at == before[-1].reported_at


def test_a_function_ends_where_the_trial_ends(folder: Path) -> None:
    tested = under_test(folder, "stubborn")
    training = tested.create().train(tested.request())
    assert [next(training).step for _ in range(2)] == [1, 2]
    training.close()  # type: ignore[attr-defined]  # returns: the function's thread has ended


def test_what_a_function_does_wrong_is_told(folder: Path) -> None:
    for name, kind, match in (
        ("infinite", DivergedError, "step 1: loss is nan"),
        ("silent", UserError, "silent ended without a report"),
        ("broken", RuntimeError, "mine"),
    ):
        tested = under_test(folder, name)
        with pytest.raises(kind, match=match):
            list(tested.create().train(tested.request()))
    tested = under_test(folder, "silent")
    with pytest.raises(UserError, match="without a report"):
        tested.create().check(tested.request())
