"""A trial in folds that is killed goes on in the part it was in, and ends as if nothing had happened."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sweep.checkpoints import FolderKeeper, read_manifest
from tests.task_studies import folded_study, under_test

FOLDS = 4
TRIAL = """
import os, signal, sys
from pathlib import Path
from tests.task_studies import folded_study, under_test

tested = under_test(folded_study(Path(sys.argv[1]), folds={folds}, epochs=2))
objective, request, steps = tested.create(), tested.request(), iter(range(3))

def leaving():
    # Two steps into the part after so many committed ones.
    if len(list(Path(request.checkpoints).glob("step-*"))) == int(sys.argv[2]) and next(steps) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return False

objective.leaving = leaving
for report in objective.train(request):
    pass
"""


# The last fold is committed without a report, so that the model of all rows does not train it again.
@pytest.mark.parametrize(
    ("committed", "reported"),
    [pytest.param(2, 2, id="fold-3"), pytest.param(FOLDS, FOLDS - 1, id="all-rows", marks=pytest.mark.slow)],
)
def test_a_trial_killed_within_a_part_trains_no_finished_fold_again_and_ends_alike(
    tmp_path: Path, committed: int, reported: int
) -> None:
    script = tmp_path / "trial.py"
    script.write_text(TRIAL.format(folds=FOLDS))
    command = [sys.executable, str(script), str(tmp_path / "study"), str(committed)]
    died = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert died.returncode == -signal.SIGKILL, died.stderr
    tested = under_test(folded_study(tmp_path / "study", folds=FOLDS, epochs=2))
    request = tested.request()
    shown = {path: path.stat().st_mtime_ns for path in Path(request.artifacts).rglob("*.json")}
    assert {path.parent.name for path in shown} == {f"fold-{fold + 1}" for fold in range(committed)}
    newest = FolderKeeper(lambda _: Path(request.checkpoints)).newest(0)
    after = list(tested.create().train(tested.request(attempt=2, start_from=newest)))
    whole = list(tested.create().train(tested.request("-whole")))
    assert [report.fidelity for report in after] == [float(fold) for fold in range(reported, FOLDS + 1)]
    assert [tested.steady(report) for report in after] == [tested.steady(report) for report in whole[reported - 1 :]]
    files = [read_manifest(Path(str(run[-1].checkpoint))).files for run in (after, whole)]
    weights = [{n: f.sha256 for n, f in found.items() if n.endswith("tensors")} for found in files]
    assert weights[0] == weights[1]
    assert shown == {path: path.stat().st_mtime_ns for path in shown}
