"""The list of deliberate faults is whole and fits the tree; `make broken-builds` runs them."""

from __future__ import annotations

import ast

import pytest

from tests.broken_builds.breaks import ROOT, Break, all_breaks

PROMISED = {*range(1, 13), 17, 20, 21, 25, 26, 27, 29, 35}


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
