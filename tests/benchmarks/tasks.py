"""Runs a small study of every task on real data, and writes the README's table of them.

Run: python -m tests.benchmarks.tasks [--data DIR] [--only TASK …] [--again] [--to DIR]

DATA is a folder of published data sets, each in a sub-folder; see :mod:`objectives.examples.published`. What was
measured is kept in ``tasks_results.json`` beside this file: a task whose spec has not changed since is not run again.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from objectives.data.preparation import PreparedData
from objectives.examples.__main__ import SPECS, write_example
from objectives.examples.rows import EXAMPLES
from objectives.loading import task_names
from sweep import spec as spec_package
from sweep.layout import StudyLayout
from sweep.study_files import read_facts
from tests.benchmarks.task_table import (
    ROOT,
    Gain,
    Result,
    Scores,
    read_results,
    rendered,
    replaced,
    write_results,
)
from tests.benchmarks.trivial import trivial_answer

BUNDLED = Path(spec_package.__file__).with_name("bundled.yaml")
BESIDE = ROOT.parent / "shared" / "data"
_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER, from linux/prctl.h
_ORPHAN_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A study of a task, as a reader runs it.

    Attributes:
        spec: Its file in the product.
        makes: Arguments of the command that makes its rows; None where nothing has to be made.
        runs: Arguments of ``sweep``.
    """

    task: str
    spec: Path
    runs: list[str]
    data: str
    licence: str

    @property
    def spec_sha256(self) -> str:
        """Of its spec and what belongs to it."""
        files = sorted(self.spec.parent.glob(f"{self.spec.stem}.*"))
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()

    @property
    def commands(self) -> list[str]:
        """What a reader types."""
        makes = []
        if self.task in EXAMPLES:
            options = " --data DATA" if EXAMPLES[self.task].published is not None else ""
            makes = [f"python -m objectives.examples {self.task}{options}"]
        return [*makes, " ".join(["sweep", *self.runs])]


def study_of(task: str) -> Study:
    """The study that shows a task."""
    if task not in EXAMPLES:
        runs = ["run", "--trials", "6", "--workers", "1"]
        return Study(task=task, spec=BUNDLED, runs=runs, data="bundled tweets, positive or negative", licence="MIT")
    published = EXAMPLES[task].published
    data, licence = "bundled tweets and their ratings", "MIT"
    if published is not None:
        data, licence = f"[{published.name}]({published.page})", published.licence
    runs = ["run", f"{task}/study.yaml", "--workers", "1"]
    return Study(task=task, spec=SPECS / f"{task}.yaml", runs=runs, data=data, licence=licence)


def measured(task: str, data: Path, folder: Path) -> Result:
    """Run the study of a task in a folder of its own, unless it has run there, and judge it."""
    study = study_of(task)
    kept = folder / "kept.json"
    if not kept.exists() or json.loads(kept.read_text(encoding="utf-8"))["spec_sha256"] != study.spec_sha256:
        _run(study, data, folder)
    run = json.loads(kept.read_text(encoding="utf-8"))
    told = run["told"]
    best, baseline, metric = told["best"], told["baseline"], told["metric"]["name"]
    direction = told["metric"]["direction"]
    prepared = PreparedData.open(Path(read_facts(StudyLayout(Path(told["storage"]), told["study"]), "data")["folder"]))
    name, answer = trivial_answer(task, prepared, metric, direction)
    trivial = Scores(validation=answer("validation")[metric], test=answer("test")[metric])
    is_default = best["trial_number"] == baseline["trial_number"]
    return Result(
        task=task,
        commands=study.commands,
        data=study.data,
        licence=study.licence,
        spec_sha256=study.spec_sha256,
        rows=dict(prepared.meta["rows"]),
        metric=metric,
        direction=direction,
        trivial_answer=name,
        trivial=trivial,
        defaults=Scores(validation=baseline["value"], test=baseline["test"][metric]),
        winner=Scores(validation=best["value"], test=best["test"][metric]),
        winner_is={} if is_default else dict(best["hyperparameters"]),
        gain=None if is_default else _gain(folder, told),
        trials=sum(told["trials"].values()),
        cpu_minutes=run["cpu_seconds"] / 60,
    )


def _run(study: Study, data: Path, folder: Path) -> None:
    """Run a study from the beginning, and keep what it told and took."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if study.task in EXAMPLES:
        write_example(study.task, data, folder / study.task)
    digest, begun = study.spec_sha256, _cpu_seconds()
    told = _sweep(folder, *study.runs)
    _reap_orphans()
    run = {"spec_sha256": digest, "told": told, "cpu_seconds": _cpu_seconds() - begun}
    (folder / "kept.json").write_text(json.dumps(run), encoding="utf-8")


def _gain(folder: Path, told: dict[str, Any]) -> Gain:
    """The winner's over the defaults on the test rows; positive is better."""
    sides = [f"{told['study']}:{told[name]['trial_number']}" for name in ("baseline", "best")]
    pairs = _sweep(folder, "compare", *sides, "--split", "test", "--storage", told["storage"])["pairs"]
    difference = pairs[0]["difference"]
    sign = 1 if told["metric"]["direction"] == "maximize" else -1
    low, high = sorted(sign * bound for bound in difference["interval"])
    return Gain(mean=sign * difference["mean"], low=low, high=high)


def _sweep(folder: Path, *arguments: str) -> Any:
    """The real command line, as JSON; its progress goes to the terminal."""
    command = [sys.executable, "-m", "sweep.cli.main", *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def _cpu_seconds() -> float:
    """Of all processes that have ended below this one."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _adopt_orphans() -> None:
    """Have processes whose parent has ended become this one's children: what Ray starts counts in."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)


def _reap_orphans() -> None:
    until = time.monotonic() + _ORPHAN_SECONDS
    while time.monotonic() < until:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.1)
        except ChildProcessError:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=BESIDE)
    parser.add_argument("--only", choices=sorted(task_names()), nargs="+", default=sorted(task_names()))
    parser.add_argument("--again", action="store_true", help="run what has a result, too")
    parser.add_argument("--to", type=Path, default=ROOT / "build" / "tasks", help="folder of the studies")
    arguments = parser.parse_args()
    _adopt_orphans()
    for task in arguments.only:
        known = read_results().get(task)
        is_new = known is None or known.spec_sha256 != study_of(task).spec_sha256
        if arguments.again:
            shutil.rmtree(arguments.to / task, ignore_errors=True)
        elif not is_new:
            continue
        print(f"{task} …", file=sys.stderr, flush=True)
        found = measured(task, arguments.data.absolute(), arguments.to.absolute() / task)
        write_results(read_results() | {task: found})
    table = rendered(read_results())
    readme = ROOT / "README.md"
    readme.write_text(replaced(readme.read_text(encoding="utf-8"), table), encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
