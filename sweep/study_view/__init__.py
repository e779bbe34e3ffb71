"""A whole study as plain values for people to look at; reads only, needs no driver, and may look while one writes."""

from sweep.study_view.reader import StudyWatch, read_study
from sweep.study_view.values import (
    AttemptSpan,
    CurvePoint,
    Rung,
    SearchedSetting,
    SetbackView,
    Spend,
    StudyFacts,
    StudyView,
    TrialView,
    to_json,
)

__all__ = [
    "AttemptSpan",
    "CurvePoint",
    "Rung",
    "SearchedSetting",
    "SetbackView",
    "Spend",
    "StudyFacts",
    "StudyView",
    "StudyWatch",
    "TrialView",
    "read_study",
    "to_json",
]
