# ruff: noqa: E501  (tables of odd values)
"""Specs as they come out of hurried fingers, wrong editors, foreign tools and bad disks; the same ones for a seed."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import yaml

BASE = """\
study: intents
objective:
  task: text-classification
  model: ./model
  data: {train: train.jsonl, text: text, label: label, validation_fraction: 0.2, test_fraction: 0.2, split_seed: 0}
  training:
    epochs: 2
    batch_size: 8
    evaluation_batch_size: 16
    accumulation: 1
    max_length: 16
    keep_layers: null
    freeze: []
    train_rows: null
    precision: fp32
    learning_rate: 1e-3
    dropout: null
    attention_dropout: null
    classifier_dropout: null
    layer_drop: null
    weight_decay: 0.01
    warmup: 0.1
    warmup_steps: null
    schedule: linear
    cooldown: 0.2
    optimizer: adamw
    layer_decay: 1.0
    gradient_clipping: 1.0
    label_smoothing: 0.0
    augment_delete: 0.0
    augment_swap: 0.0
    augment_mask: 0.0
    method: full
    lora_rank: 8
    lora_alpha: 16
    lora_targets: attention
    lora_dropout: 0.0
    quantization: none
    gradient_checkpointing: false
    compile: false
    patience: null
    min_delta: 0.0
    evaluate_every: null
search:
  learning_rate: 1e-5..3e-3 log
  dropout: {low: 0, high: 0.4, step: 0.1}
  batch_size: [4, 8]
  keep_layers: [[0, 1], [0]]
  weight_decay: 1e-4..0.3 log
  seed: 0
  sampler: sobol
  pruner: {name: successive-halving, first_rung: 0.25, reduction_factor: 3}
metric: {name: accuracy, direction: maximize, from: best}
budget: {trials: 4, hours: null}
confirm: {finalists: 3, seeds: 5, splits: same, level: 0.05, racing: true}
resources: {devices_per_trial: 1, cpus_per_trial: 1, gpus_per_trial: 0, workers: 2, address: null}
limits:
  silence_minutes: 30
  attempt_hours: null
  grace_seconds: 30
  memory_gb: null
  disk_gb: null
  free_disk_gb: 0
  log_mb: 20
  preparation_minutes: 240
  evaluation_minutes: 60
on:
  oom: {halvings: 3}
  diverged: {told: bad}
  timeout: {retries: 0}
  failed: {retries: 1, stop_after: 3}
  lost: {retries: 3}
tracking: {uri: null}
storage: mlruns
history: null
keep: 3
"""

OWN = (
    BASE.replace("task: text-classification", "task: package.module:Own")
    .replace("    epochs: 2\n", "    epochs: 2\n    x: 3\n    y: a\n")
    .replace("search:\n", "search:\n  x: 1..2\n  y: [a, b]\n  z: 0..1 step 0.5\n")
)
"""The same for a user's own objective, whose settings have no bounds of their own."""

