"""How good an answer is, as the SQuAD script counts it (Rajpurkar et al., arXiv:1606.05250, section 6.1)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = frozenset(string.punctuation)


def exact_match(answer: str, right: Sequence[str]) -> float:
    """1 if an answer is one of the right ones but for case, articles, punctuation and blanks; else 0."""
    return float(any(_normalised(answer) == _normalised(each) for each in right or [""]))


def token_f1(answer: str, right: Sequence[str]) -> float:
    """Largest F1 of the words of an answer and of one of the right ones; without any, 1 for an empty answer."""
    return max(_f1(_normalised(answer).split(), _normalised(each).split()) for each in right or [""])


def _normalised(text: str) -> str:
    plain = "".join(c for c in text.lower() if c not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def _f1(given: Sequence[str], right: Sequence[str]) -> float:
    if not given or not right:
        return float(given == right)
    both = sum((Counter(given) & Counter(right)).values())
    return 2 * both / (len(given) + len(right))
