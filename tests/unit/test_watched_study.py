"""What the server tells a browser of a study: everything once, then what is new; and Optuna's view of all studies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState as OptunaState

from dashboards.optuna_page import JoinedHistories
from dashboards.routes import Pages
from dashboards.studies import Studies
from dashboards.watched import COLUMNS, Watched
from sweep.domain import TrialState
from sweep.errors import StudyNotFoundError, SweepError
from sweep.search import OptunaStore
from sweep.spec.model import StudySpec
from tests.written_history import spec_in, write_study


@pytest.fixture
def spec(tmp_path: Path) -> StudySpec:
    spec = spec_in(tmp_path, "budget.trials=30")
    write_study(spec, 20)
    return spec


def news(study: Watched, **known: str | None) -> dict[str, Any]:
    study._read_at = -1e9  # as if time had passed
    answer: dict[str, Any] = json.loads(study.news(known.get("since"), known.get("about")))
    return answer


def test_a_browser_gets_everything_once_and_then_what_is_new(spec: StudySpec) -> None:
    study = Watched(spec)
    first = news(study)
    assert first["is_whole"]
    assert [row[0] for row in first["trials"]] == list(range(20))
    assert first["about"]["columns"] == list(COLUMNS)
    begun = dict(zip(COLUMNS, first["trials"][0], strict=True))
    assert begun["gaps"] == pytest.approx([0.1 * fidelity for fidelity in begun["fidelities"]])
    known = {"since": first["token"], "about": first["about_digest"]}
    quiet = news(study, **known)
    assert quiet["trials"] == []
    assert "about" not in quiet
    assert quiet["token"] == first["token"]

    store = OptunaStore.open(spec)
    store.ask()
    store.begin_attempt(20)
    store.close()
    (row,) = news(study, **known)["trials"]
    # Nobody drives this study, so nothing of it runs.
    assert dict(zip(COLUMNS, row, strict=True)) | {"number": 20, "state": "PAUSED", "value": None} == dict(
        zip(COLUMNS, row, strict=True)
    )
    assert news(study, since="of-another-server-7", about="x")["is_whole"]
    study.close()


def test_a_spec_with_a_larger_budget_is_told_and_acted_on(spec: StudySpec) -> None:
    study = Watched(spec)
    first = news(study)
    text = spec.layout.spec.read_text(encoding="utf-8")
    spec.layout.spec.write_text(text.replace("trials: 30", "trials: 33"), encoding="utf-8")
    later = news(study, since=first["token"], about=first["about_digest"])
    assert (first["facts"]["trials"], later["facts"]["trials"]) == (30, 33)
    assert later["about"]["spec"]["budget"]["trials"] == 33
    assert study.spec.budget.trials == 33
    study.close()


def test_importance_is_computed_beside_the_requests(spec: StudySpec) -> None:
    study = Watched(spec)
    study.importance()  # ready at once or not: that is a race
    assert study._importance is not None
    study._importance[1].result(60)
    found = study.importance()
    assert found["is_ready"]
    assert set(found["shares"]) == {"learning_rate", "dropout", "batch_size"}
    assert sum(found["shares"].values()) == pytest.approx(1)
    study.close()


def test_optuna_sees_all_studies_of_a_storage_each_under_a_number_of_its_own(spec: StudySpec) -> None:
    studies = Studies(spec.layout.storage)
    joined = JoinedHistories(studies)
    assert [study.study_name for study in joined.get_all_studies()] == ["written"]
    other = spec_in(spec.layout.storage, "study=another", "metric.name=loss", "metric.direction=minimize")
    other.layout.folder.mkdir(parents=True)
    other.layout.spec.write_text(spec.layout.spec.read_text().replace("study: written", "study: another"))
    assert joined.number_of("another") is None, "it has no history yet"
    OptunaStore.create(other).close()
    numbers = {study.study_name: study._study_id for study in joined.get_all_studies()}
    assert sorted(numbers) == ["another", "written"]
    assert len(set(numbers.values())) == 2
    assert joined.get_study_id_from_name("written") == numbers["written"]
    assert joined.get_study_directions(numbers["another"]) == [StudyDirection.MINIMIZE]
    trials = joined.get_all_trials(numbers["written"], deepcopy=False)
    assert len(trials) == 20
    assert joined.get_all_trials(numbers["another"]) == []
    assert joined.get_best_trial(numbers["written"]).state is OptunaState.COMPLETE
    with pytest.raises(KeyError):
        joined.get_study_id_from_name("nosuch")


def test_a_study_that_was_removed_and_begun_anew_is_the_new_one_in_all_views(spec: StudySpec) -> None:
    pages = Pages(spec.layout.storage)
    joined = JoinedHistories(pages.studies)
    old = pages.watched("written")
    assert pages.watched("written") is old
    assert len(old.view().trials) == len(joined.get_all_trials(joined.get_study_id_from_name("written"))) == 20
    folder = spec.layout.folder.stat().st_ino
    # The folder stays, as its number does where a file system gives it anew.
    for path in spec.layout.folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_study(spec, 3)
    assert spec.layout.folder.stat().st_ino == folder
    assert len(pages.watched("written").view().trials) == 3
    with pytest.raises(SweepError, match="is closed"):
        old._watch.read()
    assert len(joined.get_all_trials(joined.get_study_id_from_name("written"))) == 3
    pages.watched("written").close()


def test_asking_for_names_that_no_study_has_leaves_no_trace(spec: StudySpec) -> None:
    joined = JoinedHistories(Studies(spec.layout.storage))
    assert [joined.number_of(name) for name in ("nosuch", "../x", "written")] == [None, None, 0]


def test_nothing_can_be_written_through_optunas_view(spec: StudySpec) -> None:
    joined = JoinedHistories(Studies(spec.layout.storage))
    (study,) = joined.get_all_studies()
    before = (spec.layout.history / "journal.log").read_bytes()
    writes: list[Callable[[], Any]] = [
        lambda: joined.create_new_study([StudyDirection.MINIMIZE], "x"),
        lambda: joined.delete_study(study._study_id),
        lambda: joined.create_new_trial(study._study_id),
        lambda: joined.set_study_user_attr(study._study_id, "a", 1),
        lambda: joined.set_study_system_attr(study._study_id, "a", 1),
        lambda: joined.set_trial_user_attr(0, "a", 1),
        lambda: joined.set_trial_state_values(0, OptunaState.FAIL),
    ]
    for write in writes:
        with pytest.raises(RuntimeError, match="read-only"):
            write()
    assert (spec.layout.history / "journal.log").read_bytes() == before


def test_no_name_leads_out_of_the_storage(spec: StudySpec) -> None:
    studies = Studies(spec.layout.storage)
    for name in ("..", "../studies/written", "", "/etc", "nosuch"):
        with pytest.raises(StudyNotFoundError, match="no study"):
            studies.layout(name)
    assert studies.spec("written").study == "written"
    assert {state.value for state in TrialState} >= {trial[1] for trial in news(Watched(spec))["trials"]}
