"""Drawing, pruning and the shape of the search space."""

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import TrialState as OptunaState
from scipy.stats import qmc

from sweep.cli.status import _lines, status_of
from sweep.domain import Trial, TrialState
from sweep.errors import StudyExistsError, StudyNotFoundError, StudyStoreError
from sweep.search import OptunaStore, read_trials
from sweep.search.claims import claimed
from sweep.search.pruners import is_last, milli_fidelity
from sweep.search.samplers import SobolPoints
from sweep.search.space import SearchSpace
from sweep.selection.ties import compared_too_early
from sweep.spec.model import (
    DataSpec,
    MetricSpec,
    ObjectiveSpec,
    PrunerSpec,
    SamplerSpec,
    SearchSpec,
    StudySpec,
    TrainingSpec,
)
from sweep.spec.space import Choices, Distribution, FloatRange, IntRange
from sweep.testing.study_store import evaluation

SPACE: dict[str, Distribution] = {
    "learning_rate": FloatRange(low=1e-5, high=3e-3, log=True),
    "dropout": FloatRange(low=0.0, high=0.5),
    "weight_decay": FloatRange(low=1e-6, high=0.3, log=True),
}
SMALL: dict[str, Distribution] = {
    "batch_size": Choices((8, 16, 32)),
    "max_length": IntRange(low=32, high=96, step=32),
}


def spec_in(
    storage: Path,
    *,
    space: dict[str, Distribution] | None = None,
    sampler: Any = "sobol",
    pruner: Any = "successive-halving",
    first_rung: float = 0.0625,
    seed: int = 0,
    training: dict[str, Any] | None = None,
    direction: Any = "maximize",
    **other: Any,
) -> StudySpec:
    return StudySpec(
        study="study",
        objective=ObjectiveSpec(
            model="bundled:minilm-l6",
            data=DataSpec(source="bundled:tweets"),
            training=TrainingSpec(**{"epochs": 4.0} | (training or {})),
        ),
        search=SearchSpec(
            space=SPACE if space is None else space,
            seed=seed,
            sampler=SamplerSpec(name=sampler),
            pruner=PrunerSpec(name=pruner, first_rung=first_rung),
        ),
        metric=MetricSpec(direction=direction),
        storage=str(storage),
        **other,
    )


def play(store: OptunaStore, spec: StudySpec, trials: int, *, crash_each: int | None = None) -> list[Trial]:
    """Run a study with one worker on a made-up objective; optionally forget the store now and then."""
    for turn in range(trials):
        if crash_each and turn % crash_each == crash_each - 1:
            store = OptunaStore.open(spec)
        trial = store.ask()
        store.begin_attempt(trial.number)
        rate, dropout = (float(trial.hyperparameters[n]) for n in ("learning_rate", "dropout"))  # type: ignore[arg-type]
        top = 0.9 - 40 * abs(rate - 4e-4) - abs(dropout - 0.1)
        state, value = TrialState.COMPLETE, 0.0
        for level in spec.evaluate_at:
            value = top - 0.2 / (1 + level)
            report = evaluation(trial.number, round(level * 100), value, fidelity=level)
            store.report(report, value)
            if store.should_prune(trial.number):
                state = TrialState.PRUNED
                break
        store.tell(trial.number, state, report)
    played = list(store.trials())
    store.close()
    return played


def signature(trials: list[Trial]) -> list[tuple[object, ...]]:
    return [(t.number, t.state, tuple(t.hyperparameters.items()), t.value, tuple(t.values.items())) for t in trials]


# Sampling


@pytest.mark.parametrize("sampler", ["sobol", "tpe", "random"])
def test_one_worker_and_one_seed_make_the_same_study_crashes_or_not(tmp_path: Path, sampler: str) -> None:
    studies = []
    for name, crash_each in (("a", None), ("b", None), ("c", 4)):
        spec = spec_in(tmp_path / name, sampler=sampler, seed=3)
        studies.append(signature(play(OptunaStore.create(spec), spec, 24, crash_each=crash_each)))
    assert studies[0] == studies[1] == studies[2]
    assert len({t[1] for t in studies[0]}) == 2
    other = spec_in(tmp_path / "d", sampler=sampler, seed=4)
    assert signature(play(OptunaStore.create(other), other, 24)) != studies[0]


def test_trial_0_has_exactly_the_defaults(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, training={"learning_rate": 7e-5, "weight_decay": 0.02})
    store = OptunaStore.create(spec)
    assert store.ask().hyperparameters == spec.defaults()
    assert store.ask().hyperparameters != spec.defaults()
    assert read_trials(spec)[0].hyperparameters == spec.defaults()
    store.close()