HUGE = [
    "1e999", "-1e999", "1e308", "-1e308", "1.7976931348623157e308", "5e-324", "1e-400", "9" * 400, "-" + "9" * 400,
    "0." + "0" * 400 + "1", "-0", "-0.0", "+0", "00", "1e1000000000", "1E+9999", "2147483648", "4294967296",
    "9223372036854775807", "9223372036854775808", "-9223372036854775809", "1e18", "1000000000", "1e300", "1e15",
    str(2**62), str(2**53 + 1), "1" + "_0" * 200,
]  # fmt: skip
NUMBERS = [
    "0", "1", "2", "3", "-1", "0.5", "1.5", "0.999999999999", "1e-9", "0x10", "0o17", "017", "0b1", "1:30", "190:20:30",
    "1_000", "1__0", "_1", "1e", "e5", "1,5", "1.2.3", ".5", "5.", "+1", "++1", "1 2", "½", "２", "١", "1e-5", "1e+5",
    ".inf", "-.inf", ".nan", "inf", "NaN", "true", "false", "yes", "No", "on", "off", "y", "null", "~", "", "None",
]  # fmt: skip
UNICODE = [
    "\u202eabc", "\u200f", "\u200b", "\u2028", "\u2029", "\x85", "\xa0", "\ufeff", "\ufffe", "\ufffd", "e\u0301" * 20,
    "ｌearning_rate", "lеarning_rate", "асcuracy", "ａccuracy", "😀", "👩\u200d👩\u200d👧", "\U000e0001", "ﷺ" * 30, "ß",
    '"\\ud800"', '"\\udc00\\ud800"', '"\\0"', '"\\x00"', '"\\U0010ffff"', '"\\UFFFFFFFF"', '"\\x1b[31m"', "\x1b[31m",
    "\x00", "\x07", "\x7f", "Z̷̢̛" * 10, '"\\L"', '"\\N"', '"\\_"', '"\\q"',
]  # fmt: skip
YAMLISH = [
    "&a x", "*a", "&a [*a]", "<<: *a", "{<<: {a: 1}}", "!!python/object:os.system x", "!!python/object/apply:os.getcwd []",
    "!!binary aGk=", "!!int '3'", "!!float 1", "!!set {a}", "!!omap [a: 1]", "!!timestamp 2020-01-01", "!local x", "!<!x> y",
    "!!str", "!!null x", "!!map []", "!!seq {}", "2020-01-01", "2020-01-01T00:00:00Z", "|\n  a", ">\n  a", "|9\n x", '"', "'",
    "[", "]", "{", "}", "[[[", "- a", "-", "? a\n: b", "?", ":", ": :", "a: b: c", "%YAML 9.9", "%TAG ! x", "@x", "`x`",
    "# x", "[1, 2, 3]", "[]", "{}", "[null]", "[[]]", "[1, 1]", "[a, b]", "[1, a]", "[true, 1]", "[0, -0]", "[1, 1.0]",
    "{a: b}", "{low: 1}", "{low: 1, high: 2}", "{low: 2, high: 1}", "{low: 1, high: 1}", "{choices: [1, 2]}",
    "{choices: 1}", "{low: 1, high: 9, step: 3}", "{low: 1, high: 9, log: yes, step: 2}", "{low: -1e308, high: 1e308}",
    "{low: [1], high: {a: 1}}", "[" * 30 + "]" * 30, "[" * 3000, "{a: " * 40 + "1" + "}" * 40, "---", "--- b", "...",
    "[" + ", ".join(map(str, range(3000))) + "]", "[" + "1, " * 20000 + "1]",
]  # fmt: skip
RANGES = [
    "1..2", "2..1", "1..1", "1...2", "1..", "..2", "..", "0..1 log", "-1..1 log", "1e-320..1e-300 log", "1..2 step 0",
    "1..2 step -1", "1..2 step 3", "0..1 step 0.1", "0..1 step 0.3", "1..2 log log", "1..2 log step 1", "0..1e308",
    "-1e308..1e308", "1..1e18", "1..9223372036854775807", "0..9223372036854775807 step 2", "1..9223372036854775807 log",
    "5e-324..1.7e308 log", "0..1 step 5e-324", "0..1e300 step 1e-300", "1e-5..1e-3 lg", "a..b", "1..b", "1e-5 .. 1e-3 log",
    "1-5", "1e400..1e401", "0.1..0.3 step 0.1", "2..16", "2..16 log", "3..64", "1..1000000000", "0..0.9999999999999999",
    "4..1e6 log",
]  # fmt: skip
WORDS = [
    "accuracy", "loss", "macro_f1", "minimize", "maximize", "best", "last", "tpe", "gp", "random", "median", "none",
    "constant", "linear", "cosine", "wsd", "lion", "sgd", "adafactor", "bf16", "fp16", "auto", "nothing", "bad", "embeddings", "[embeddings]", "[embeddings, embeddings]",
    "[0]", "[1]", "[0, 1]", "[1, 0]", "[0, 0]", "[-1]", "[5]", "[0, 9223372036854775807]", "bundled:tweets", "bundled:minilm-l6",
    "bundled:", "models:/", "models:/m@a", "models:/m/1", "models:/../x@y", "owner/name", "owner/name/x", "train.jsonl",
    "package.module:Class", "os:system", "..:x", "text", "label", "absent",
]  # fmt: skip
PATHS = [
    "../../x", "..", ".", "/", "//", "~", "~root", "~nobody/x", "/etc/passwd", "/dev/zero", "/dev/stdin", "/proc/self/mem",
    "./model", "model", "model/config.json", "train.csv", "./train.jsonl", "a/../train.jsonl", "sub/", "fifo.csv", "zero.csv",
    "loop", "loop/x.csv", "a" * 300, "a" * 300 + ".csv", "x/" * 3000, "con", "nul", "C:\\x", "\\\\x\\y", "file:///etc/passwd",
    "http://x", "https://u:p@h/x", "sqlite:///x.db", "sqlite://", "sqlite:///:memory:", "sqlite:////etc/passwd", "postgresql://",
    "postgresql://u:hunter2@h/d", "postgresql://u:p@[::1/d", "mysql://a/b", "s3://bucket/x", "dbfs:/x", "$HOME", "`id`",
    "$(id)", "; rm -rf x", "-rf", "--help", "*", "%s%n", "{0}", "{x.__class__}", "con\\..\\x", "a\tb", "a b", ".hidden", "-x", "x.",
]  # fmt: skip
KEYS = [
    "learning_rate", "lr", "batch_size", "epochs", "steps", "trials", "study", "extra", "space", "seed", "name", "from",
    "source", "retries", "halvings", "told", "storage", "history", "keep", "on", "true", "null", "yes", "1", "1.5", "<<", "",
    "__class__", "__init__", "model_config", "model_fields", "low", "choices", "lеarning_rate", "study\u200b", " study",
    "a.b", "search.seed", "a" * 70, "k" * 5000, "[0]", "😀", "\x1b[1m", "self", "data", "train", "silence_minutes", "oom",
]  # fmt: skip
VALUES = [*HUGE, *NUMBERS, *UNICODE, *YAMLISH, *RANGES, *WORDS, *PATHS]

_BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
)
WHOLE = [
    "", " ", "\n", "\x00", "\ufeff", "---", "---\n---", "null", "[]", "{}", "a", "- a", _BOMB, BASE + _BOMB, BASE + "---\n" + BASE,
    BASE + "...\n" + BASE, "---\n" + BASE, BASE.replace("\n", "\r\n"), BASE.replace("\n", "\r"), BASE.replace("  ", "\t"),
    BASE + BASE, "\ufeff" + BASE, "\ufeff\ufeff" + BASE, "%YAML 1.1\n---\n" + BASE, "%YAML 7.0\n---\n" + BASE, "# c\n" * 9000 + BASE,
    "x: " + "[" * 100_000, "[" * 100_000, "{a: " * 50_000, "- " * 100_000, "\n".join(" " * i + "a:" for i in range(900)),
    "? " * 50_000, "&a " * 50_000, "!" * 50_000, "'" * 100_001, '"' * 100_001, "|" + "\n " * 50_000, ": " * 50_000,
    "k" * 900_000 + ": 1", "k: " + "v" * 900_000, "\n".join(f"k{i}: {i}" for i in range(9000)),
    "\n".join(f"k{i}: {i}" for i in range(20_000)), "a: 1\n" * 9000, "<<: {study: x}\n" + BASE, "search: &s\n <<: *s\n",
    "\\x00" * 1000, "%" * 1000, "\t" * 1000, "#" * 1_000_000, "x" * 1_100_000, "\u202e" * 1000, "😀" * 10_000,
]  # fmt: skip

Tree = dict[str, Any]


def written(value: Any) -> str:
    """A tree as YAML in flow style, every scalar as it is: nothing is quoted that was not."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return str(value)


def sections(tree: Tree) -> str:
    """A whole spec, one section on a line."""
    return "".join(f"{key}: {written(value)}\n" for key, value in tree.items())


def paths_of(tree: Tree, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key's path, sections included."""
    found = []
    for key, value in tree.items():
        found.append((*path, key))
        if isinstance(value, dict):
            found += paths_of(value, (*path, key))
    return found


def _home(tree: Tree, path: tuple[str, ...]) -> Tree:
    for key in path[:-1]:
        tree = tree[key]
    return tree


def _nasty(random: Random) -> str:
    if random.random() < 0.8:
        return random.choice(VALUES)
    return "".join(chr(random.choice((random.randrange(1, 128), random.randrange(1, 0xD800)))) for _ in range(9))


