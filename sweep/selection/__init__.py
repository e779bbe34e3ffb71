"""Which trials win, and by how much."""

from sweep.selection.judging import judge
from sweep.selection.verdict import Finalist, Gain, Verdict

__all__ = ["Finalist", "Gain", "Verdict", "judge"]