@pytest.mark.parametrize("sampler", ["sobol", "tpe"])
def test_defaults_outside_of_the_space_are_kept_exactly(
    tmp_path: Path, sampler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    space: dict[str, Distribution] = SPACE | {
        "warmup": FloatRange(low=0.0, high=0.5, step=0.1),
        "keep_layers": Choices(((0, 2, 5), (0, 1))),
        "batch_size": IntRange(low=8, high=32, step=8),
    }
    spec = spec_in(tmp_path, space=space, sampler=sampler)
    odd = {
        "learning_rate": 1.0,
        "dropout": 0.1,
        "weight_decay": 0,
        "warmup": 0.06,
        "keep_layers": (1, 4),
        "batch_size": 13,
    }
    monkeypatch.setattr(StudySpec, "defaults", lambda self: dict(odd))
    play(OptunaStore.create(spec), spec, 14)
    store = OptunaStore.open(spec)
    assert store.trials()[0].hyperparameters == odd
    assert type(store.trials()[0].hyperparameters["weight_decay"]) is int
    assert len(store.ask().hyperparameters) == len(space)
    store.close()


@pytest.mark.parametrize("dimensions", [1, 3, 6])
def test_sobol_points_are_evener_than_random_ones(dimensions: int) -> None:
    points = SobolPoints(dimensions, seed=1)
    sobol = [points.point(i) for i in range(64)]
    import numpy

    random = numpy.random.default_rng(1).random((64, dimensions))
    # Scrambled Sobol stays below half of random's discrepancy for these fixed seeds.
    assert qmc.discrepancy(sobol) < 0.5 * qmc.discrepancy(random)
    # A (t, m, s)-net in base 2: each half of each axis holds half of the points.
    for axis in range(dimensions):
        assert sum(point[axis] < 0.5 for point in sobol) == 32


@given(st.permutations(range(12)))
def test_a_sobol_point_depends_on_its_index_alone(order: list[int]) -> None:
    in_order = SobolPoints(2, seed=5)
    expected = [in_order.point(i) for i in range(12)]
    points = SobolPoints(2, seed=5)
    assert {i: points.point(i) for i in order} == dict(enumerate(expected))


def test_the_order_of_keys_in_the_spec_does_not_change_the_points(tmp_path: Path) -> None:
    one = OptunaStore.create(spec_in(tmp_path / "a"))
    two = OptunaStore.create(spec_in(tmp_path / "b", space=dict(reversed(SPACE.items()))))
    for _ in range(4):
        assert one.ask().hyperparameters == two.ask().hyperparameters


@pytest.mark.parametrize("sampler", ["sobol", "tpe", "random"])
def test_no_configuration_comes_twice_until_all_were_tried(tmp_path: Path, sampler: str) -> None:
    spec = spec_in(tmp_path, space=SMALL, sampler=sampler)
    store = OptunaStore.create(spec)
    drawn = []
    for number in range(9):
        if number == 5:
            store = OptunaStore.open(spec)
        trial = store.ask()
        drawn.append(tuple(trial.hyperparameters.values()))
        store.tell(number, TrialState.FAILED, None)
    assert set(drawn) == set(itertools.product((8, 16, 32), (32, 64, 96)))
    assert tuple(store.ask().hyperparameters.values()) in drawn
    store.close()


def test_a_study_without_a_space_runs_the_defaults_again(tmp_path: Path) -> None:
    store = OptunaStore.create(spec_in(tmp_path, space={}))
    assert [dict(store.ask().hyperparameters) for _ in range(3)] == [{}, {}, {}]


def test_tpe_learns_where_the_good_region_is(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, sampler="tpe", pruner="none")
    trials = play(OptunaStore.create(spec), spec, 40)
    values = [t.value for t in trials if t.value is not None]
    # Fixed seed; a sampler that ignored the history would win this in half of all seeds at best.
    assert sum(values[-12:]) / 12 > sum(values[1:13]) / 12


def test_a_diverged_trial_is_the_worst_that_tpe_can_see_and_never_ranked(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, sampler="tpe", pruner="none")
    for attempt in ("live", "reopened"):
        store = OptunaStore.create(spec) if attempt == "live" else OptunaStore.open(spec)
        if attempt == "live":
            for number in range(2):
                store.ask()
                store.begin_attempt(number)
                store.report(evaluation(number, 100 * (number + 1), 0.99), 0.99)
            store.tell(0, TrialState.PRUNED, evaluation(0, 100, 0.99))
            store.tell(1, TrialState.DIVERGED, evaluation(1, 200, 0.99), "loss is nan")
        seen = store._memory._study.get_trials()
        # TPE ranks pruned trials by how far they came: without evaluations none comes after it.
        assert seen[0].intermediate_values
        assert not seen[1].intermediate_values
        assert seen[1].state is OptunaState.PRUNED
        assert store.trials()[1].state is TrialState.DIVERGED
        assert store.trials()[1].error == "loss is nan"


# Space


@given(st.lists(st.floats(0, 1, exclude_max=True), min_size=6, max_size=6))
def test_every_point_of_the_cube_is_in_the_space_and_survives_storage(point: list[float]) -> None:
    space = SearchSpace(
        {
            "a": FloatRange(low=1e-6, high=1e-3, log=True),
            "b": FloatRange(low=0.1, high=0.7, step=0.2),
            "c": IntRange(low=1, high=100, log=True),
            "d": IntRange(low=2, high=11, step=3),
            "e": Choices(((0, 2, 5), None, True, 7, "x")),
            "f": FloatRange(low=-1.0, high=1.0),
        }
    )
    values = space.at(point)
    assert space.contains(values)
    assert space.nearest(values) == values
    stored = space.encode(values)
    assert space.decode(stored) == values
    assert all(space.optuna[n]._contains(space.optuna[n].to_internal_repr(v)) for n, v in stored.items())


def test_grids_are_what_a_person_wrote() -> None:
    space = SearchSpace({"a": FloatRange(low=0.1, high=0.7, step=0.1), "b": Choices(((1, 2), None))})
    assert space.size == 14
    assert [c["a"] for c in space.configurations()][::2] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]
    assert SearchSpace(SPACE).size is None
    assert not space.contains({"a": 0.15, "b": None})
    assert not space.contains({"a": 0.1})


