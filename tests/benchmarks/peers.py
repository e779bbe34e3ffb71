"""The same sweep by Sweep and by the scripts that users write today, side by side in one run.

The work: all-MiniLM-L6 cut to two layers, 1,000 training and 400 validation sentences of SST-2, three epochs at batch
16, the same search space, no early stopping. Each system keeps its own way of doing it. Needs the folder of the peers'
scripts and data, and a Python that can run them (torch, transformers, accelerate, optuna, mlflow, ray[tune]).

    python tests/benchmarks/peers.py --peers ../shared/peers --python PYTHON --trials 4
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPEC = """\
study: peer
objective:
  task: text-classification
  model: {model}
  data: {{train: train.tsv, validation: dev.tsv, text: text, label: label}}
  training: {{epochs: 3, batch_size: 16, max_length: 64, keep_layers: [0, 1]}}
search:
  learning_rate: 1e-6..1e-3 log
  dropout: 0..0.5
  weight_decay: 1e-6..0.3 log
  pruner: none
metric: accuracy
budget: {{trials: {trials}}}
storage: mlruns
"""
ROWS = {"train": 1000, "dev": 400}


def write_study(folder: Path, data: Path, trials: int) -> None:
    for name, count in ROWS.items():
        lines = (data / f"{name}.tsv").read_text(encoding="utf-8").splitlines()[:count]
        (folder / f"{name}.tsv").write_text("\n".join(["text\tlabel", *lines]) + "\n", encoding="utf-8")
    (folder / "study.yaml").write_text(SPEC.format(model="bundled:minilm-l6", trials=trials), encoding="utf-8")


def timed(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    began = time.perf_counter()
    result = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if result.returncode:
        sys.exit(f"{command}: exit {result.returncode}\n{result.stdout[-2000:]}\n{result.stderr[-4000:]}")
    print(f"    {[line for line in result.stdout.splitlines() if 'BEST' in line or 'best ' in line][:1]}")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--python", required=True, help="Python that can run the peers' scripts")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--only", nargs="*", default=["optuna_procs.py", "ray_tune.py", "hf_hpo.py"])
    arguments = parser.parse_args()
    peers = arguments.peers.absolute()
    environment = {"PEER_TRIALS": str(arguments.trials), "PEER_NO_PRUNING": "1", "HF_HUB_OFFLINE": "1"}
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        ours = Path(scratch) / "sweep"
        ours.mkdir()
        write_study(ours, peers.parent / "data" / "sst2", arguments.trials)
        seconds["sweep"] = timed([sys.executable, "-m", "sweep.cli.main", "run", "study.yaml"], ours, {})
        print(f"sweep: {seconds['sweep']:.1f} s")
        for script in arguments.only:
            folder = Path(scratch) / script.removesuffix(".py")
            folder.mkdir()
            seconds[script] = timed([arguments.python, str(peers / script), str(folder)], folder, environment)
            print(f"{script}: {seconds[script]:.1f} s, {seconds[script] / seconds['sweep']:.2f} x sweep", flush=True)


if __name__ == "__main__":
    main()
