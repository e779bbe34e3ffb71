"""The study's spec: from YAML to strictly typed values, with every problem told at once."""

from sweep.spec.credentials import how_to_keep_secrets, spec_secrets, stored_spec, with_secrets
from sweep.spec.loading import bundled_spec, load_spec, parse_spec, spec_from_resolved
from sweep.spec.model import StudySpec
from sweep.spec.resolved import spec_text
from sweep.spec.space import Choices, Distribution, FloatRange, IntRange
from sweep.spec.template import study_name_from, template

__all__ = [
    "Choices",
    "Distribution",
    "FloatRange",
    "IntRange",
    "StudySpec",
    "bundled_spec",
    "how_to_keep_secrets",
    "load_spec",
    "parse_spec",
    "spec_from_resolved",
    "spec_secrets",
    "spec_text",
    "stored_spec",
    "study_name_from",
    "template",
    "with_secrets",
]
