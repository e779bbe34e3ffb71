"""What `sweep status` says of a study."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from sweep.cli.status import _lines, status_of
from sweep.domain import Spent
from sweep.search import OptunaStore
from sweep.spec.model import StudySpec
from sweep.study_files import read_spec
from tests.written_history import spec_in, write_study


def spend(spec: StudySpec, spent: Spent) -> None:
    with closing(OptunaStore.open(spec)) as store:
        store.spend(spent)


def test_it_tells_what_is_spent_of_the_budget_that_a_study_and_its_final_share(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, "budget.trials=2", "budget.hours=3", "budget.gpu_hours=1.5")
    write_study(spec, 2)
    spend(spec, Spent(seconds=3600, gpu_seconds=1800))
    alone = status_of(read_spec(spec.layout))
    assert alone["budget"] == {"trials": 2, "finished": 2, "hours": 3.0, "gpu_hours": 1.5}
    assert alone["spent"] == {"hours": 1.0, "gpu_hours": 0.5}
    final = spec.model_copy(update={"study": spec.layout.confirmation.study})
    write_study(final, 1)
    spend(final, Spent(seconds=1800, gpu_seconds=900))
    both = status_of(read_spec(spec.layout))
    assert both["spent"] == {"hours": 1.5, "gpu_hours": 0.75}
    assert "spent      1 h 30 min of 3 h, 0.75 of 1.5 GPU hours" in _lines(both)
