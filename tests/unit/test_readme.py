"""What the README says is so: its spec is the template's, its tests exist."""

from __future__ import annotations

import ast
import re

from sweep.spec import template
from tests.broken_builds.breaks import ROOT, all_breaks

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_spec_reference_is_what_init_writes() -> None:
    assert f"```yaml\n{template().rstrip()}\n```" in README


def test_every_test_that_the_readme_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", README))
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "tests").rglob("*.py")]
    defined = {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert len(named) > 25
    assert named - defined == set()


def test_the_readme_counts_the_deliberate_faults() -> None:
    assert f"{len(all_breaks())} faults" in README
