"""The README's table of tasks, rendered from what :mod:`tests.benchmarks.tasks` has measured."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).with_name("tasks_results.json")
BEGIN, END = "<!-- task table -->\n", "<!-- end of the task table -->"

_TEXT = """\
A small study of each task, measured by `make task-table DATA=…` on one core ({minutes:.0f} CPU minutes in all).
The trivial answer knows the frequencies of the training rows, or less. The defaults are trial 0: a learning rate of
1e-3 for random weights, and the usual 5e-5 for the bundled model, which is low for runs as short as these and part of
what the search gains. The winner has the best validation score. Scores are validation / test. The search chose by
validation alone, and so did we when we set these examples up, which makes validation scores optimistic: **the gain is
that on the test rows**, winner over defaults, positive is better, with its 95 % interval (bootstrap over rows; other
seeds spread it further, which is what `--confirm` is for). Killed while it trains, each task goes on from
its checkpoint to the same bits (`test_a_training_that_was_killed_ends_in_the_same_bits`).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """A metric on the two splits that nothing was trained on."""

    validation: float
    test: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """By how much the winner is better than the defaults on the test rows, and the 95 % interval of that."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a study of a task has found.

    Attributes:
        commands: With which a reader repeats it.
        data: What it was, in a few words; a link where it is published.
        licence: Of the data.
        spec_sha256: Of the example's spec.
        rows: By split.
        trivial_answer: Its name.
        winner_is: Its hyperparameters; empty where the defaults won.
        gain: None where the defaults won.
    """

    task: str
    commands: Sequence[str]
    data: str
    licence: str
    spec_sha256: str
    rows: dict[str, int]
    metric: str
    direction: str
    trivial_answer: str
    trivial: Scores
    defaults: Scores
    winner: Scores
    winner_is: dict[str, Any]
    gain: Gain | None
    trials: int
    cpu_minutes: float

    @classmethod
    def of_json(cls, value: dict[str, Any]) -> Result:
        """What :func:`write_results` wrote of one."""
        both = {name: Scores(**value[name]) for name in ("trivial", "defaults", "winner")}
        return cls(**{**value, **both, "gain": None if value["gain"] is None else Gain(**value["gain"])})


def read_results() -> dict[str, Result]:
    """Results by task."""
    if not RESULTS.exists():
        return {}
    found = [Result.of_json(value) for value in json.loads(RESULTS.read_text(encoding="utf-8"))]
    return {result.task: result for result in found}


def write_results(results: dict[str, Result]) -> None:
    """Keep results."""
    values = [asdict(results[task]) for task in sorted(results)]
    RESULTS.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def rendered(results: dict[str, Result]) -> str:
    """The README's part."""
    found = [results[task] for task in sorted(results)]
    lines = [_TEXT.format(minutes=sum(result.cpu_minutes for result in found))]
    heads = ("task", "metric", "trivial answer", "defaults", "winner", "gain on test", "trials", "CPU min")
    lines += _table(heads, [_scores(result) for result in found])
    lines += ["", _told(found), ""]
    heads = ("task", "data (rows to train / validate / test)", "commands")
    lines += _table(heads, [_origin(result) for result in found])
    return "\n".join(lines) + "\n"


def replaced(readme: str, table: str) -> str:
    """The README with this table between its marks."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table}{END}{after}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *rows)]


def _scores(result: Result) -> list[str]:
    digits = _digits(result)

    def both(scores: Scores) -> str:
        return f"{scores.validation:.{digits}f} / {scores.test:.{digits}f}"

    gain = "defaults won"
    if result.gain is not None:
        mean, low, high = (
            f"{value:+.{digits}f}".replace("-", "−") for value in (result.gain.mean, result.gain.low, result.gain.high)
        )
        gain = f"{mean} [{low}, {high}]"
    return [
        f"`{result.task}`",
        f"{result.metric} {'↑' if result.direction == 'maximize' else '↓'}",
        f"{both(result.trivial)} ({result.trivial_answer})",
        both(result.defaults),
        both(result.winner),
        gain,
        str(result.trials),
        f"{result.cpu_minutes:.1f}",
    ]


def _digits(result: Result) -> int:
    """Decimals that a task's scores are told with: three below 2, one from 10."""
    largest = max(result.trivial.test, result.defaults.test, result.winner.test)
    return 3 if largest < 2 else 2 if largest < 10 else 1


def _origin(result: Result) -> list[str]:
    rows = " / ".join(f"{result.rows[split]:,}" for split in ("train", "validation", "test"))
    commands = "<br>".join(f"`{command}`" for command in result.commands)
    return [f"`{result.task}`", f"{result.data}, {result.licence} ({rows})", commands]


def _told(results: Sequence[Result]) -> str:
    """Where nothing is gained, and where nothing is learnt, in words."""
    gains = {result.task: result.gain for result in results}
    nothing = [task for task, gain in gains.items() if gain is None]
    unsure = [task for task, gain in gains.items() if gain is not None and gain.low <= 0 <= gain.high]
    worse = [task for task, gain in gains.items() if gain is not None and gain.high < 0]
    poor = [result.task for result in results if not _is_better(result.winner.test, result.trivial.test, result)]
    lines = []
    if nothing:
        lines.append(f"The search found nothing better than the defaults for {_named(nothing)}.")
    if unsure:
        lines.append(f"The test rows cannot tell winner and defaults apart for {_named(unsure)}.")
    if worse:
        lines.append(f"The winner is worse there than the defaults for {_named(worse)}.")
    if poor:
        lines.append(f"Nothing useful is learnt at this size for {_named(poor)}: the trivial answer is as good.")
    return " ".join(lines) or "Every winner beats its defaults and the trivial answer there."


def _is_better(one: float, other: float, result: Result) -> bool:
    return one > other if result.direction == "maximize" else one < other


def _named(tasks: Sequence[str]) -> str:
    *first, last = [f"`{task}`" for task in tasks]
    return f"{', '.join(first)} and {last}" if first else last
