"""The spec that ``sweep init`` writes: every key, with what it means beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType

from sweep.spec.rules import RANDOM
from sweep.spec.tasks import sheet_of
from sweep.spec.values import is_plain

_QUOTE = '"'

_TEMPLATE = """\
# A study: search space, objective, metric, budget. Check it with 'sweep check', start it with 'sweep run'.
study: {study}

objective:
  task: {task}# or package.module:Class, an objective of your own
  model: {model}# or a Hub id, a folder, models:/name@alias, study:name, random:bert-tiny
  trust_remote_code: false          # true runs Python code that the model brings along
  data:
{origin}
    validation_fraction: 0.1        # of the training rows; leave it out beside a validation file or folds
    test_fraction: {test_fraction}              # likewise; test rows are opened once, for the winner
    folds: null                     # 5 validates in five folds of the training rows, in the place of a split
    split_seed: 0                   # seed of the splits
    tokenizer: null                 # for random weights: wordpiece or byte-bpe; null is the family's
    vocabulary_size: 8000           # most tokens of such a tokenizer
    license: null                   # of the data, such as cc-by-4.0; for the model card
  training:                         # fixed settings; searched ones: trial 0's, even out of the range
    epochs: 3                       # passes over the training rows; or steps: 500
    batch_size: 16                  # rows per optimizer step, before accumulation; over all devices
    evaluation_batch_size: 64       # rows per batch of an evaluation
    accumulation: 1                 # micro-batches per optimizer step
    max_length: 128                 # tokens; longer rows are cut
    keep_layers: null               # [0, 2, 5] keeps three layers; null keeps all
    freeze: []                      # [embeddings] leaves them untrained
    train_rows: null                # train on so many rows only; null takes all
    precision: auto                 # bf16 where the hardware has it, else fp32; or fp32, bf16, fp16
    learning_rate: {rate:<17}# highest learning rate
    optimizer: adamw                # or lion (a fifth of its rate), adafactor (1e-3), sgd (1e-2)
    layer_decay: 1.0                # 0.9: each layer has nine tenths of the rate of the one above
    dropout: null                   # null leaves the model's own
    attention_dropout: null         # likewise, of the attention alone; goes before dropout
    classifier_dropout: null        # likewise, before the head
    layer_drop: null                # share of the layers that a step leaves out, where the family can
    weight_decay: 0.01              # on weights, not on biases and norms
    warmup: 0.1                     # share of the steps with rising learning rate
    warmup_steps: null              # in its place: so many steps
    schedule: linear                # after the warm-up: linear or cosine to 0, constant, wsd
    cooldown: 0.2                   # last share of the steps, in which wsd falls to 0
    gradient_clipping: 1.0          # largest gradient norm; null does not clip
    label_smoothing: 0.0            # 0.1 trusts labels less
{settings}    augment_delete: 0.0             # share of the tokens left out of training rows, anew in each epoch
    augment_swap: 0.0               # likewise, that change places
    augment_mask: 0.0               # likewise, that become the mask
    method: full                    # or lora, dora: adapters; their rates are about ten times as high
    lora_rank: 8                    # of the adapters
    lora_alpha: 16                  # their weight is lora_alpha / lora_rank
    lora_targets: attention         # linear maps that get one; or all
    lora_dropout: 0.0               # before the adapters
    quantization: none              # nf4 holds the adapters' base in four bits: less memory, slower
    gradient_checkpointing: false   # true takes less memory and more time
    compile: false                  # true compiles the training pass by torch.compile
    patience: null                  # evaluations without a better metric, after which a trial is complete
    min_delta: 0.0                  # what is no more than this better counts as no better
    evaluate_every: null            # epochs (or steps) between evaluations; null is one epoch

search:                             # any training setting: low..high, low..high log, low..high step s, [a, b]
  learning_rate: {rates:<19}# or auto: a range test finds the range when the study begins
  dropout: 0..0.4
  weight_decay: 1e-4..0.3 log
  seed: 0                           # same seed, same study
  sampler: sobol                    # or tpe, gp, random
  pruner:
    name: successive-halving        # stops weak trials early; or median, none; with folds wilcoxon, none
    first_rung: 0.0625              # share of a full run at which trials are first compared
    reduction_factor: 3             # keeps the best third at each rung
    p_threshold: null               # of wilcoxon: stops below it; null is 0.035, or 0.1 up to five folds
    startup_folds: 2                # likewise: folds that no trial is stopped before

metric:
  name: {metric}# or {metrics}
  direction: {direction:<23}# {other}
  from: best                        # a trial counts by its best evaluation; or last, as with folds
budget:
  trials: 12                        # finished trials
  hours: null                       # wall hours, over all sessions; null is unlimited
  gpu_hours: null                   # of all attempts: wall hours times gpus_per_trial; likewise
confirm: null                       # a mapping: train the best and the defaults anew, and judge
#  finalists: 3                     # best trials that enter, beside the defaults
#  seeds: 5                         # fresh seeds for each of them
#  splits: same                     # fresh draws training and validation rows anew for each seed
#  level: 0.05                      # how often a winner may be called better by chance
#  racing: true                     # no further seeds for finalists that are clearly behind
#  soup: none                       # uniform, greedy: the average of the finalists' weights enters, too
resources:
  devices_per_trial: 1              # processes that train a trial together, and share what is below
  strategy: ddp                     # each has the whole model; with fsdp a share, where it does not fit
  cpus_per_trial: 1                 # compute threads of a trial
  gpus_per_trial: 0                 # 0.5 lets two trials share one
  workers: null                     # trials side by side; null is as many as fit
  address: null                     # of a Ray cluster; null starts Ray here
