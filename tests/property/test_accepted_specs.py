"""What the spec lets through, however odd, is prepared and checked with a real model, or refused in one line."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from objectives.tasks.text_classification import TextClassification
from objectives.testing import tiny_file, tiny_model, tiny_rows
from sweep import objective_jobs
from sweep.domain import Assignment, trial_seed
from sweep.errors import InvalidSpecError, UserError
from sweep.spec import StudySpec, parse_spec

from .spec_mutants import BASE

CHECKED = 150
CHECKED_SLOW = 3000
SECONDS_EACH = 20.0  # a busy machine; quiet it is a tenth of a second

WHOLE = ["1", "2", "3", "7", "64", "1000", "1e9", "4294967295", str(2**53), str(2**62), str(2**63 - 1)]
REAL = [
    "1e-320",
    "1e-300",
    "1e-9",
    "0.001",
    "0.1",
    "0.5",
    "0.9999999999999999",
    "1",
    "3",
    "1e9",
    "1e18",
    "1e300",
    "1.7e308",
]
T, D = "objective.training", "objective.data"
KEYS = {
    **{f"{T}.{key}": WHOLE for key in ("batch_size", "evaluation_batch_size", "accumulation", "train_rows")},
    f"{T}.patience": WHOLE,
    f"{T}.method": ["lora", "dora"],
    f"{T}.lora_rank": ["1", "3", "64"],
    f"{T}.lora_alpha": REAL,
    f"{T}.lora_targets": ["all"],
    f"{T}.lora_dropout": REAL,
    f"{T}.quantization": ["nf4"],
    f"{T}.gradient_checkpointing": ["true"],
    **{f"{T}.{key}": REAL for key in ("epochs", "learning_rate", "weight_decay", "warmup", "dropout")},
    **{f"{T}.{key}": REAL for key in ("gradient_clipping", "label_smoothing", "evaluate_every")},
    **{f"{T}.{key}": REAL for key in ("layer_decay", "cooldown", "min_delta", "augment_delete", "augment_swap")},
    **{f"{T}.{key}": REAL for key in ("attention_dropout", "classifier_dropout")},
    f"{T}.max_length": ["3", "4", "16", "64", "65", "1e9"],
    f"{T}.keep_layers": ["[0]", "[1]", "[0, 1]", "[2]", "[0, 9223372036854775807]"],
    f"{T}.precision": ["auto", "bf16", "fp32"],
    f"{T}.schedule": ["constant", "cosine", "wsd"],
    f"{T}.warmup_steps": ["0", *WHOLE],
    f"{T}.optimizer": ["adafactor", "sgd", "lion"],
    f"{T}.freeze": ["[embeddings]"],
    f"{D}.validation_fraction": REAL,
    f"{D}.test_fraction": REAL,
    f"{D}.split_seed": WHOLE,
    "search.seed": WHOLE,
    "search.pruner.first_rung": REAL,
    "search.pruner.reduction_factor": WHOLE,
    "search.pruner": ["none", "median"],
    "search.sampler": ["tpe", "gp", "random"],
    "search.max_length": ["3..64", "3..65", "[4, 8]"],
    "search.train_rows": ["2..9000000000000", "[2, 3]"],
    "search.epochs": ["1e-300..1e300 log", "1..2"],
    "search.dropout": ["0..0.9999999999999999", "[0, null]"],
    "search.freeze": ["[[], [embeddings]]"],
    "metric": ["macro_f1", "mcc", "loss"],
    "resources.cpus_per_trial": REAL,
    "budget.trials": WHOLE,
    "keep": WHOLE,
}  # fmt: skip


def accepted(folder: Path, random: Random) -> Iterator[tuple[list[str], StudySpec]]:
    """Specs with one to three odd values that the spec's rules let through."""
    while True:
        overrides = [f"metric.direction={'minimize' if random.random() < 0.1 else 'maximize'}"]
        for key in random.sample(sorted(KEYS), random.choice((1, 2, 3))):
            overrides.append(f"{key}={random.choice(KEYS[key])}")
        if random.random() < 0.2:
            overrides += [f"{T}.epochs=null", f"{T}.steps={random.choice(WHOLE)}"]
        try:
            yield overrides, parse_spec(BASE, place="study.yaml", folder=folder, overrides=overrides)
        except InvalidSpecError:
            continue


def check(spec: StudySpec) -> None:
    """What `sweep check` does, without its processes."""
    objective = TextClassification()
    settings = json.loads(json.dumps(spec.objective_settings(), allow_nan=False))
    data = {**objective.prepare(settings, spec.layout.prepared), "model": spec.objective.model}
    seed = trial_seed(spec.search.seed, 0)
    assignment = Assignment(trial_number=0, attempt=1, hyperparameters=spec.defaults(), seed=seed)
    found = objective.check(objective_jobs.request_maker(spec, data)(assignment))
    json.dumps({**data, **found}, allow_nan=False)


def check_many(folder: Path, count: int, seed: int) -> None:
    tiny_model(folder / "model")
    tiny_file(folder / "train.jsonl", tiny_rows(60))
    ends: Counter[str] = Counter()
    specs = accepted(folder, Random(seed))
    for _ in range(count):
        overrides, spec = next(specs)
        began, told = time.perf_counter(), ""
        try:
            check(spec)
            ends["works"] += 1
        except UserError as error:
            ends["refused"] += 1
            told = str(error)
        except Exception as error:
            raise AssertionError(f"{overrides} ended in {type(error).__name__}: {error}") from error
        assert not told or (told.isprintable() and ". " in told), (overrides, told)
        assert time.perf_counter() - began < SECONDS_EACH, overrides
    assert ends["works"] >= count / 3, ends
    assert ends["refused"] >= count / 50, ends


def test_hundreds_of_odd_specs_that_are_accepted_pass_a_real_check_or_are_refused(tmp_path: Path) -> None:
    check_many(tmp_path, CHECKED, 3)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_thousands_of_odd_specs_that_are_accepted_pass_a_real_check_or_are_refused(tmp_path: Path) -> None:
    check_many(tmp_path, CHECKED_SLOW, 4)