# Pruning


def curve(store: OptunaStore, number: int, steps_per_epoch: float, values: dict[float, float]) -> list[bool]:
    store.ask()
    store.begin_attempt(number)
    verdicts = []
    for level, value in values.items():
        step = -(-int(level * steps_per_epoch * 1000) // 1000)  # the first whole step at or past the level
        store.report(evaluation(number, step, value, fidelity=step / steps_per_epoch), value)
        verdicts.append(store.should_prune(number))
    return verdicts


@pytest.mark.parametrize("pruner", ["successive-halving", "median"])
def test_batch_sizes_with_the_same_curves_get_the_same_verdicts(tmp_path: Path, pruner: str) -> None:
    levels = spec_in(tmp_path, pruner=pruner).evaluate_at
    verdicts = []
    for name, rates in (("a", [94.0]), ("b", [11.75]), ("c", [94.0, 47.0, 23.5, 11.75])):
        spec = spec_in(tmp_path / name, pruner=pruner)
        store = OptunaStore.create(spec)
        found = []
        for number in range(12):
            quality = (number * 5 % 12) / 12
            found.append(curve(store, number, rates[number % len(rates)], {f: quality + f / 100 for f in levels}))
            store.tell(number, TrialState.COMPLETE, store.reports(number)[-1])
        verdicts.append(found)
    assert verdicts[0] == verdicts[1] == verdicts[2]
    assert any(any(v) for v in verdicts[0])


@pytest.mark.parametrize("pruner", ["successive-halving", "median"])
def test_a_finished_run_is_not_pruned_at_its_last_evaluation(tmp_path: Path, pruner: str) -> None:
    # A full run of 9 first rungs ends on a rung itself.
    spec = spec_in(tmp_path, pruner=pruner, first_rung=1 / 9, training={"epochs": 9.0})
    store = OptunaStore.create(spec)
    for number in range(1 + 6):
        curve(store, number, 94, dict.fromkeys(spec.evaluate_at, 0.5 + number / 100))
        store.tell(number, TrialState.COMPLETE, store.reports(number)[-1])
    worst = curve(store, 7, 94, dict.fromkeys(spec.evaluate_at, 0.2))
    assert any(worst)
    assert not worst[-1]
    assert not OptunaStore.open(spec).should_prune(7)


def test_a_baseline_worse_than_all_is_never_pruned(tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    store = OptunaStore.create(spec)
    for _ in range(6):
        store.ask()
    for number in (1, 2, 3, 4, 5, 0):
        store.begin_attempt(number)
        for step, level in enumerate(spec.evaluate_at, start=1):
            value = 0.9 if number else 0.1
            store.report(evaluation(number, step * 10, value, fidelity=level), value)
            assert number or not store.should_prune(0)


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_successive_halving_stops_the_worse_two_thirds(tmp_path: Path, direction: str) -> None:
    spec = spec_in(tmp_path, direction=direction)
    store = OptunaStore.create(spec)
    sign = 1 if direction == "maximize" else -1
    rung = spec.evaluate_at[0]
    for number in range(30):
        store.ask()
        value = sign * (number * 7 % 30)
        store.report(evaluation(number, 25, value, fidelity=rung), value)
    late_good, late_bad = store.ask().number, store.ask().number
    store.report(evaluation(late_good, 25, sign * 25.0, fidelity=rung), sign * 25.0)
    store.report(evaluation(late_bad, 25, sign * 5.0, fidelity=rung), sign * 5.0)
    assert not store.should_prune(late_good)
    assert store.should_prune(late_bad)


@pytest.mark.parametrize("pruner", ["successive-halving", "median"])
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_among_equals_nobody_is_stopped(tmp_path: Path, pruner: str, direction: str) -> None:
    store = OptunaStore.create(spec_in(tmp_path, pruner=pruner, direction=direction))
    for number in range(12):
        assert not any(curve(store, number, 94, {0.25: 0.0, 1.0: 0.0, 4.0: 0.0}))
        store.tell(number, TrialState.COMPLETE, store.reports(number)[-1])


def test_trials_that_the_first_rung_cannot_tell_apart_are_told(tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    store = OptunaStore.create(spec)
    for number, value in enumerate([0.0, 0.0, 0.02, 0.0, 0.0, 0.01, 0.0]):
        curve(store, number, 94, {0.25: value})
        told = compared_too_early(store.trials(), spec)
        assert (told is not None) == (number >= 4), number
    assert "5 of 7 trials had the same accuracy, 0, at the first rung (0.25 epochs): too early" in str(told)
    assert status_of(spec)["warnings"] == [told]
    assert f"warning    {told}" in _lines(status_of(spec))
    for number in range(7, 10):
        curve(store, number, 94, {0.25: number / 10})
    assert compared_too_early(store.trials(), spec) is None, "half of them are no majority"
    assert compared_too_early(store.trials(), spec_in(tmp_path, pruner="none")) is None


def test_without_a_pruner_nothing_is_pruned(tmp_path: Path) -> None:
    store = OptunaStore.create(spec_in(tmp_path, pruner="none"))
    for number in range(6):
        assert not any(curve(store, number, 94, {0.25: 0.9 - number / 10, 1.0: 0.1, 4.0: 0.0}))


@settings(max_examples=200)
@given(rate=st.floats(3, 500), epochs=st.sampled_from([1.0, 3.0, 4.0, 10.0]), data=st.data())
def test_a_report_made_for_a_level_counts_as_that_level(rate: float, epochs: float, data: st.DataObject) -> None:
    levels = [epochs * 3**-k for k in (2, 1, 0)]
    level = data.draw(st.sampled_from(levels))
    step = max(1, round(level * rate))
    report = evaluation(0, step, 0.5, fidelity=step / rate)
    if abs(step / rate - level) < 0.09 * level:
        assert milli_fidelity(report, levels) == round(level * 1000)
    assert is_last(report, level) or step + 0.5 < level * rate + 1e-6


# Opening


def test_creating_twice_and_opening_nothing_are_told_with_remedies(tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    with pytest.raises(StudyNotFoundError, match="sweep list"):
        OptunaStore.open(spec)
    with pytest.raises(StudyNotFoundError, match="sweep list"):
        read_trials(spec)
    assert not list(tmp_path.iterdir())
    OptunaStore.create(spec).close()
    with pytest.raises(StudyExistsError, match="sweep resume study"):
        OptunaStore.create(spec)


def test_passwords_are_never_told(tmp_path: Path) -> None:
    url = "postgresql://user:hunter2@127.0.0.1:1/db?connect_timeout=1"
    for opened in (OptunaStore.create, OptunaStore.open, read_trials):
        with pytest.raises(StudyStoreError) as told:
            opened(spec_in(tmp_path, history=url))
        assert "hunter2" not in str(told.value)
        assert "127.0.0.1" in str(told.value)


def test_a_missing_driver_is_told_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StudyStoreError, match=r"pip install 'sweep-finetune\[postgresql\]'"):
        OptunaStore.create(spec_in(tmp_path, history="postgresql://user@host/db"))
    with pytest.raises(StudyStoreError, match=r"pip install 'sweep-finetune\[postgresql\]'"):
        claimed(spec_in(tmp_path, history="postgresql://user@host/db"), now=0.0).__enter__()


def test_importing_the_room_does_not_import_optuna_and_reading_does_not_import_scipy(tmp_path: Path) -> None:
    spec = spec_in(tmp_path)
    play(OptunaStore.create(spec), spec, 2)
    code = (
        "import sys, pathlib, sweep.search; assert 'optuna' not in sys.modules; "
        "from sweep.search import read_trials; from sweep.spec.model import *; "
        f"spec = StudySpec(study='study', storage={str(tmp_path)!r}, search=SearchSpec(), "
        "objective=ObjectiveSpec(model='m', data=DataSpec(source='bundled:tweets'))); "
        "assert len(read_trials(spec)) == 2; "
        "assert not {'scipy', 'torch', 'sklearn'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
