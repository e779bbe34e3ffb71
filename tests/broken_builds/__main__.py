"""Break a copy of the product in every listed way and see the named test go red: ``make broken-builds``.

``python -m tests.broken_builds [--broken-only] [WORD …]`` runs the faults whose pain, words, file or test hold a word.
Each named test runs on the whole tree first: a test that is red anyway proves nothing. ``--broken-only`` leaves that
out, for a tree whose tests were all seen green. A fault is noticed if the named test itself fails, and not because the
broken tree cannot be imported or its fixtures cannot be made; the line that noticed is printed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.broken_builds.breaks import ROOT, Break, all_breaks

COPIED = ("sweep", "objectives", "dashboards", "tests", "pyproject.toml", "README.md", "Makefile")
TIMEOUT_SECONDS = 900


NOT_BY_BEHAVIOUR = ("ImportError", "ModuleNotFoundError", "SyntaxError", "IndentationError", "NameError")
"""What a test says of a tree that is no program any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How one run of a test went.

    Attributes:
        is_green: Whether all of it passed.
        noticed: What the test said that failed, in one line; None if it did not fail by itself.
        red: What else was red, in one line.
    """

    is_green: bool
    noticed: str | None
    red: str


def main(words: list[str]) -> int:
    """Run the chosen faults; 0 when every one was noticed."""
    is_known_green = "--broken-only" in words
    words = [word for word in words if word != "--broken-only"]
    chosen = [
        each
        for each in all_breaks()
        if not words or any(word in f"{each.pain} {each.breaks} {each.file} {each.test}" for word in words)
    ]
    missed = 0
    for each in chosen:
        began = time.monotonic()
        healthy = None if is_known_green else _run(each, is_broken=False)
        broken = _run(each, is_broken=True)
        verdict, told = _judge(healthy, broken)
        missed += verdict != "noticed"
        print(
            f"{verdict:10} pain {each.pain!s:6} {time.monotonic() - began:4.0f} s  {each.breaks}  [{each.test}]\n"
            f"           {told}",
            flush=True,
        )
    print(f"{len(chosen) - missed} of {len(chosen)} faults noticed")
    return int(missed > 0 or not chosen)


def _judge(healthy: Run | None, broken: Run) -> tuple[str, str]:
    if healthy is not None and not healthy.is_green:
        return "RED ANYWAY", healthy.noticed or healthy.red
    if broken.noticed is not None:
        return "noticed", broken.noticed
    return "MISSED", "the test is green" if broken.is_green else f"not the test itself is red: {broken.red}"


def _run(each: Break, *, is_broken: bool) -> Run:
    with tempfile.TemporaryDirectory(prefix="broken-build-") as scratch:
        root = Path(scratch)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, root / name)
        if is_broken:
            each.apply(root)
        told = root / "told.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            f"--junitxml={told}",
            each.test,
        ]
        try:
            done = subprocess.run(
                command,
                cwd=root,
                env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
                capture_output=True,
                text=True,
                timeout=TIMEOUT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Run(is_green=False, noticed=None, red=f"it has run for {TIMEOUT_SECONDS} s")
        if not told.exists():
            said = " ".join(f"{done.stdout[-3000:]}{done.stderr[-1000:]}".split())
            return Run(is_green=False, noticed=None, red=f"pytest ended with {done.returncode}: {said}")
        return judged(told.read_text(encoding="utf-8"), each.test, is_green=done.returncode == 0)


def judged(told: str, test: str, *, is_green: bool) -> Run:
    """What pytest's report in JUnit's XML says of a named test.

    Args:
        told: The report.
        test: pytest id of the test.
        is_green: Whether pytest ended well.
    """
    name = test.rpartition("::")[2]
    noticed, red = None, ""
    for case in ElementTree.fromstring(told).iter("testcase"):
        is_named = case.get("name", "") == name or case.get("name", "").startswith(f"{name}[")
        for outcome in case:
            if outcome.tag not in ("failure", "error"):
                continue
            line = " ".join((outcome.get("message") or outcome.text or "").split("\n")[0].split())[:200]
            if is_named and outcome.tag == "failure" and not line.startswith(NOT_BY_BEHAVIOUR):
                noticed = noticed or line
            else:
                red = f"{outcome.tag} of {case.get('name')}: {line}"
    return Run(is_green=is_green, noticed=noticed, red=red or "pytest ended badly without a word")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
