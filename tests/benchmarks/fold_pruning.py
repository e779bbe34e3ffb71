"""How often the Wilcoxon pruner stops whom, in studies whose scores are drawn: prints the README's tables.

Run it by ``python -m tests.benchmarks.fold_pruning``; ``--studies 2000`` takes some minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import optuna

from sweep.domain import Report, TrialState, fold_metric
from sweep.search.lives import Life
from sweep.search.memory import SearchMemory
from sweep.search.space import SearchSpace
from sweep.spec import StudySpec, parse_spec

Scores = npt.NDArray[np.float64]
"""What each trial would score on each fold, ``[trials, folds]``."""

_SPEC = """
study: drawn
objective: {{model: bundled:minilm-l6, data: {{source: bundled:tweets, folds: {folds}}}}}
search: {{learning_rate: 1e-5..1e-3 log, sampler: random}}
"""


def spec_of(folds: int) -> StudySpec:
    """A study in folds with the Wilcoxon pruner."""
    return parse_spec(_SPEC.format(folds=folds), place="drawn.yaml", folder=Path.cwd())


def stops_after(spec: StudySpec, scores: Scores) -> list[int | None]:
    """Runs trials one after another through the study's own pruner.

    Returns:
        After how many folds each trial was stopped; None for one that came to its end.
    """
    space = SearchSpace(spec.search.space)
    memory = SearchMemory(spec, space)
    return [_run(memory, spec, number, row) for number, row in enumerate(scores)]


def _run(memory: SearchMemory, spec: StudySpec, number: int, scores: npt.NDArray[np.float64]) -> int | None:
    life = Life(number=number, trial_id=number, hyperparameters=memory.draw(), started_at=0.0)
    for fold, score in enumerate(scores.tolist(), start=1):
        mean = float(scores[:fold].mean())
        report = Report(
            trial_number=number,
            attempt=1,
            step=10 * fold,
            fidelity=float(fold),
            metrics={spec.rule.name: mean, fold_metric(spec.rule.name): score},
            checkpoint=None,
            wall_seconds=float(fold),
            reported_at=0.0,
        )
        life.add(memory.evaluate(life, report, mean))
        if life.newest is not None and life.newest.prune:
            life.state = TrialState.PRUNED
            memory.finish(life)
            return fold
    life.state, life.chosen_step = TrialState.COMPLETE, 10 * len(scores)
    memory.finish(life)
    return None


def drawn(generator: np.random.Generator, effects: Sequence[float], folds: int, noise: float) -> Scores:
    """Scores: a trial's own, what a fold is harder by (the same for all), and noise."""
    hardness = generator.normal(0, 2 * noise, folds)
    return 0.85 + np.asarray(effects)[:, None] + hardness + generator.normal(0, noise, (len(effects), folds))


@dataclass(slots=True)
class Tally:
    """Counts over studies."""

    trials: int = 0
    stopped: int = 0
    better_half: int = 0
    better_half_stopped: int = 0
    new_bests: int = 0
    new_bests_stopped: int = 0
    folds_saved: int = 0
    folds: int = 0

    def add(self, scores: Scores, stops: Sequence[int | None]) -> None:
        """Count a study; the baseline is never stopped and does not count."""
        means = scores.mean(axis=1)
        middle, best = float(np.median(means)), float(means[0])
        for mean, stop in zip(means[1:].tolist(), stops[1:], strict=True):
            was_stopped = stop is not None
            self.trials += 1
            self.stopped += was_stopped
            self.better_half += mean > middle
            self.better_half_stopped += was_stopped and mean > middle
            self.new_bests += mean > best
            self.new_bests_stopped += was_stopped and mean > best
            self.folds += scores.shape[1]
            self.folds_saved += scores.shape[1] - stop if stop is not None else 0
            if not was_stopped:
                best = max(best, mean)


def tally(folds: int, effects: Sequence[float], *, noise: float, studies: int, seed: int) -> Tally:
    """Draw studies and count."""
    generator, spec, found = np.random.default_rng(seed), spec_of(folds), Tally()
    for _ in range(studies):
        scores = drawn(generator, effects, folds, noise)
        found.add(scores, stops_after(spec, scores))
    return found


def folds_of_the_plainly_worse(folds: int, loss: float, *, noise: float, studies: int, seed: int) -> list[int | None]:
    """After how many folds a trial that is worse by ``loss`` than the defaults before it is stopped."""
    generator, spec = np.random.default_rng(seed), spec_of(folds)
    return [stops_after(spec, drawn(generator, (0.0, -loss), folds, noise))[1] for _ in range(studies)]


def main() -> None:
    """Print the tables."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--studies", type=int, default=500)
    studies = arguments.parse_args().studies
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print("| folds | stopped | of the better half | of those that would have led | folds saved |")
    print("|---|---|---|---|---|")
    for folds in (5, 10):
        t = tally(folds, [0.0] * 20, noise=0.02, studies=studies, seed=folds)
        print(
            f"| {folds} | {t.stopped / t.trials:.1%} | {t.better_half_stopped / t.better_half:.1%} | "
            f"{t.new_bests_stopped / t.new_bests:.1%} | {t.folds_saved / t.folds:.1%} |"
        )
    print("\n| folds | worse by | stopped | median fold |")
    print("|---|---|---|---|")
    for folds in (5, 10):
        for loss in (0.01, 0.02, 0.04):
            stops = folds_of_the_plainly_worse(folds, loss, noise=0.01, studies=studies, seed=folds)
            known = [stop for stop in stops if stop is not None]
            print(f"| {folds} | {loss} | {len(known) / len(stops):.1%} | {np.median(known):g} |")


if __name__ == "__main__":
    main()
