"""``sweep sync`` and ``sweep status`` tell what waits and what was refused, in bounded time."""

from __future__ import annotations

import json
import time
from pathlib import Path

from sweep.search import OptunaStore
from sweep.spec import spec_text
from sweep.tracking.spool import Spool
from tests.mlflow_server import black_hole
from tests.recording import attempt, begun, study_over, whole_trial
from tests.toy_study import ToyStudy


def test_sync_is_bounded_before_a_deaf_server_and_drains_once_there_is_one_that_answers(tmp_path: Path) -> None:
    with black_hole() as (uri, _):
        study = ToyStudy(tmp_path, [{}], uri=uri)
        OptunaStore.create(study.spec).close()
        with Spool.open(study.layout.spool) as spool:
            spool.append([begun(), *whole_trial(0), attempt(0, 2, learning_rate=0.5), study_over([0])])
        began = time.monotonic()
        failed = study.sweep("sync", "--json", "--timeout", "3", expect=1)
        assert time.monotonic() - began < 30
    assert json.loads(failed.stdout) == {
        "study": "toy",
        "delivered": 0,
        "undelivered": 8,
        "set_aside": {"records": 0, "file": None},
    }
    assert "8 records wait" in failed.stderr
    assert f"8 records of 'toy' wait for {uri}. Try again" in failed.stderr

    resolved = study.spec.resolved()
    study.layout.spec.write_text(spec_text({**resolved, "tracking": {**resolved["tracking"], "uri": None}}))
    told = study.json("sync", "--timeout", "90")
    file = study.layout.spool / "rejected.jsonl"
    assert told["set_aside"] == {"records": 1, "file": str(file)}
    assert (told["delivered"], told["undelivered"]) == (8, 0)
    assert study.json("status")["set_aside"] == told["set_aside"]
    assert f"refused and set aside: 1, with the reasons in {file}" in study.sweep("status").stdout
