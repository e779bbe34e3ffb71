"""Rules for single values: each is stated once, and holds for fixed values and for searched ones alike.

Every function takes a typed value and returns it, or raises :class:`~sweep.spec.problems.BrokenRule`.
"""

from __future__ import annotations

import re

from sweep.redaction import redacted_values
from sweep.spec.problems import BrokenRule, nearest
from sweep.spec.references import has_reference
from sweep.spec.space import Choices, Distribution

BUNDLED_MODELS = ("bundled:minilm-l6",)
BUNDLED_DATA = ("bundled:tweets",)
BUNDLED_COLUMNS = ("text", "label")
RANDOM = "random:"
"""Begins the reference of a model with random weights: a named shape or a configuration file follows."""
DATA_EXTENSIONS = (".csv", ".tsv", ".jsonl", ".json", ".parquet")

_STUDY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CONFIGURATION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,95}")
_HUB_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_REGISTERED = re.compile(r"models:/(?:[^/@:\s]+(?:@[^/@:\s]+|/[0-9]+)|m-[0-9a-fA-F]+)")
_SHAPE = re.compile(r"[a-z0-9]+-[a-z]+|/.+")
_OWN_TASK = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)
_DATABASE = re.compile(r"(?:postgresql|mysql)(?:\+\w+)?://[^\s/]+/\S+", re.ASCII)
_SQLITE = re.compile(r"sqlite:///(?!:memory:)[^\s?].*")


def study_name(value: str) -> str:
    """A study's name: a folder's name everywhere, and no way out of one."""
    if not _STUDY.fullmatch(value):
        rule = "is not a study name: 1 to 64 letters, digits, '.', '_' or '-', the first a letter or digit"
        raise BrokenRule(rule, "Rename it")
    return value


def layers(value: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Indices of layers: at least one, none below 0, ascending, none twice."""
    if value is None:
        return value
    if not value:
        raise BrokenRule("keeps no layer", "Name at least one, or leave the key out to keep all")
    if min(value) < 0:
        raise BrokenRule("holds an index below 0", "Count layers from 0")
    if list(value) != sorted(set(value)):
        raise BrokenRule("is not ascending without doubles", f"Write {sorted(set(value))}")
    return value


def distinct(value: tuple[str, ...]) -> tuple[str, ...]:
    """A list that names nothing twice."""
    if len(set(value)) != len(value):
        raise BrokenRule("names something twice", f"Write [{', '.join(dict.fromkeys(value))}]")
    return value


def gpu_share(value: float) -> float:
    """GPUs of a trial: a share of one, or whole ones."""
    if value > 1 and value != int(value):
        raise BrokenRule("is above 1 and not whole", "Use a share of one GPU, or whole ones")
    return value


def known_task(value: str, tasks: tuple[str, ...]) -> str:
    """A task that exists, or ``package.module:Class``."""
    if value in tasks or is_own(value):
        return value
    if ":" in value:
        raise BrokenRule("is not of the form package.module:Class", "Name the class of your objective")
    meant = nearest(value, tasks)
    remedy = f"Did you mean {meant}?" if meant else f"Use {', '.join(tasks)}, or package.module:Class"
    raise BrokenRule("is not a known task", remedy)


def is_own(task: str) -> bool:
    """Whether ``task`` names a user's own objective."""
    return _OWN_TASK.fullmatch(task) is not None


def is_hub_id(value: str) -> bool:
    """Whether ``value`` could be ``name`` or ``owner/name`` on the Hub."""
    parts = value.split("/")
    return (
        len(value) <= 96
        and len(parts) <= 2
        and ".." not in value
        and "--" not in value
        and all(_HUB_NAME.fullmatch(part) for part in parts)
    )


def model_reference(value: str) -> str:
    """A bundled or registered model, a study's winner, random weights or a Hub id; paths are resolved before."""
    if value.startswith("study:"):
        if not _STUDY.fullmatch(value.removeprefix("study:")):
            raise BrokenRule("names no study", "Write study: and the name of a study in the same storage")
    elif value.startswith(RANDOM):
        if not _SHAPE.fullmatch(value.removeprefix(RANDOM)):
            raise BrokenRule("is no shape of a model", "Write random:bert-tiny, or random: and a config.json's path")
    elif value.startswith("bundled:"):
        return _bundled(value, BUNDLED_MODELS, "model")
    elif value.startswith("models:"):
        if not _REGISTERED.fullmatch(value):
            raise BrokenRule("is not a registered model", "Write models:/name@alias or models:/name/1")
    elif not value.startswith("/") and not is_hub_id(value):
        rule = "is neither a Hub id nor an existing folder"
        raise BrokenRule(rule, "Write owner/name, the path of a folder, or bundled:minilm-l6")
    return value


def data_source(value: str | None) -> str | None:
    """A bundled data set or a Hub id, with ``:configuration`` where the data set has several."""
    if value is None:
        return value
    if value.startswith("bundled:"):
        return _bundled(value, BUNDLED_DATA, "data set")
    if value.lower().endswith(DATA_EXTENSIONS):
        raise BrokenRule("is a file, not a data set's id", f"Write data: {{train: {value}}}")
    name, colon, configuration = value.partition(":")
    if not is_hub_id(name) or (colon and not _CONFIGURATION.fullmatch(configuration)):
        remedy = "Write owner/name, owner/name:configuration, bundled:tweets, or name files under train"
        raise BrokenRule("is not a data set's id", remedy)
    return value


def _bundled(value: str, known: tuple[str, ...], what: str) -> str:
    if value not in known:
        meant = nearest(value, known)
        raise BrokenRule(f"is not a bundled {what}", f"Did you mean {meant}?" if meant else f"Use {known[0]}")
    return value


def tracking_uri(value: str | None) -> str | None:
    """A store that MLflow can write: a database or a server; or the name of a variable that nobody needs now."""
    if value is None or has_reference(value) or _SQLITE.fullmatch(value) or _DATABASE.fullmatch(value):
        return value
    if re.fullmatch(r"https?://[^\s/]+\S*", value):
        return value
    if value.startswith("file:") or "://" not in value:
        rule = "is a file store, which MLflow 3.17 refuses"
        raise BrokenRule(rule, "Use sqlite:///mlflow.db or http://host:port, or leave the key out")
    raise BrokenRule("is not a tracking URI", "Use sqlite:///mlflow.db, http://host:port or postgresql://…")


def history_url(value: str | None) -> str | None:
    """A database that Optuna can share; or the name of a variable that nobody needs now."""
    if value is None or has_reference(value) or _DATABASE.fullmatch(value) or _SQLITE.fullmatch(value):
        return value
    remedy = "Use postgresql://user@host/database, or leave the key out for a file in the storage"
    raise BrokenRule("is not a postgresql://, mysql:// or sqlite:/// URL", remedy)


def identifier(value: str) -> str:
    """The name of a setting of a user's own objective."""
    if not value.isidentifier() or not value.isascii() or value == "extra":
        raise BrokenRule("is not a setting's name", "Use letters, digits and '_', the first no digit")
    return value


def no_secrets(name: str, distribution: Distribution) -> Distribution:
    """A distribution none of whose choices is a secret: what is drawn is what a study records."""
    for value in distribution.values if isinstance(distribution, Choices) else ():
        if isinstance(value, str) and redacted_values({name: value})[name] != value:
            remedy = f"Set it under objective.training, as {name}: ${{NAME}}"
            raise BrokenRule("looks like a secret, and what is drawn is recorded", remedy)
    return distribution
