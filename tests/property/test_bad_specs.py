"""Thousands of mutants of a good spec: a spec that works, or problems on single lines, in bounded time and memory."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import re
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from sweep.errors import InvalidSpecError
from sweep.search.space import SearchSpace
from sweep.spec import StudySpec, load_spec, parse_spec, spec_from_resolved, spec_text

from .spec_mutants import BASE, HUGE, NUMBERS, OWN, VALUES, WHOLE, Mutator, truncated

SEED = 20
EACH = 250  # mutants of each kind; with the whole files and the cut ones about 2,300
EACH_SLOW = 12_000
MEMORY_BYTES = 1 << 30
SECONDS_EACH = 10.0  # a busy machine; quiet it is milliseconds
MOST_EVALUATIONS = 1100  # those that fidelity.py allows, and the rungs

FORM = re.compile(r"(?:study\.yaml(?::\d+)?|--set .*?|stored spec): \S.*[^.]\. \S.*[.?]")
"""Place, then key, value and rule as one sentence, then the remedy as another."""

Load = Callable[[], StudySpec]


def told_well(problems: list[str]) -> bool:
    return len(set(problems)) == len(problems) > 0 and all(
        FORM.fullmatch(line) and line.isprintable() and len(line) < 600 for line in problems
    )


def works(spec: StudySpec) -> None:
    """What the rest of the product does with a spec before the first trial."""
    assert len(spec.evaluate_at) < MOST_EVALUATIONS
    assert list(spec.evaluate_at) == sorted(set(spec.evaluate_at))
    assert spec.evaluate_at[-1] == spec.max_fidelity
    assert spec.layout.folder.resolve().is_relative_to(Path(spec.storage).resolve())
    assert spec_from_resolved(yaml.safe_load(spec_text(spec.resolved()))) == spec, "resume would read another spec"
    space = SearchSpace(spec.search.space)
    assert set(space.optuna) == set(spec.search.space)
    json.dumps(spec.objective_settings(), allow_nan=False)
    for u in (0.0, 0.3, 0.999_999_999):
        drawn = space.at([u] * len(space.distributions))
        assert space.contains(drawn)
        assert all(math.isfinite(value) for value in drawn.values() if isinstance(value, float))
        json.dumps(spec.settings(drawn), allow_nan=False)
    json.dumps(spec.settings(spec.defaults()), allow_nan=False)


def tried(name: str, shown: object, load: Load, counts: Counter[str]) -> Iterator[str]:
    """Complaints about what became of a mutant."""
    began = time.perf_counter()
    try:
        works(load())
        counts[f"{name} accepted"] += 1
    except InvalidSpecError as error:
        counts[f"{name} refused"] += 1
        if not told_well(error.problems):
            yield f"{name} {shown!r:.300}: not told well: {error.problems}"
    except Exception as error:  # noqa: BLE001  # the very thing that must not be
        yield f"{name} {shown!r:.300}: {type(error).__name__}: {error}"
    if time.perf_counter() - began > SECONDS_EACH:
        yield f"{name} {shown!r:.300}: took {time.perf_counter() - began:.0f} s"


def parsed(text: str, *overrides: str) -> Load:
    return lambda: parse_spec(text, place="study.yaml", folder=Path.cwd(), overrides=overrides)


def from_file(content: bytes) -> Load:
    def load() -> StudySpec:
        Path("study.yaml").write_bytes(content)
        return load_spec(Path("study.yaml"))

    return load


def mutants(each: int, seed: int) -> Iterator[tuple[str, object, Load]]:
    mutator, own, random = Mutator(Random(seed)), Mutator(Random(seed + 1), OWN), Random(seed + 2)
    for text in WHOLE:
        yield "whole", text[:200], parsed(text)
    for content in list(truncated())[:: 1 if each >= EACH_SLOW else 4]:
        yield "cut", len(content), from_file(content)
    for _ in range(each):
        for name, one in (("tree", mutator), ("own", own)):
            text = one.in_tree()
            yield name, text, parsed(text)
        text = mutator.in_text()
        yield "text", text, parsed(text)
        content = mutator.in_bytes()
        yield "bytes", content, from_file(content)
        override = mutator.override()
        yield "set", override, parsed(BASE, override)
        path = random.choice(own.paths)
        override = f"{'.'.join(path)}={random.choice(VALUES)}"
        yield "value", override, parsed(OWN, override)
        low, high, extra = (random.choice((*HUGE, *NUMBERS)) for _ in range(3))
        override = f"search.x={low}..{high}{random.choice(('', ' log', f' step {extra}'))}"
        yield "range", override, parsed(OWN, override)


def batch(folder: Path, each: int, seed: int, answer: Any) -> None:
    """Try all mutants in a process of limited memory, in a folder of its own."""
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY_BYTES, resource.RLIM_INFINITY))
    os.chdir(folder)
    (folder / "model").mkdir()
    (folder / "train.jsonl").write_text('{"text": "a", "label": "b"}\n', encoding="utf-8")
    counts: Counter[str] = Counter()
    complaints = [told for name, shown, load in mutants(each, seed) for told in tried(name, shown, load, counts)]
    answer.send((complaints, dict(counts)))


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()


def outcome(folder: Path, each: int, seed: int) -> tuple[list[str], dict[str, int]]:
    here, there = multiprocessing.get_context("fork").Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=batch, args=(folder, each, seed, there))
    process.start()
    there.close()
    try:
        found: tuple[list[str], dict[str, int]] = here.recv()
    except EOFError:
        raise AssertionError(f"the process of the mutants died (exit code {process.exitcode})") from None
    finally:
        process.join()
    return found


def check_outcome(complaints: list[str], counts: dict[str, int], each: int) -> None:
    assert not complaints, "\n".join(complaints[:10])
    assert sum(counts.values()) >= 7 * each
    # Both ends of the property are met, or it says nothing.
    for name in ("tree", "own", "text", "value", "range"):
        assert counts.get(f"{name} accepted", 0) >= each / 60, counts
        assert counts.get(f"{name} refused", 0) >= each / 4, counts


def test_thousands_of_mutated_specs_give_a_working_spec_or_problems_told_well(tmp_path: Path) -> None:
    complaints, counts = outcome(tmp_path, EACH, SEED)
    check_outcome(complaints, counts, EACH)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_many_more_mutated_specs_give_a_working_spec_or_problems_told_well(tmp_path: Path, seed: int) -> None:
    complaints, counts = outcome(tmp_path, EACH_SLOW, seed)
    check_outcome(complaints, counts, EACH_SLOW)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("search.x=-1e308..1e308", "search.x.high=1e308 is too far from low=-1e308 to draw from"),
        ("search.x=1..4611686018427387904 log", "search.x.high=4611686018427387904 is too far from low=1"),
        ("search.x=0..1 step 5e-324", "search.x.step=5e-324 makes more values than can be told apart"),
        ("search.x=0..1e300 step 1e-300", "search.x.step=1e-300 makes more values than can be told apart"),
        ("objective.training.y=a\u202eb", "objective.training.y=a\\x202eb holds a line break or an invisible"),
        ("resources.workers=1000000", "resources.workers=1000000 is above 1000"),
        ("resources.cpus_per_trial=1e9", "resources.cpus_per_trial=1e9 is above 1000"),
        ("limits.attempt_hours=1e300", "limits.attempt_hours=1e300 is above 1000000"),
        ("on.oom.halvings=17", "on.oom.halvings=17 is above 16"),
        ("on.diverged=ignored", "on.diverged.told=ignored is not one of bad, nothing"),
        ("on.fialed=1", "on.fialed is not a known key. Did you mean failed?"),
        ("limits.silence=3", "limits.silence is not a known key. Did you mean silence_minutes?"),
        ("halvings=1", "halvings is not a known key. Move it to on.oom."),
    ],
)
def test_what_could_not_work_later_is_refused_at_once(tmp_path: Path, override: str, problem: str) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "train.jsonl").touch()
    with pytest.raises(InvalidSpecError) as caught:
        parse_spec(OWN, place="study.yaml", folder=tmp_path, overrides=[override])
    assert problem in str(caught.value)
    assert told_well(caught.value.problems)


def test_a_study_whose_folder_is_a_link_out_of_the_storage_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "train.jsonl").touch()
    (tmp_path / "mlruns" / "studies").mkdir(parents=True)
    (tmp_path / "mlruns" / "studies" / "intents").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InvalidSpecError, match=r"study=intents leads out of the storage: .*\. Remove the link"):
        parse_spec(BASE, place="study.yaml", folder=tmp_path)


def test_a_stored_spec_from_before_there_were_limits_and_policies_still_loads(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "train.jsonl").touch()
    now = parse_spec(BASE, place="study.yaml", folder=tmp_path)
    old = {key: value for key, value in now.resolved().items() if key not in ("limits", "on")}
    loaded = spec_from_resolved(yaml.safe_load(yaml.safe_dump(old)))
    assert (loaded.limits.silence_minutes, loaded.on.oom.halvings, loaded.on.failed.stop_after) == (30.0, 3, 3)
    assert loaded.model_copy(update={"limits": now.limits, "on": now.on}) == now
