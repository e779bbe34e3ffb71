"""Break a copy of the product in every listed way and see the named test go red: ``make broken-builds``.

``python -m tests.broken_builds [--broken-only] [WORD …]`` runs the faults whose pain, file or test contains a word.
Each named test runs on the whole tree first: a test that is red anyway proves nothing. ``--broken-only`` leaves that
out, for a tree whose tests were all seen green.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.broken_builds.breaks import ROOT, Break, all_breaks

COPIED = ("sweep", "objectives", "dashboards", "tests", "pyproject.toml", "README.md", "Makefile")
TIMEOUT_SECONDS = 900


def main(words: list[str]) -> int:
    """Run the chosen faults; 0 when every one was noticed."""
    is_known_green = "--broken-only" in words
    words = [word for word in words if word != "--broken-only"]
    chosen = [b for b in all_breaks() if not words or any(w in f"{b.pain} {b.file} {b.test}" for w in words)]
    missed = 0
    for each in chosen:
        began = time.monotonic()
        healthy, broken = is_known_green or _passes(each, is_broken=False), _passes(each, is_broken=True)
        verdict = "noticed" if healthy and not broken else "RED ANYWAY" if not healthy else "MISSED"
        missed += verdict != "noticed"
        print(
            f"{verdict:10} pain {each.pain!s:6} {time.monotonic() - began:4.0f} s  {each.breaks}  [{each.test}]",
            flush=True,
        )
    print(f"{len(chosen) - missed} of {len(chosen)} faults noticed")
    return int(missed > 0)


def _passes(each: Break, *, is_broken: bool) -> bool:
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
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", each.test]
        done = subprocess.run(
            command,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        if done.returncode not in (0, 1):  # neither green nor red: not run at all
            raise RuntimeError(
                f"{each.test}: pytest ended with {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-1000:]}"
            )
        return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
