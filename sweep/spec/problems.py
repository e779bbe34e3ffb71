"""What can be wrong with a spec: where it stands, which rule it breaks, what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from sweep.errors import InvalidSpecError
from sweep.redaction import redacted

_LONGEST_SHOWN = 60
_LONGEST_MESSAGE = 400

# What people write who come from other tools.
_ALIASES = {
    "lr": "learning_rate",
    "wd": "weight_decay",
    "name": "study",
    "n_trials": "trials",
    "num_trials": "trials",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "max_steps": "steps",
    "max_seq_length": "max_length",
    "per_device_train_batch_size": "batch_size",
    "per_device_eval_batch_size": "evaluation_batch_size",
    "gradient_accumulation_steps": "accumulation",
    "max_grad_norm": "gradient_clipping",
    "warmup_ratio": "warmup",
    "lr_scheduler_type": "schedule",
    "label_smoothing_factor": "label_smoothing",
    "layers": "keep_layers",
    "source": "from",
    "asha": "successive-halving",
    "hyperband": "successive-halving",
    "acc": "accuracy",
    "max": "maximize",
    "min": "minimize",
}


class BrokenRule(ValueError):
    """A value breaks a rule of its own.

    Attributes:
        rule: What is wrong, to be read after ``key=value``.
        remedy: What to do, a sentence without its full stop.
        key: Part of the value that is to blame (``low``), or empty for the value itself.
    """

    def __init__(self, rule: str, remedy: str, key: str = "") -> None:
        self.rule, self.remedy, self.key = rule, remedy, key
        super().__init__(f"{key} {rule}. {remedy}.".strip())


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a value was written; places sort in the order in which people read them.

    Attributes:
        rank: 0 for the file, n for the n-th override.
        line: 1-based line, 0 where lines mean nothing.
        name: The file as it was named, or the override as it was typed.
    """

    rank: int
    line: int
    name: str

    def __str__(self) -> str:
        return f"{self.name}:{self.line}" if self.line else self.name


class Problems:
    """Collects problems, each told once; the only mutable value in this room."""

    def __init__(self) -> None:
        self._found: list[tuple[Place, str]] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, place: Place, message: str) -> None:
        """Remember a problem.

        Args:
            place: Where the value stands.
            message: Key, value, rule and remedy.
        """
        line = one_line(message)
        if len(line) > _LONGEST_MESSAGE:  # an endless path, say; rule and remedy stand at the ends
            line = f"{line[: _LONGEST_MESSAGE // 2]}…{line[-_LONGEST_MESSAGE // 2 :]}"
        problem = (place, line)
        if problem not in self._found:
            self._found.append(problem)

    def lines(self) -> list[str]:
        """One line for each problem, in the order of their places."""
        ordered = sorted(self._found, key=lambda found: found[0])
        return [f"{one_line(str(place))}: {message}" for place, message in ordered]

    def raise_if_any(self) -> None:
        """End here if there is a problem.

        Raises:
            InvalidSpecError: With all of them.
        """
        if self._found:
            raise InvalidSpecError(self.lines())


def one_line(text: str) -> str:
    """``text`` on one line, printable, without secrets."""
    flat = " ".join(redacted(text).split())
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in flat)


def shortened(text: str) -> str:
    """``text``, cut where it would fill the screen."""
    flat = one_line(text)
    return flat if len(flat) <= _LONGEST_SHOWN else flat[: _LONGEST_SHOWN - 1] + "…"


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word that was most likely meant, or None."""
    names = sorted(known)
    folded = word.strip().lower().replace("-", "_")[:_LONGEST_SHOWN]
    by_fold = {name.lower().replace("-", "_"): name for name in names}
    alias = _ALIASES.get(folded)
    if alias in names:
        return alias
    close = difflib.get_close_matches(folded, by_fold, n=1, cutoff=0.6)
    if close:
        return by_fold[close[0]]
    within = [name for fold, name in by_fold.items() if len(folded) > 1 and (folded in fold)]
    return within[0] if within else None


def suggestion(word: str, known: Iterable[str]) -> str:
    """The remedy for a word that is not known: the nearest one, or all of them."""
    names = list(known)
    meant = nearest(word, names)
    return f"Did you mean {meant}?" if meant else f"Use one of: {', '.join(names)}."
