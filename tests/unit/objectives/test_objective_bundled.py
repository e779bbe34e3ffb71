from __future__ import annotations

import hashlib
import io
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from objectives.bundled.model import bundled_model, verify_weights
from objectives.bundled.tweets import cache_folder, read_tweets, tweets_file
from sweep.errors import InvalidDataError, ModelError

CONTENT = b"1\t2.7\tlovely\r\n2\t0.5\tmeh\r\n3\t-0.6\tawful, \xe2\x98\xb9\r\n4\t-0.1\tso so\r\n"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def _sdist(folder: Path, content: bytes = CONTENT) -> Path:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        entry = tarfile.TarInfo("hutto_ICWSM_2014/tweets_GroundTruth.txt")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    path = folder / "vaderSentiment-0.5.zip"
    with zipfile.ZipFile(path, "w") as outer:
        outer.writestr("vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz", inner.getvalue())
    return path


def test_fetched_tweets_are_kept_and_not_fetched_again(tmp_path: Path) -> None:
    calls = []

    def download(folder: Path) -> Path:
        calls.append(folder)
        return _sdist(folder)

    first = tweets_file(tmp_path, download, DIGEST)
    assert tweets_file(tmp_path, download, DIGEST) == first
    assert len(calls) == 1
    assert read_tweets(first) == (["lovely", "awful, ☹"], ["positive", "negative"])


def test_damaged_cache_is_fetched_again(tmp_path: Path) -> None:
    file = tweets_file(tmp_path, _sdist, DIGEST)
    file.write_bytes(CONTENT[:-5])
    assert tweets_file(tmp_path, _sdist, DIGEST).read_bytes() == CONTENT


def test_other_content_than_published_is_refused_and_not_kept(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match=r"has sha256 .* not the published data"):
        tweets_file(tmp_path, lambda folder: _sdist(folder, b"1\t3.0\tforged\n"), DIGEST)
    assert not list(tmp_path.rglob("*.txt"))


def test_an_archive_of_another_shape_is_refused(tmp_path: Path) -> None:
    def download(folder: Path) -> Path:
        path = folder / "vaderSentiment-0.5.zip"
        path.write_bytes(b"no archive")
        return path

    with pytest.raises(InvalidDataError, match="not the published archive"):
        tweets_file(tmp_path, download, DIGEST)


def test_failing_pip_is_told_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pip = tmp_path / "python"
    pip.write_text("#!/bin/sh\necho 'ERROR: No matching distribution found' >&2\nexit 1\n")
    pip.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(pip))
    with pytest.raises(InvalidDataError, match=r"pip failed: ERROR: No matching distribution.*pip config"):
        tweets_file(tmp_path / "cache")


def test_unwritable_cache_names_the_remedy(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InvalidDataError, match="SWEEP_CACHE"):
        tweets_file(blocked, _sdist, DIGEST)


def test_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SWEEP_CACHE", raising=False)
    assert cache_folder() == tmp_path / "sweep"
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_bundled_model_is_the_published_one() -> None:
    assert (bundled_model(verify=True) / "config.json").is_file()


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"not the published .*force-reinstall"):
        verify_weights(tmp_path / "model.safetensors", "0" * 64)