class Mutator:
    """Changes specs at random.

    Args:
        random: Where the chance comes from.
        base: The good spec.
    """

    def __init__(self, random: Random, base: str = BASE) -> None:
        self.random = random
        self.base = base
        tree = yaml.load(base, yaml.BaseLoader)  # texts only, so that every value stays as written
        self.tree: Tree = json.loads(json.dumps(tree))
        self.paths = paths_of(self.tree)
        self._changes: list[Callable[[Tree], None]] = [
            self._value, self._value, self._value, self._delete, self._move, self._swap, self._rename, self._add, self._wrap,
        ]  # fmt: skip

    def in_tree(self) -> str:
        """One to three changes of keys and values."""
        tree = copy.deepcopy(self.tree)
        for _ in range(self.random.choice((1, 1, 1, 2, 3))):
            self.random.choice(self._changes)(tree)
        return sections(tree)

    def in_text(self) -> str:
        """One to three changes of lines and characters."""
        random, lines = self.random, self.base.splitlines(keepends=True)
        for _ in range(random.choice((1, 1, 2, 3))):
            at = random.randrange(len(lines))
            key, colon, rest = lines[at].partition(": ")
            change = random.randrange(10)
            if change == 0:
                lines[at] = f"{key}{colon}{_nasty(random)}\n"
            elif change == 1:
                lines.insert(at, lines[at])
            elif change == 2 and len(lines) > 1:
                del lines[at]
            elif change == 3:
                lines.insert(at, _nasty(random) + "\n")
            elif change == 4:
                lines[at] = " " * random.randrange(9) + lines[at].lstrip()
            elif change == 5:
                lines[at] = "\t" * random.randrange(1, 3) + lines[at].lstrip()
            elif change == 6:
                other = random.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            elif change == 7:
                lines[at] = lines[at].replace("\n", random.choice(("", "\r\n", "\r", "\x85", "\u2028", " \\\n", "#\n")))
            elif change == 8:
                lines[at] = f"{random.choice(KEYS)}{colon}{rest}"
            else:
                place = random.randrange(len(lines[at]) + 1)
                lines[at] = lines[at][:place] + _nasty(random) + lines[at][place:]
        return "".join(lines)

    def in_bytes(self) -> bytes:
        """Flipped, cut, doubled and strange bytes."""
        random, content = self.random, bytearray(self.base.encode())
        for _ in range(random.choice((1, 1, 2, 5, 30))):
            at, change = random.randrange(len(content)), random.randrange(5)
            if change == 0:
                content[at] ^= 1 << random.randrange(8)
            elif change == 1:
                content[at] = random.randrange(256)
            elif change == 2:
                del content[at : at + random.randrange(1, 40)]
            elif change == 3:
                content[at:at] = random.randbytes(random.randrange(1, 6))
            else:
                content[at:at] = content[at : at + random.randrange(1, 200)]
            content = content or bytearray(b"\n")
        return bytes(content)

    def override(self) -> str:
        """An argument of ``--set``."""
        random = self.random
        path = ".".join(random.choice(self.paths))
        change = random.randrange(6)
        if change == 0:
            path = f"{path}.{random.choice(KEYS)}"
        elif change == 1:
            path = random.choice(KEYS)
        elif change == 2:
            path = random.choice(
                ("", ".", "..", "=", "a" * 5000, "." * 50, "a." * 40 + "b", "search..seed", "\x00", "é.ü")
            )
        separator = random.choice(("=", "=", "=", "=", "=", "", "==", ":", " = "))
        return f"{path}{separator}{_nasty(random)}"

    def _value(self, tree: Tree) -> None:
        path = self._path(tree)
        _home(tree, path)[path[-1]] = _nasty(self.random)

    def _delete(self, tree: Tree) -> None:
        path = self._path(tree)
        del _home(tree, path)[path[-1]]

    def _move(self, tree: Tree) -> None:
        path, to = self._path(tree), self._path(tree)
        value = _home(tree, path).pop(path[-1])
        home = tree
        for key in to[:-1]:
            home = home.get(key, home) if isinstance(home.get(key), dict) else home
        home[path[-1]] = value

    def _swap(self, tree: Tree) -> None:
        one, other = self._path(tree), self._path(tree)
        if one[: len(other)] == other or other[: len(one)] == one:
            return  # one lies in the other
        a, b = _home(tree, one), _home(tree, other)
        a[one[-1]], b[other[-1]] = b[other[-1]], a[one[-1]]

    def _rename(self, tree: Tree) -> None:
        path = self._path(tree)
        home = _home(tree, path)
        home[self.random.choice(KEYS)] = home.pop(path[-1])

    def _add(self, tree: Tree) -> None:
        _home(tree, self._path(tree))[self.random.choice(KEYS)] = _nasty(self.random)

    def _wrap(self, tree: Tree) -> None:
        path = self._path(tree)
        home = _home(tree, path)
        home[path[-1]] = self.random.choice(([home[path[-1]]], {"a": home[path[-1]]}, [home[path[-1]]] * 2))

    def _path(self, tree: Tree) -> tuple[str, ...]:
        return self.random.choice(paths_of(tree) or [self._only(tree)])

    @staticmethod
    def _only(tree: Tree) -> tuple[str, ...]:
        tree["study"] = "intents"
        return ("study",)


def truncated(base: str = BASE) -> Iterator[bytes]:
    """The spec cut behind each of its bytes."""
    content = base.encode()
    return (content[:end] for end in range(len(content)))
