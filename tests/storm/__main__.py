"""``python -m tests.storm [--seed N] [--trials N] [--seconds S]``: exit 1 if anything was lost or not done."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.storm.storm import storm


def main() -> int:
    """Run one storm and tell how it went."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=600.0)
    options = parser.parse_args()
    print(f"storm with --seed {options.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="sweep-storm-"))
    outcome = storm(
        folder,
        seed=options.seed,
        trials=options.trials,
        seconds=options.seconds,
        limit=options.seconds + 900,
        say=lambda text: print(text, flush=True),
    )
    deeds = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in sorted(outcome.deeds.items()))
    print(f"seed {options.seed}: {outcome.drivers} drivers in {outcome.seconds:.0f} s; {deeds}")
    for name, why in outcome.not_done.items():
        print(f"NOT DONE: {name.replace('_', ' ')}: {why}")
    for failure in outcome.failures:
        print(f"BROKEN: {failure}")
    if outcome.failures:
        print(f"logs: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
        print("nothing was lost")
    return int(bool(outcome.failures or outcome.not_done))


if __name__ == "__main__":
    sys.exit(main())
