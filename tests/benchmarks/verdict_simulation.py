"""Prints what the verdict's error control is worth: false winners on noise, power on planted gains, racing's savings.

Run: python -m tests.benchmarks.verdict_simulation [--finals 10000]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.finals import NOISES, Tally, tally

SEED = 20260101
GAINS = ((0.1, 0.0, 0.0), (1.0, 1.0, 1.0), (2.0, 1.0, 0.0), (3.0, 0.0, 0.0), (3.0, 0.0, -3.0), (6.0, 0.0, -3.0))
"""Of three finalists over the baseline, in sd between seeds."""


def _tallies(finals: int, gains: Sequence[float], seeds: int, row: int, **kind: Any) -> tuple[Tally, Tally]:
    """Without and with racing, on the same scores."""
    plain, raced = (
        tally(np.random.default_rng((SEED, row)), finals, gains, seeds, racing=is_on, **kind) for is_on in (False, True)
    )
    return plain, raced


def _rate(hits: int, of: int) -> str:
    """A share with its Monte-Carlo standard error, in per cent."""
    share = hits / of
    return f"{100 * share:.1f} ± {100 * math.sqrt(share * (1 - share) / of):.1f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(row) + " |", flush=True)
    print()


def noise(finals: int) -> None:
    print("No finalist beats the baseline; a significant winner is claimed all the same (%, level 5 %):\n")
    cells = [(k, n, rho, "normal") for k in (1, 3, 5) for n in (2, 3, 5, 10) for rho in (0.0,)]
    cells += [(3, n, rho, "normal") for n in (3, 5) for rho in (0.5, 0.9)]
    cells += [(k, 5, 0.0, kind) for kind in NOISES if kind != "normal" for k in (1, 3)]
    rows = []
    for k, n, rho, kind in cells:
        plain, raced = _tallies(finals, [0.0] * k, n, len(rows), noise=kind, correlation=rho)
        cell = [str(k), str(n), f"{rho:g}", NOISES[kind]]
        rows.append([*cell, _rate(plain.claimed, finals), _rate(raced.claimed, finals)])
    _table(("finalists", "seeds", "correlation", "noise", "false winners", "with racing"), rows)


def soups(finals: int) -> None:
    print("Likewise, with a greedy soup of all finalists in the final (%, level 5 %):\n")
    rows = []
    for k, n in ((2, 5), (3, 3), (3, 5), (3, 10), (5, 5)):
        found = tally(np.random.default_rng((SEED, 300 + len(rows))), finals, [0.0] * k, n, soup=True)
        rows.append([str(k), str(n), _rate(found.claimed, finals)])
    _table(("finalists", "seeds", "false winners"), rows)


def planted(finals: int) -> None:
    print("One finalist of three is better by a gain in sd between seeds; the others equal the baseline (%):\n")
    rows = []
    for n, rho in ((3, 0.0), (5, 0.0), (5, 0.5), (10, 0.0)):
        for gain in (0.5, 1.0, 2.0, 3.0):
            generator = np.random.default_rng((SEED, 100 + len(rows)))
            found = tally(generator, finals, [gain, 0.0, 0.0], n, correlation=rho)
            right = _rate(found.claimed_best, found.claimed) if found.claimed else "–"
            shares = (_rate(hits, finals) for hits in (found.claimed, found.won_best, found.tied_best))
            claimed, won, tied = shares
            rows.append([str(n), f"{rho:g}", f"{gain:g}", claimed, right, won, tied])
    head = ("seeds", "correlation", "gain", "power", "claimed winner is the best", "winner is the best", "best is tied")
    _table(head, rows)


def racing(finals: int) -> None:
    print("Racing, three finalists with gains over the baseline in sd (%):\n")
    rows = []
    for n in (5, 10):
        for gains in GAINS:
            plain, raced = _tallies(finals, gains, n, 200 + len(rows))
            saved = f"{100 * (1 - raced.runs / raced.all_runs):.0f}"
            power = [_rate(one.claimed, finals) for one in (plain, raced)]
            dropped = _rate(raced.dropped_best, finals)
            rows.append([str(n), ", ".join(f"{gain:+g}" for gain in gains), saved, dropped, *power])
    _table(("seeds", "gains over the baseline", "runs saved", "best dropped", "power", "power with racing"), rows)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--finals", type=int, default=10_000)
    finals = arguments.parse_args().finals
    noise(finals)
    soups(finals)
    planted(finals)
    racing(finals)


if __name__ == "__main__":
    main()
