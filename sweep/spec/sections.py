"""The sections of a spec as frozen, strictly typed values; each field's bounds stand here, once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from sweep.domain import HyperparameterValue
from sweep.spec import rules
from sweep.spec.effects import (
    WITH_ADAPTERS,
    WITH_FOLDS,
    WITH_HALVING,
    WITH_HUB_DATA,
    WITH_PATIENCE,
    WITH_RANDOM_WEIGHTS,
    WITH_RUNGS,
    WITH_STREAMING,
    WITH_WSD,
    WITHOUT_ADAPTERS,
    WITHOUT_WARMUP_STEPS,
)
from sweep.spec.problems import BrokenRule
from sweep.spec.space import Distribution

_Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Part(BaseModel):
    """A section of a spec: frozen, strict, without unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        populate_by_name=True,
        defer_build=True,  # `sweep --help` need not wait for it
    )


class DataSpec(Part):
    """Where the rows come from and how they are split.

    Attributes:
        source: ``bundled:tweets`` or a Hub data set's ``id`` or ``id:configuration``; excludes the file keys.
        streaming: Whether rows of the Hub are taken as they arrive, once, in the place of a download.
        max_rows: Most rows that are taken of each split of such a stream; None takes all.
        shuffle_buffer: Rows of a stream that wait for one of them to be drawn, by ``split_seed``, files in any order;
            0 takes the first rows as they come.
        train: File or files (csv, tsv, jsonl, json, parquet), absolute once loaded.
        validation: Likewise; without it, ``validation_fraction`` of train is split off, stratified by class.
        test: Likewise; without it, ``test_fraction`` of train is split off first, likewise.
        folds: Into how many the training rows are parted, in the place of validation rows: a trial trains a model for
            each, on the other rows, and its score is the mean; None validates on one split.
        split_seed: Seed of the splits.
        tokenizer: How one is trained from the training rows, for a model that begins at random; None is as the model's
            family has it.
        vocabulary_size: Most tokens of such a tokenizer.
        license: Under which the rows may be used; for the model card.
        columns: Columns by the parts they play for the task, such as ``text`` and ``label``; beside the others in
            YAML.
    """

    source: Annotated[str | None, AfterValidator(rules.data_source)] = None
    streaming: Annotated[bool, WITH_HUB_DATA] = False
    max_rows: Annotated[int | None, WITH_STREAMING] = Field(default=None, ge=1)
    shuffle_buffer: Annotated[int, WITH_STREAMING] = Field(default=0, ge=0, le=10_000_000)
    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    validation_fraction: float = Field(default=0.1, gt=0, lt=1)
    test_fraction: float = Field(default=0.0, ge=0, lt=1)
    folds: int | None = Field(default=None, ge=2, le=100)
    split_seed: _Seed = 0
    tokenizer: Annotated[Literal["wordpiece", "byte-bpe"] | None, WITH_RANDOM_WEIGHTS] = None
    vocabulary_size: Annotated[int, WITH_RANDOM_WEIGHTS] = Field(default=8000, ge=100, le=1_000_000)
    license: str | None = None
    columns: Mapping[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.source is not None and (self.train or self.validation or self.test):
            raise BrokenRule("goes with no files", "Keep source or the files, not both", "source")
        return self


class TrainingSpec(Part):
    """Training settings; each may be searched, then these are trial 0's, as written, in the range or not.

    Attributes:
        epochs: Passes over the training rows; excludes ``steps``.
        steps: Optimizer steps.
        batch_size: Rows per optimizer step, before ``accumulation``; over all devices of a trial.
        accumulation: Micro-batches per optimizer step.
        max_length: Tokens; longer rows are truncated.
        keep_layers: Encoder layers to keep, by index; None keeps all.
        freeze: Parts left untrained: ``embeddings``.
        train_rows: Rows to train on, drawn by the split seed, stratified; None takes all.
        precision: ``auto`` is bf16 where CPU or GPU has it in hardware, else fp32.
        dropout: Set by the model's own config fields; None leaves the model's values.
        attention_dropout: Likewise, of the attention alone; goes before ``dropout``.
        classifier_dropout: Likewise, before the classification head.
        layer_drop: Share of the layers that a step leaves out, where the family can.
        optimizer: Each has rates of its own: ``adafactor``'s are shares of each weight's size (1e-3), ``lion``'s a
            third to a tenth of ``adamw``'s, ``sgd``'s (momentum 0.9) a hundred times as large.
        layer_decay: Share of the learning rate that each layer has of the one above it; 1 gives all the same.
        warmup: Share of the steps with rising learning rate, in [0, 1).
        warmup_steps: Steps with rising learning rate, in the place of ``warmup``.
        schedule: After the warm-up: ``linear`` and ``cosine`` fall to 0, ``constant`` stays, ``wsd`` stays and then
            falls to 0.
        cooldown: Share of the steps in which ``wsd`` falls.
        gradient_clipping: Largest gradient norm; None does not clip.
        augment_delete: Share of the tokens that are left out of a training row, anew in each epoch.
        augment_swap: Likewise, that change places with another one.
        augment_mask: Likewise, that become the tokenizer's mask.
        method: ``full``, or adapters by peft, with a learning rate about ten times as high: ``lora`` or ``dora``.
        lora_rank: Rank of the adapters.
        lora_alpha: Their weight is ``lora_alpha / lora_rank``.
        lora_targets: Linear maps of the layers that get one: those of the ``attention``, or ``all``.
        lora_dropout: Before the adapters.
        quantization: How the adapters' base is held: ``nf4`` keeps its linear maps in four bits (QLoRA).
        gradient_checkpointing: Less memory for more time.
        compile: Whether ``torch.compile`` compiles the training pass; needs a C++ compiler on the CPU.
        patience: Evaluations without a better metric after which a trial is complete; None trains to the end.
        min_delta: What is no more than this better counts as no better.
        evaluate_every: Fidelity between evaluations besides the rungs; None is one epoch (or 1/4 of ``steps``).
        extra: Settings of a task, or of a user's own objective; beside the others in YAML.
    """

    epochs: float | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=16, ge=1)
    evaluation_batch_size: int = Field(default=64, ge=1)
    accumulation: int = Field(default=1, ge=1)
    max_length: int = Field(default=128, ge=3)
    keep_layers: Annotated[tuple[int, ...] | None, AfterValidator(rules.layers)] = None
    freeze: Annotated[tuple[Literal["embeddings"], ...], AfterValidator(rules.distinct), WITHOUT_ADAPTERS] = ()
    train_rows: int | None = Field(default=None, ge=2)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    learning_rate: float = Field(default=5e-5, gt=0)
    dropout: float | None = Field(default=None, ge=0, lt=1)
    attention_dropout: float | None = Field(default=None, ge=0, lt=1)
    classifier_dropout: float | None = Field(default=None, ge=0, lt=1)
    layer_drop: float | None = Field(default=None, ge=0, lt=1)
    weight_decay: float = Field(default=0.01, ge=0)
    optimizer: Literal["adamw", "adafactor", "sgd", "lion"] = "adamw"
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    warmup: Annotated[float, WITHOUT_WARMUP_STEPS] = Field(default=0.1, ge=0, lt=1)
    warmup_steps: int | None = Field(default=None, ge=0)
    schedule: Literal["linear", "cosine", "constant", "wsd"] = "linear"
    cooldown: Annotated[float, WITH_WSD] = Field(default=0.2, gt=0, le=1)
    gradient_clipping: float | None = Field(default=1.0, gt=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    augment_delete: float = Field(default=0.0, ge=0, lt=1)
    augment_swap: float = Field(default=0.0, ge=0, lt=1)
    augment_mask: float = Field(default=0.0, ge=0, lt=1)
    method: Literal["full", "lora", "dora"] = "full"
    lora_rank: Annotated[int, WITH_ADAPTERS] = Field(default=8, ge=1)
    lora_alpha: Annotated[float, WITH_ADAPTERS] = Field(default=16.0, gt=0)
    lora_targets: Annotated[Literal["attention", "all"], WITH_ADAPTERS] = "attention"
    lora_dropout: Annotated[float, WITH_ADAPTERS] = Field(default=0.0, ge=0, lt=1)
    quantization: Annotated[Literal["none", "nf4"], WITH_ADAPTERS] = "none"
    gradient_checkpointing: bool = False
    compile: bool = False
    patience: int | None = Field(default=None, ge=1)
    min_delta: Annotated[float, WITH_PATIENCE] = Field(default=0.0, ge=0)
    evaluate_every: float | None = Field(default=None, gt=0)
    extra: Mapping[str, HyperparameterValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.epochs is not None and self.steps is not None:
            raise BrokenRule("goes with no steps", "Keep epochs or steps, not both", "epochs")
        return self


class ObjectiveSpec(Part):
    """What is trained.

    Attributes:
        task: A task's name, or ``package.module:Class`` of a user's own objective.
        model: Hub id, local folder, ``bundled:minilm-l6`` or ``models:/name@alias``; ``study:name``, the winner of
            another study in the same storage; or ``random:`` with a named shape or the path of a ``config.json``.
        trust_remote_code: Whether Python code that the model brings along may run.
    """

    task: str = "text-classification"
    model: str
    trust_remote_code: bool = False
    data: DataSpec
    training: TrainingSpec = Field(default_factory=TrainingSpec)


class SamplerSpec(Part):
    """How hyperparameters are drawn.

    Attributes:
        name: ``sobol`` is scrambled Sobol, indexed by trial number.
    """

    name: Literal["sobol", "tpe", "random", "gp"] = "sobol"


class PrunerSpec(Part):
    """When a trial is stopped early.

    Attributes:
        first_rung: Share of the full run at which trials are first compared.
        reduction_factor: eta in Li et al., arXiv:1810.05934.
        p_threshold: With ``data.folds``: p-value of Wilcoxon's signed-rank test against the best trial, fold by fold,
            below which a trial is stopped; None is 0.035, or 0.1 for up to five folds, which cannot say so much.
        startup_folds: Likewise: folds that no trial is stopped before.
    """

    name: Literal["successive-halving", "median", "wilcoxon", "none"] = "successive-halving"
    first_rung: Annotated[float, WITH_RUNGS] = Field(default=0.0625, ge=0.001, lt=1)
    reduction_factor: Annotated[int, WITH_HALVING] = Field(default=3, ge=2)
    p_threshold: Annotated[float | None, WITH_FOLDS] = Field(default=None, gt=0, lt=1)
    startup_folds: Annotated[int, WITH_FOLDS] = Field(default=2, ge=2)


class SearchSpec(Part):
    """The search space and the way through it.

    Attributes:
        finds_rate: Whether the range of ``learning_rate`` is still to be found by a range test (``auto``); until then
            it is the widest.
    """

    space: Mapping[str, Distribution] = Field(default_factory=dict)
    finds_rate: bool = False
    seed: _Seed = 0
    sampler: SamplerSpec = Field(default_factory=SamplerSpec)
    pruner: PrunerSpec = Field(default_factory=PrunerSpec)


class MetricSpec(Part):
    """What is optimised; YAML key ``from`` is ``source`` here."""

    name: str = "accuracy"
    direction: Literal["minimize", "maximize"] = "maximize"
    source: Literal["best", "last"] = Field(default="best", validation_alias="from", serialization_alias="from")


class BudgetSpec(Part):
    """How much may be spent.

    Attributes:
        trials: Finished trials, exactly.
        hours: Wall hours of the study's drivers, over all sessions; None is unlimited.
        gpu_hours: Wall hours of all attempts times ``resources.gpus_per_trial``; likewise.
    """

    trials: int = Field(default=20, ge=1)
    hours: float | None = Field(default=None, gt=0, le=1_000_000)
    gpu_hours: float | None = Field(default=None, gt=0, le=1_000_000_000)


class ResourcesSpec(Part):
    """What a trial gets, all of it on one node.

    Attributes:
        devices_per_trial: Processes that train a trial together (``torch.distributed``), each with its equal part of
            the trial's CPUs and a GPU of its own, if the trial has GPUs.
        strategy: How they do: with ``ddp`` each has the whole model, with ``fsdp`` a share of it, for models that do
            not fit onto one device.
        cpus_per_trial: Logical CPUs; compute threads are its floor, at least 1.
        gpus_per_trial: GPUs; fractions share one.
        workers: Trials side by side; None is as many as fit.
        address: Ray cluster to join; None starts Ray here.
    """

    devices_per_trial: int = Field(default=1, ge=1, le=1000)
    strategy: Literal["ddp", "fsdp"] = "ddp"
    cpus_per_trial: float = Field(default=1.0, gt=0, le=1000)
    gpus_per_trial: Annotated[float, Field(ge=0, le=1000), AfterValidator(rules.gpu_share)] = 0.0
    workers: int | None = Field(default=None, ge=1, le=1000)
    address: str | None = None


class LimitsSpec(Part):
    """What an attempt and the study may take before somebody steps in.

    Attributes:
        silence_minutes: Longest time without a sign of life from a trial; then it ends as TIMEOUT.
        attempt_hours: Longest wall time of one attempt; likewise.
        grace_seconds: What a trial has to commit a checkpoint in when it is told to leave, before it is killed.
        memory_gb: Resident host memory of a trial, in 10⁹ bytes; above it the attempt ends as OOM.
        disk_gb: Quota of the study's own folder, in 10⁹ bytes; the study pauses before it is exceeded.
        free_disk_gb: What must stay free on the storage's disk, in 10⁹ bytes; likewise.
        log_mb: Largest log of a trial, in 10⁶ bytes; its middle is cut out.
        no_worker_minutes: Longest time without a worker, on a cluster that was joined; then the study pauses.
        preparation_minutes: Longest time in which the data is prepared; then the study cannot begin.
        evaluation_minutes: Longest time of an evaluation of a finished model, on the test split or of the first
            batch; a study goes without it then.
    """

    silence_minutes: float | None = Field(default=30.0, gt=0, le=1_000_000)
    attempt_hours: float | None = Field(default=None, gt=0, le=1_000_000)
    grace_seconds: float = Field(default=30.0, ge=0, le=3600)
    memory_gb: float | None = Field(default=None, gt=0, le=1_000_000_000)
    disk_gb: float | None = Field(default=None, gt=0, le=1_000_000_000)
    free_disk_gb: float = Field(default=0.5, ge=0, le=1_000_000_000)
    log_mb: float = Field(default=20.0, gt=0, le=1_000_000)
    no_worker_minutes: float = Field(default=60.0, gt=0, le=1_000_000)
    preparation_minutes: float = Field(default=240.0, gt=0, le=1_000_000)
    evaluation_minutes: float = Field(default=60.0, gt=0, le=1_000_000)


class OomPolicy(Part):
    """Out of memory, on the host or on the device.

    Attributes:
        halvings: Times the micro-batch is halved, with the same rows in each optimizer step, before the trial ends
            as OOM.
    """

    halvings: int = Field(default=3, ge=0, le=16)


class DivergedPolicy(Part):
    """Loss or metric became NaN or infinite: the trial ends as DIVERGED and is never ranked.

    Attributes:
        told: What the sampler learns: ``bad`` is worse than every other trial, ``nothing`` leaves it out.
    """

    told: Literal["bad", "nothing"] = "bad"


class TimeoutPolicy(Part):
    """Silent or running for too long.

    Attributes:
        retries: Further attempts, from the newest checkpoint, before the trial ends as TIMEOUT.
    """

    retries: int = Field(default=0, ge=0, le=100)


class FailedPolicy(Part):
    """The objective raised.

    Attributes:
        retries: Further attempts, from the newest checkpoint, before the trial ends as FAILED.
        stop_after: Trials in a row that end with the same traceback before the study stops.
    """

    retries: int = Field(default=1, ge=0, le=100)
    stop_after: int = Field(default=3, ge=1)


class LostPolicy(Part):
    """The process, worker or node died.

    Attributes:
        retries: Further attempts, from the newest checkpoint, while none brings a new one; then it ends as FAILED.
    """

    retries: int = Field(default=3, ge=0, le=1000)


class OnSpec(Part):
    """What follows when an attempt ends badly."""

    oom: OomPolicy = Field(default_factory=OomPolicy)
    diverged: DivergedPolicy = Field(default_factory=DivergedPolicy)
    timeout: TimeoutPolicy = Field(default_factory=TimeoutPolicy)
    failed: FailedPolicy = Field(default_factory=FailedPolicy)
    lost: LostPolicy = Field(default_factory=LostPolicy)


class ConfirmSpec(Part):
    """The final: the best trials and trial 0 are trained anew on fresh seeds, and the winner is judged by those.

    Attributes:
        finalists: Best trials of the search that enter, besides trial 0.
        seeds: Fresh seeds, the same for each finalist.
        splits: ``fresh`` draws training and validation rows anew for each seed as well; the test split stays.
        level: Bound on the probability that a winner is called significant when no finalist beats the defaults.
        racing: Whether finalists that are clearly behind get no further seeds.
        soup: Whether the average of the finalists' weights enters, too: of all, or of those chosen by ``greedy``.
    """

    finalists: int = Field(default=3, ge=1, le=100)
    seeds: int = Field(default=5, ge=2, le=1000)
    splits: Literal["same", "fresh"] = "same"
    level: float = Field(default=0.05, gt=0, lt=1)
    racing: bool = True
    soup: Literal["none", "uniform", "greedy"] = "none"


class TrackingSpec(Part):
    """Where the record goes.

    Attributes:
        uri: MLflow tracking URI; None is ``sqlite:///<storage>/mlflow.db``.
    """

    uri: Annotated[str | None, AfterValidator(rules.tracking_uri)] = None
