"""NaN and infinities: the trial has diverged and is never the best, and everything that is shown stays readable."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from tests.mlflow_server import MlflowServer, no_constant
from tests.recording import Store
from tests.toy_study import ToyStudy

ODD = {
    "sound": {},
    "metric nan": {"accuracy": math.nan},
    "metric inf": {"accuracy": math.inf},
    "metric -inf": {"accuracy": -math.inf},
    "loss nan": {"loss": math.nan},
    "loss inf": {"train_loss": math.inf},
    "side": {"mcc": math.nan, "system/gpu_percent": math.inf, "macro_f1": 0.5},
}


def test_pain_20_what_is_no_finite_number_diverges_is_never_best_and_breaks_no_page(
    server: MlflowServer, tmp_path: Path
) -> None:
    names = list(ODD)
    study = ToyStudy(tmp_path, [{"reports": 2, "metrics": odd} for odd in ODD.values()], uri=server.uri, name="pain-20")
    study.run()
    store = Store(server.database, "pain-20")
    states = {names[int(n)]: state for n, (_, state) in store.statuses().items() if n != "study"}
    assert states == {name: "COMPLETE" if name in ("sound", "side") else "DIVERGED" for name in names}

    rows = study.json("best", "-k", "9")
    assert sorted(row["trial_number"] for row in rows) == [names.index("sound"), names.index("side")]
    assert all(math.isfinite(row["value"]) for row in rows)
    assert study.json("status")["best"]["trial_number"] == names.index("sound")

    side = store.run(names.index("side"))
    assert store.metric(side, "mcc") == []
    assert [value for _, value, _ in store.metric(side, "macro_f1")] == [0.5, 0.5]
    assert "mcc is nan" in study.layout.log(names.index("side")).read_text()
    assert store.rows("SELECT * FROM metrics WHERE is_nan OR value IN (9e999, -9e999)") == []
    _assert_every_page_is_json(server, store)


def _assert_every_page_is_json(server: MlflowServer, store: Store) -> None:
    """What MLflow's pages of the study ask for; ``ask`` refuses what is no JSON."""
    ((experiment,),) = store.rows("SELECT experiment_id FROM experiments WHERE name = 'pain-20'")
    order = {"experiment_ids": [str(experiment)], "order_by": ["metrics.objective_value DESC"]}
    found: list[Any] = server.ask("/api/2.0/mlflow/runs/search", order)["runs"]
    assert len(found) == len(ODD) + 1
    for run_id in [*store.runs().values(), store.parent()]:
        run = server.ask(f"/api/2.0/mlflow/runs/get?run_id={run_id}")["run"]
        for metric in run["data"].get("metrics", []):
            server.ask(f"/api/2.0/mlflow/metrics/get-history?run_id={run_id}&metric_key={metric['key']}")
    files = [path for path in server.artifacts.rglob("*.json") if f"/{store.parent()}/" in str(path)]
    assert {path.name for path in files} >= {"leaderboard.json", "data.json"}
    for path in files:
        json.loads(path.read_text(), parse_constant=no_constant)
