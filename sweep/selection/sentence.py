"""The verdict in plain words."""

from __future__ import annotations

from sweep.selection.verdict import Finalist, Verdict


def sentence_of(verdict: Verdict) -> str:
    """What the verdict means, for somebody who knows no statistics."""
    if verdict.winner is None:
        return "No winner: no finalist has a score on a fresh seed."
    winner = verdict.finalist(verdict.winner)
    parts = [_claim(verdict, winner)]
    best = verdict.finalists[0]
    if winner.label != best.label:
        parts.append(
            f"{_name(best)} has the better mean ({_number(best.mean)}), but within chance, and {_name(winner)} is "
            f"cheaper to deploy ({_costs(winner)}, not {_costs(best)})."
        )
    others = [_name(verdict.finalist(label)) for label in verdict.tied if label not in (winner.label, best.label)]
    if others:
        parts.append(f"Cannot be told apart from the best: {', '.join(others)}.")
    failed = [one for one in verdict.finalists if one.dropped_after is None and len(one.scores) < verdict.seeds]
    if failed:
        runs = ", ".join(f"{_name(one)} ({verdict.seeds - len(one.scores)} of {verdict.seeds})" for one in failed)
        parts.append(f"Runs without a score: {runs}.")
    return " ".join(parts)


def _claim(verdict: Verdict, winner: Finalist) -> str:
    mean = f"{verdict.metric} {_number(winner.mean)} over {_seeds(len(winner.scores))}"
    best, gain = f"No significant winner: {winner.label} is the best, {mean}", winner.gain
    if verdict.baseline is None:
        return f"{best}, but the defaults are not in the final."
    if winner.kind == "baseline":
        return f"No significant winner: the defaults (trial 0) hold, {mean}; no finalist is worth changing them for."
    if gain is None:
        return f"{best}, but it shares no seed with the defaults."
    found = f"gain over the defaults (trial 0) {gain.mean:+.4f}"
    if gain.interval is None or gain.p_value is None or gain.probability_better is None:
        return f"{best}, {found}, but one seed cannot tell a gain from luck."
    found += f" [{gain.interval[0]:+.4f}, {gain.interval[1]:+.4f}], p = {_probability(gain.p_value)}"
    if not verdict.is_significant:
        return f"{best}, but cannot be told apart from the defaults: {found}."
    surely = _probability(gain.probability_better)
    return f"{winner.label} wins: {mean}, {found}; it beats them with probability {surely}."


def _seeds(count: int) -> str:
    return "1 fresh seed" if count == 1 else f"{count} fresh seeds"


def _costs(finalist: Finalist) -> str:
    known = [] if finalist.model_bytes is None else [f"{finalist.model_bytes / 1e6:.1f} MB"]
    if finalist.latency_ms is not None:
        known.append(f"{finalist.latency_ms:.2f} ms")
    return " and ".join(known)


def _name(finalist: Finalist) -> str:
    return "the defaults (trial 0)" if finalist.kind == "baseline" else finalist.label


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _probability(value: float) -> str:
    if value < 0.001:
        return "below 0.001"
    return "above 0.999" if value > 0.999 else f"{value:.3f}"
