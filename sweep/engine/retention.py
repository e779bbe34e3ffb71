"""Which finished trials keep a model."""

from __future__ import annotations

from dataclasses import replace

from sweep.domain import MetricRule, Trial, kept_numbers
from sweep.ports import CheckpointKeeper


def trim_models(
    trials: dict[int, Trial],
    keeper: CheckpointKeeper,
    rule: MetricRule,
    *,
    keep: int,
    just_finished: int | None = None,
) -> None:
    """Keep the models of the best trials and of the baseline; drop those of other finished trials.

    Args:
        trials: By number; those that lose their model lose the name of their checkpoint here.
        keeper: Deletes.
        rule: What is best.
        keep: How many of the best.
        just_finished: The trial whose end is the reason; None looks at all, as after a crash.
    """
    kept = kept_numbers(trials.values(), rule, keep=keep)
    for number, trial in trials.items():
        is_settled = just_finished is not None and number != just_finished
        if not trial.state.is_finished or (number in kept and is_settled):
            continue
        wanted = {trial.step} if number in kept and trial.step is not None else set()
        if trial.checkpoint is not None or number == just_finished:
            keeper.keep(number, set(), wanted)
        if not wanted and trial.checkpoint is not None:
            trials[number] = replace(trial, checkpoint=None)
