"""Checkpoints are there, whole, or not there at all."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError

from sweep.checkpoints import (
    FolderKeeper,
    committing,
    drop,
    intact,
    model_folder,
    read_manifest,
    step_folder,
    step_of,
)
from sweep.errors import CheckpointError

FILES = {
    "model/model.safetensors": b"weights" * 12,
    "model/config.json": b"{}",
    "state/optimizer.safetensors": b"moments" * 15,
    "empty": b"",
}


def commit(trial_folder: Path, step: int, files: dict[str, bytes] = FILES) -> Path:
    target = step_folder(trial_folder, step)
    with committing(target, {"step": step, "metrics": {"accuracy": 0.5}}) as folder:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    return target


def entries(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def keeper_of(root: Path) -> FolderKeeper:
    return FolderKeeper(lambda number: root / f"trial-{number:04d}")


def test_a_commit_shows_all_files_with_their_digests_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = commit(tmp_path / "deep" / "trial-0000", 12)
    manifest = read_manifest(target)
    assert target.name == "step-00000012"
    assert step_of(target) == 12
    assert manifest.meta == {"step": 12, "metrics": {"accuracy": 0.5}}
    assert {name: entry.bytes for name, entry in manifest.files.items()} == {n: len(b) for n, b in FILES.items()}
    assert model_folder(target) == target / "model"
    assert [path.name for path in target.parent.iterdir()] == ["step-00000012"]


def test_metadata_is_read_at_the_end_of_the_block(tmp_path: Path) -> None:
    meta: dict[str, object] = {}
    with committing(tmp_path / "c", meta) as folder:
        (folder / "a").write_bytes(b"a")
        meta["late"] = True
    assert read_manifest(tmp_path / "c").meta == {"late": True}


def test_an_exception_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with committing(tmp_path / "c", {}) as folder:
            (folder / "a").write_bytes(b"a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_told_with_place_and_remedy(tmp_path: Path, error: Exception) -> None:
    target = tmp_path / "step-00000001"

    def fill() -> None:
        with committing(target, {}):
            raise error

    with pytest.raises(CheckpointError, match=r"step-00000001.*No space left.*Free disk space") as told:
        fill()
    assert told.value.__cause__ is error
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_the_block_pass_unchanged(tmp_path: Path) -> None:
    def fail() -> None:
        with committing(tmp_path / "c", {}):
            raise FileNotFoundError(errno.ENOENT, "no such file", "elsewhere")

    with pytest.raises(FileNotFoundError):
        fail()


@pytest.mark.parametrize("name", ["manifest.json", "link"])
def test_what_a_checkpoint_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    def misuse() -> None:
        with committing(tmp_path / "c", {}) as folder:
            if name == "link":
                (folder / name).symlink_to("/etc/passwd")
            else:
                (folder / name).write_text("{}")

    with pytest.raises(CheckpointError, match=name):
        misuse()
    assert list(tmp_path.iterdir()) == []


def test_a_second_commit_keeps_an_intact_checkpoint(tmp_path: Path) -> None:
    target = commit(tmp_path, 1)
    before = (target / "manifest.json").stat().st_ino
    commit(tmp_path, 1)
    assert (target / "manifest.json").stat().st_ino == before


@pytest.mark.parametrize("fault", ["no manifest", "damaged", "slim"])
def test_a_second_commit_replaces_what_cannot_be_resumed_from(tmp_path: Path, fault: str) -> None:
    target = commit(tmp_path, 1)
    if fault == "no manifest":
        (target / "manifest.json").unlink()
    elif fault == "damaged":
        (target / "model/config.json").write_bytes(b"[]")
    else:
        drop(target, "state/")
    commit(tmp_path, 1)
    assert intact(target)
    assert entries(target) == {*FILES, "manifest.json"}
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_every_flipped_bit_and_every_truncation_is_noticed(tmp_path: Path, name: str) -> None:
    target = commit(tmp_path, 1)
    path = target / name
    content = path.read_bytes()
    for index in range(0, len(content), 1 if len(content) < 200 else 5):
        for bit in (0, 6):
            flipped = bytearray(content)
            flipped[index] ^= 1 << bit
            path.write_bytes(flipped)
            assert not intact(target), f"bit {bit} of byte {index}"
        path.write_bytes(content[:index])
        assert not intact(target), f"cut at byte {index}"
    path.write_bytes(content)
    assert intact(target)
    path.unlink()
    assert not intact(target)


def test_lengths_are_compared_even_without_hashing(tmp_path: Path) -> None:
    target = commit(tmp_path, 1)
    (target / "model/config.json").write_bytes(b"{}\n")
    with pytest.raises(CheckpointError, match=r"config\.json: 3 bytes instead of the 2"):
        read_manifest(target, verify=False)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../outside", "a//b", "./a", "."])
def test_a_manifest_cannot_point_outside_of_its_folder(tmp_path: Path, name: str) -> None:
    import hashlib

    target = commit(tmp_path / "t", 1)
    (tmp_path / "t" / "outside").write_bytes(b"")
    body = {"format": 1, "meta": {}, "files": {name: {"sha256": hashlib.sha256(b"").hexdigest(), "bytes": 0}}}
    seal = hashlib.sha256(json.dumps(body, ensure_ascii=False).encode()).hexdigest()
    (target / "manifest.json").write_text(json.dumps(body | {"seal": seal}, ensure_ascii=False, indent=1) + "\n")
    with pytest.raises(CheckpointError, match="leaves the checkpoint"):
        read_manifest(target)


def test_a_file_replaced_by_a_link_is_noticed(tmp_path: Path) -> None:
    target = commit(tmp_path, 1)
    shutil.move(target / "model", tmp_path / "elsewhere")
    (target / "model").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="plain file"):
        read_manifest(target)


def test_dropping_state_makes_a_checkpoint_slim_and_keeps_it_intact(tmp_path: Path) -> None:
    target = commit(tmp_path, 1)
    drop(target, "state/")
    assert intact(target)
    assert not (target / "state").exists()
    assert read_manifest(target).meta["step"] == 1
    drop(target, "state/")
    assert intact(target)


def test_newest_is_the_highest_step_and_falls_back_from_damaged_and_slim_ones(tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path)
    assert keeper.newest(0) is None
    folders = [commit(tmp_path / "trial-0000", step) for step in (2, 10, 9, 30, 40)]
    assert keeper.newest(0) == str(folders[4])
    (folders[4] / "manifest.json").unlink()
    drop(folders[3], "state/")
    assert keeper.newest(0) == str(folders[1])
    content = bytearray((folders[1] / "state/optimizer.safetensors").read_bytes())
    content[3] ^= 1
    (folders[1] / "state/optimizer.safetensors").write_bytes(content)
    assert keeper.newest(0) == str(folders[2])
    keeper.keep(0, {2, 9, 10, 40}, {30})
    assert {path.name for path in (tmp_path / "trial-0000").iterdir()} == {f"step-{step:08d}" for step in (2, 9, 30)}


def test_keep_leaves_full_slim_and_nothing_as_asked(tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path)
    keeper.keep(0, set(), set())
    folders = {step: commit(tmp_path / "trial-0000", step) for step in (1, 2, 3)}
    keeper.keep(0, {3}, {2, 3})
    assert not folders[1].exists()
    assert entries(folders[2]) == {"manifest.json", "empty", "model/config.json", "model/model.safetensors"}
    assert entries(folders[3]) == {*FILES, "manifest.json"}
    keeper.keep(0, set(), {3})
    assert {path.name for path in (tmp_path / "trial-0000").iterdir()} == {folders[3].name}
    assert "state/optimizer.safetensors" not in entries(folders[3])


def test_keep_spares_a_later_checkpoint_whose_report_is_on_its_way(tmp_path: Path) -> None:
    keeper = keeper_of(tmp_path)
    later = [commit(tmp_path / "trial-0000", step) for step in (4, 8)][1]
    keeper.keep(0, {4}, {4})
    assert keeper.newest(0) == str(later)
    keeper.keep(0, set(), {4})
    assert not later.exists()


def test_keep_cleans_up_after_the_dead_and_spares_the_living(tmp_path: Path) -> None:
    folder = tmp_path / "trial-0000"
    target = commit(folder, 1)
    (target / "left-over").write_bytes(b"x")
    with committing(folder / "step-00000002", {}) as living:
        dead = living.with_name(living.name.replace(f"-{os.getpid()}-", f"-{2**22 + 1}-"))
        for rubbish in (dead, folder / ".trash-step-00000000-abc", folder / ".tmp-odd"):
            (rubbish / "inner").mkdir(parents=True)
        keeper_of(tmp_path).keep(0, {1}, set())
        assert {path.name for path in folder.iterdir()} == {"step-00000001", living.name}
        assert entries(target) == {*FILES, "manifest.json"}


STEPS = st.integers(1, 5)
ACTIONS = st.one_of(
    st.tuples(st.just("commit"), STEPS),
    st.tuples(st.just("crash"), STEPS),
    st.tuples(st.just("damage"), STEPS),
    st.tuples(st.just("keep"), st.sets(STEPS, max_size=2), st.sets(STEPS, max_size=2)),
)


@settings(max_examples=25, deadline=None)
@given(st.lists(ACTIONS, max_size=14))
def test_any_history_leaves_what_was_kept_and_newest_is_always_resumable(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[object, ...]]
) -> None:
    root = tmp_path_factory.mktemp("history")
    folder = root / "trial-0000"
    keeper = keeper_of(root)
    full: set[int] = set()
    slim: set[int] = set()
    for action in actions:
        match action:
            case ("commit", int(step)):
                commit(folder, step, {"model/m": b"m" * step, "state/s": b"s"})
                full.add(step)
                slim.discard(step)
            case ("crash", int(step)):
                # Killed before the rename: a temporary folder of a process that is gone.
                (folder / f".tmp-step-{step:08d}-{2**22 + 1}-host-abc" / "model").mkdir(parents=True, exist_ok=True)
            case ("damage", int(step)) if step in full | slim:
                (step_folder(folder, step) / "model/m").write_bytes(b"")
                full.discard(step)
                slim.discard(step)
            case ("keep", set() as resumable, set() as weights):
                keeper.keep(0, resumable, weights)
                later = {s for s in full if resumable and s > max(resumable)}
                slim_later = {s for s in slim if resumable and s > max(resumable)}
                slim = (slim & (resumable | weights)) | slim_later | ((full & weights) - resumable - later)
                full = (full & resumable) | later
        assert keeper.newest(0) == (str(step_folder(folder, max(full))) if full else None)
        assert all(intact(step_folder(folder, step)) for step in full | slim)
        assert all("state/s" not in read_manifest(step_folder(folder, s)).files for s in slim)
    keeper.keep(0, full, slim)
    kept = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    assert kept >= {f"step-{s:08d}" for s in full | slim}
