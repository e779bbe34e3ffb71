"""Each seed of a final keeps the rows it began with."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sweep.domain import confirmation_seed
from sweep.errors import InvalidDataError
from sweep.seed_data import data_of_seeds, facts_of_seeds
from sweep.spec import parse_spec
from sweep.study_files import write_facts
from sweep.testing.checkpointing_objective import QuickObjective
from tests.quick_study import SPEC


class Source:
    """The rows of a study, which may be gone or changed in a later session."""

    def __init__(self, folder: Path) -> None:
        overrides = ("confirm={seeds: 3, splits: fresh}",)
        self.spec = parse_spec(SPEC, place="study.yaml", folder=folder, overrides=overrides)
        self.split_seed: int | None = 0
        self.read: list[int] = []
        self.data = self._prepare({"split_seed": 0})

    def fresh(self, index: int) -> Mapping[str, Any]:
        assert self.split_seed is not None, "the source is gone"
        self.read.append(index)
        seed = confirmation_seed(self.spec.search.seed, index)
        return self._prepare({"split_seed": self.split_seed, "validation_seed": seed})

    def session(self, seeds: int = 3) -> list[Mapping[str, Any]]:
        """What a driver does before it trains."""
        assert self.spec.confirm is not None
        confirm = self.spec.confirm.model_copy(update={"seeds": seeds})
        prepared = data_of_seeds(self.spec, confirm, self.data, self.fresh)
        write_facts(self.spec.layout.confirmation, {}, facts_of_seeds(self.spec, self.data, prepared), {})
        return prepared

    def _prepare(self, data: Mapping[str, int]) -> Mapping[str, Any]:
        return QuickObjective().prepare({"data": data}, self.spec.layout.prepared)


def test_a_later_session_reads_the_source_for_new_seeds_alone(tmp_path: Path) -> None:
    source = Source(tmp_path)
    first = source.session(2)
    assert len({data["data_hash"] for data in first}) == 2
    source.read.clear()
    assert source.session(3)[:2] == first
    assert source.read == [2]
    source.split_seed = None
    assert source.session(2) == first
    assert len(source.session(3)) == 3


def test_what_was_removed_is_drawn_again_and_a_source_that_has_changed_is_refused(tmp_path: Path) -> None:
    source = Source(tmp_path)
    first = source.session()
    shutil.rmtree(first[1]["folder"])
    source.read.clear()
    assert source.session() == first
    assert source.read == [1]
    shutil.rmtree(first[1]["folder"])
    source.split_seed = 1
    with pytest.raises(InvalidDataError, match=r"the data of seed 1 of its final has changed since it began"):
        source.session()


def test_a_moved_storage_finds_the_rows_where_they_lie_now(tmp_path: Path) -> None:
    source = Source(tmp_path / "here")
    source.session()
    (tmp_path / "here").rename(tmp_path / "there")
    source.spec = source.spec.model_copy(update={"storage": str(tmp_path / "there")})
    source.split_seed = None
    assert all(Path(data["folder"]).is_relative_to(tmp_path / "there") for data in source.session())
