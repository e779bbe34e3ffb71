"""Which finished trials keep a model."""

from __future__ import annotations

from dataclasses import replace

from sweep.domain import Trial
from sweep.engine.standings import Standings
from sweep.ports import CheckpointKeeper


def trim_models(standings: Standings, keeper: CheckpointKeeper, just_finished: Trial | None = None) -> None:
    """Keep the models of the best trials and of the baseline; drop those of other finished trials.

    Args:
        standings: All trials; those that lose their model lose the name of their checkpoint here.
        keeper: Deletes.
        just_finished: The trial whose end is the reason; None looks at all, as after a crash.
    """
    if just_finished is None:
        for trial in standings:
            if trial.state.is_finished and trial.checkpoint is not None:
                _trim(trial, standings, keeper)
        return
    _trim(just_finished, standings, keeper)
    pushed_out = standings.runner_up
    if pushed_out is not None and pushed_out.checkpoint is not None and not standings.keeps(pushed_out):
        _trim(pushed_out, standings, keeper)


def _trim(trial: Trial, standings: Standings, keeper: CheckpointKeeper) -> None:
    wanted = {trial.step} if standings.keeps(trial) and trial.step is not None else set()
    keeper.keep(trial.number, set(), wanted)
    if not wanted and trial.checkpoint is not None:
        standings.put(replace(trial, checkpoint=None))
