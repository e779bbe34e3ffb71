"""Which of equally good finalists to deploy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sweep.selection.verdict import Finalist

CLEARLY_SMALLER = 0.95
"""A model is clearly smaller when it has at most this share of the other's bytes; less is padding and metadata."""

CLEARLY_FASTER = 0.8
"""Likewise of the other's latency: what is measured in milliseconds is noisy."""

CLEARLY_FASTER_MS = 0.1
"""And by so much at least: below it, nobody who waits for an answer can tell."""


def preferred(close: Sequence[Finalist]) -> Finalist:
    """The finalist to deploy, of those that are tied with the best and close to it.

    Close means a mean within one standard error, of their paired difference, of the best: the one-standard-error
    rule of Breiman et al., "Classification and Regression Trees" (1984), section 3.4.3. Being tied alone is not
    enough: with few seeds, much worse models cannot be told apart either.

    Of them stay those that are not clearly larger than the smallest, then those that are not clearly slower than the
    fastest, where all sizes or latencies are known; a difference within the margins above is none. Of the rest, the
    best mean wins, and among equal means the smallest spread. So finalists of one architecture keep the best mean.

    Args:
        close: In the order of their ranks; at least one.
    """
    left = _cheapest(list(close), lambda one: one.model_bytes, CLEARLY_SMALLER)
    return _cheapest(left, lambda one: one.latency_ms, CLEARLY_FASTER, CLEARLY_FASTER_MS)[0]


def _cheapest(
    finalists: list[Finalist], cost: Callable[[Finalist], float | None], clearly_less: float, by: float = 0.0
) -> list[Finalist]:
    costs = [known for known in map(cost, finalists) if known is not None]
    if len(costs) < len(finalists):
        return finalists
    least = min(costs)
    return [one for one, own in zip(finalists, costs, strict=True) if least > min(clearly_less * own, own - by)]
