"""The list of deliberate faults is whole and fits the tree; `make broken-builds` runs them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.broken_builds.__main__ import judged
from tests.broken_builds.breaks import ROOT, Break, all_breaks

PROMISED = {*range(1, 13), 17, 18, 20, 21, 25, 26, 27, 29, 35}


def _functions(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_promised_pain_has_a_fault_and_a_test_that_bears_its_number() -> None:
    numbered = {each.pain for each in all_breaks() if f"pain_{each.pain:0>2}" in each.test}
    assert set() == PROMISED - numbered


@pytest.mark.parametrize("each", all_breaks(), ids=lambda each: f"{each.pain}-{each.breaks[:40]}")
def test_a_fault_fits_the_tree_and_names_a_test_that_exists(each: Break) -> None:
    assert (ROOT / each.file).read_text(encoding="utf-8").count(each.replace) == 1, each.file
    assert each.replace != each.by
    path, _, function = each.test.partition("::")
    name = function.rpartition("::")[2].partition("[")[0]
    assert name in _functions(path), each.test


SAMPLE = """
import pytest

def test_red():
    assert 1 + 1 == 3

def test_of_no_program():
    import sweep.no_such_module

@pytest.fixture
def broken():
    raise RuntimeError("no fixture")

def test_without_its_fixture(broken):
    pass

@pytest.mark.parametrize("number", [1, 2])
def test_numbers(number):
    assert number == 1
"""


def told_of(source: str, folder: Path) -> str:
    (folder / "test_sample.py").write_text(source)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--junitxml=told.xml", "test_sample.py"]
    subprocess.run(command, cwd=folder, capture_output=True, timeout=60)
    return (folder / "told.xml").read_text()


def test_only_the_named_test_s_own_failure_notices_a_fault(tmp_path: Path) -> None:
    told = told_of(SAMPLE, tmp_path)
    for test, noticed in {
        "test_red": "assert (1 + 1) == 3",
        "test_numbers": "assert 2 == 1",
        "test_numbers[2]": "assert 2 == 1",
        "test_of_no_program": None,
        "test_without_its_fixture": None,
    }.items():
        assert judged(told, f"test_sample.py::{test}", is_green=False).noticed == noticed, test
    of_no_module = judged(told_of("import sweep.no_such_module", tmp_path), "test_sample.py::test_red", is_green=False)
    assert of_no_module.noticed is None
    assert of_no_module.red.startswith("error of ")
