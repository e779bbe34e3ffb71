"""The disk has room for a study only if it has for its final as well."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sweep.checkpoints.space import free_bytes, head_room, needed_bytes
from sweep.errors import UserError
from sweep.room import coming_bytes, refuse_without_room
from sweep.selection import Finalist, judge
from sweep.spec import parse_spec
from sweep.spec.model import StudySpec
from sweep.study_files import write_atomically
from tests.quick_study import SPEC

CHECKPOINT = 300_000_000
MODEL = CHECKPOINT // 3
"""Bytes; beside them, tokenizer and log are nothing."""


def spec_in(folder: Path, *overrides: str) -> StudySpec:
    return parse_spec(SPEC, place="study.yaml", folder=folder, overrides=("keep=1", *overrides))


def coming(spec: StudySpec) -> int:
    return coming_bytes(spec, checkpoint_bytes=CHECKPOINT, running=2)


def test_a_final_keeps_a_model_of_each_of_its_runs_until_the_verdict(tmp_path: Path) -> None:
    alone = coming(spec_in(tmp_path))
    assert alone == needed_bytes(CHECKPOINT, running=2, kept=2)
    with_final = coming(spec_in(tmp_path, "confirm={finalists: 2, seeds: 10}"))
    assert with_final == 2 * MODEL + needed_bytes(CHECKPOINT, running=2, kept=30)
    assert coming(spec_in(tmp_path, "confirm={finalists: 2, seeds: 10, soup: greedy}")) == with_final + 2 * MODEL
    # There are no more finalists than trials.
    few = spec_in(tmp_path, "confirm={finalists: 2, seeds: 10}", "budget.trials=2")
    assert coming(few) == 2 * MODEL + needed_bytes(CHECKPOINT, running=2, kept=20)


def test_a_soup_of_adapters_needs_room_for_whole_models(tmp_path: Path) -> None:
    adapters = {"checkpoint_bytes": CHECKPOINT // 100, "running": 2, "merged_bytes": MODEL}
    alone = coming_bytes(spec_in(tmp_path, "confirm={finalists: 2, seeds: 2}"), **adapters)
    soup = spec_in(tmp_path, "confirm={finalists: 2, seeds: 2, soup: uniform}")
    # The best soup, and of the one that is made: the average so far, the next adapter merged, and the average of both.
    assert coming_bytes(soup, **adapters) == alone + 4 * MODEL
    tight = soup.model_copy(update={"limits": soup.limits.model_copy(update={"disk_gb": 3.9 * MODEL / 1e9})})
    with pytest.raises(UserError, match="are more than the 390"):
        refuse_without_room(tight, **adapters)
    refuse_without_room(tight, **{**adapters, "merged_bytes": MODEL // 2})


def test_what_a_final_has_already_counts_and_a_judged_one_needs_no_more(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, "confirm={finalists: 2, seeds: 10}")
    before = coming(spec)
    held = spec.layout.confirmation.checkpoints(0) / "step-00000001" / "model"
    held.mkdir(parents=True)
    (held / "weights").write_bytes(bytes(1_000_000))
    assert coming(spec) == before - 1_000_000
    scores = dict.fromkeys(range(10), 0.5)
    finalists = [Finalist(label=f"trial {i}", trial_number=i, scores=scores) for i in range(2)]
    dropped = Finalist(label="trial 2", trial_number=2, scores={0: 0.1, 1: 0.1}, dropped_after=2)
    verdict = judge([*finalists, dropped], spec.rule, seeds=10)
    spec.layout.folder.mkdir(parents=True)
    write_atomically(spec.layout.verdict, json.dumps(verdict.to_json()))
    assert coming(spec) == needed_bytes(CHECKPOINT, running=2, kept=2)
    assert spec.confirm is not None
    more = spec.model_copy(update={"confirm": spec.confirm.model_copy(update={"seeds": 12})})
    # Two seeds more for the two who race.
    assert coming(more) == 2 * MODEL + needed_bytes(CHECKPOINT, running=2, kept=4)


def test_a_study_whose_final_has_no_room_is_refused_by_disk_and_by_quota(tmp_path: Path) -> None:
    confirm = "confirm={finalists: 3, seeds: 50}"
    free = free_bytes(tmp_path) / 1e9
    alone, whole = coming(spec_in(tmp_path)) / 1e9, coming(spec_in(tmp_path, confirm)) / 1e9
    between = free - (alone + whole) / 2
    refuse_without_room(spec_in(tmp_path, f"limits.free_disk_gb={between}"), checkpoint_bytes=CHECKPOINT, running=2)
    with pytest.raises(UserError, match=r"'quick' has no room.* are free, not .* for checkpoints to come"):
        refuse_without_room(
            spec_in(tmp_path, confirm, f"limits.free_disk_gb={between}"), checkpoint_bytes=CHECKPOINT, running=2
        )
    quota = (f"limits.disk_gb={(alone + whole) / 2}", "limits.free_disk_gb=0")
    refuse_without_room(spec_in(tmp_path, *quota), checkpoint_bytes=CHECKPOINT, running=2)
    with pytest.raises(UserError, match=r"quick\.confirm: 0\.0 MB on disk .*`sweep resume quick --disk-gb"):
        refuse_without_room(spec_in(tmp_path, confirm, *quota), checkpoint_bytes=CHECKPOINT, running=2)
    assert head_room(CHECKPOINT, 2) < MODEL * 50