limits:                             # a trial beyond them is ended, a study beyond them pauses
  silence_minutes: 30               # without a sign of life: the trial ends as TIMEOUT, its stacks are kept
  attempt_hours: null               # of one attempt; likewise
  grace_seconds: 30                 # to commit a checkpoint in, when told to leave
  memory_gb: null                   # host memory of a trial
  disk_gb: null                     # of the study's folder; the study pauses before
  free_disk_gb: 0.5                 # to stay free on the disk; likewise
  log_mb: 20                        # of a trial's log
  no_worker_minutes: 60             # without a worker on a cluster: the study pauses
  preparation_minutes: 240          # to load, split and tokenise the data in
  evaluation_minutes: 60            # to evaluate a finished model in; a study ends without it
on:                                 # when an attempt ends badly
  oom: {{halvings: 3}}                # halve the micro-batch, same rows a step; then the trial is OOM
  diverged: {{told: bad}}             # to the sampler; or nothing
  timeout: {{retries: 0}}
  failed: {{retries: 1, stop_after: 3}} # the study stops after so many same tracebacks
  lost: {{retries: 3}}                # without a new checkpoint in between
tracking: {{uri: null}}               # of an MLflow server; null is mlflow.db in the storage
storage: mlruns                     # folder of everything a study writes
history: null                       # postgresql://… to share the study; null is a file in the storage
keep: 3                             # best trials whose models are kept
"""

_BUNDLED_ORIGIN = """\
    source: bundled:tweets          # or a Hub data set; or, in its place, files:
    # train: train.csv              # csv, tsv, jsonl or parquet; a list for several
    # validation: validation.csv
    # test: test.csv
    streaming: false                # true takes rows of a Hub data set as they arrive, without a download
    max_rows: null                  # of a stream: most rows of each split; null takes all
    shuffle_buffer: 0               # likewise: 10000 draws from so many rows; 0 takes the first as they come
"""

_FILE_ORIGIN = """\
    train: {train}# {formats}; a list for several
    # validation: validation.csv    # without one, a share of train{stratified}
    # test: test.csv                # likewise
"""

_RATES = ("5e-5", "1e-5..1e-3 log")
_RANDOM_RATES = ("1e-3", "1e-4..1e-2 log")


def template(
    *,
    study: str = "my-study",
    task: str = "text-classification",
    train: str | None = None,
    columns: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """A commented spec to start from; as it stands, it runs.

    Args:
        study: The study's name; see :func:`study_name_from`.
        task: A task's name.
        train: The data file, or None for the bundled data set, which has the columns text and label.
        columns: Columns by the parts that they play, where they have other names than usual.
    """
    sheet = sheet_of(task)
    origin = _BUNDLED_ORIGIN
    if train is not None:
        others = "".join(f", {ending.removeprefix('.')}" for ending in sheet.extensions)
        formats = f"csv, tsv, jsonl, parquet{others}" if others else "csv, tsv, jsonl or parquet"
        stratified = ", stratified" if "label" in sheet.columns else ""
        origin = _FILE_ORIGIN.format(train=_padded(train, 11), formats=formats, stratified=stratified)
    named = {part: columns.get(part, usual) for part, usual in sheet.columns.items()}
    read = [
        f"    {part}: {_padded(n, 6 + len(part))}# column of the {part}" for part, n in named.items() if n is not None
    ]
    own = [
        f"    {name}: {_padded(json.dumps(setting.default).strip(_QUOTE), 6 + len(name))}# {setting.help}\n"
        for name, setting in sheet.settings.items()
    ]
    metric, *metrics = sheet.metrics
    direction = sheet.metrics[metric]
    against = [name for name, way in sheet.metrics.items() if way != direction]
    other = "minimize" if direction == "maximize" else "maximize"
    rate, rates = _RANDOM_RATES if sheet.model.startswith(RANDOM) else _RATES
    filled = _TEMPLATE.format(
        study=_scalar(study),
        task=_padded(task, 8),
        model=f"{sheet.model:<27}",
        origin=origin + "\n".join(read),
        test_fraction="0.0" if train is None else "0.1",
        settings="".join(own),
        rate=rate,
        rates=rates,
        metric=_padded(metric, 8),
        metrics=", ".join(metrics),
        direction=direction,
        other=f"{other} for {' and '.join(against)}" if against else "whichever way is better",
    )
    idle = re.compile(rf"    (?:{'|'.join(sheet.unused) or '$'}): ")
    return "".join(line for line in filled.splitlines(keepends=True) if not idle.match(line))


def study_name_from(text: str) -> str:
    """A valid study name that resembles ``text``, such as a file's name."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:64]
    return name or "my-study"


def _padded(value: str, column: int) -> str:
    return f"{_scalar(value):<{max(36 - column, 0)}}".ljust(len(_scalar(value)) + 1)


def _scalar(value: str) -> str:
    """``value`` as YAML text; quoted unless it is plain beyond doubt."""
    beyond_doubt = re.fullmatch(r"[A-Za-z0-9_/][A-Za-z0-9_./-]*", value) is not None and is_plain(value)
    return value if beyond_doubt else json.dumps(value, ensure_ascii=False)
