"""Export: inference weights, tokenizer, config, card and lineage in one folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sweep.deployment.card import model_card
from sweep.deployment.lineage import LINEAGE_FILE, Lineage, content_of, read_lineage
from sweep.errors import SweepError, UserError, VerificationError

_ABOUT = (LINEAGE_FILE, "README.md")


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hashes_of(folder: Path) -> dict[str, str]:
    """sha256 of each file below a folder, by relative path."""
    return {
        path.relative_to(folder).as_posix(): sha256_of(path) for path in sorted(folder.rglob("*")) if path.is_file()
    }


def content_of_model(folder: Path) -> str:
    """One hash of a model's weights, tokenizer and config, whatever is said about them beside."""
    return content_of({name: digest for name, digest in hashes_of(folder).items() if name not in _ABOUT})


def export_model(
    model: Path,
    lineage: Lineage,
    to: Path,
    *,
    link: bool = False,
    add: Callable[[Path, Lineage], Lineage] | None = None,
) -> Lineage:
    """Write a self-contained model folder; it appears whole or not at all.

    Args:
        model: Folder with weights or an adapter, tokenizer and config.
        lineage: Origin; its ``files`` are filled in here.
        to: Target; must not exist, or be an empty folder or an earlier export without other files.
        link: Share the weights' bytes with ``model`` where the file system can (for folders nobody edits).
        add: Puts further files into the folder, before they are hashed, and says so in the lineage.

    Returns:
        The origin, complete.

    Raises:
        UserError: If the target holds something else.
        SweepError: If it cannot be written.
    """
    if os.path.lexists(to) and not _is_replaceable(to):
        raise UserError(f"{to}: exists and is not just an earlier export. Name a new folder with --to.")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{to.name}-", dir=to.parent))
        try:
            copy = _link if link else shutil.copy2
            # An export's own card and lineage are written anew.
            ignored = shutil.ignore_patterns(*_ABOUT)
            shutil.copytree(model, temporary, dirs_exist_ok=True, copy_function=copy, ignore=ignored)
            if add is not None:
                lineage = add(temporary, lineage)
            complete = replace(lineage, files=hashes_of(temporary))
            (temporary / "README.md").write_text(model_card(complete), encoding="utf-8")
            complete.write(temporary)
            _sync(temporary)
            temporary.chmod(0o755)
            if to.exists():
                shutil.rmtree(to)
            temporary.rename(to)
            return complete
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as err:
        raise SweepError(
            f"{to}: cannot be written ({err.strerror or err}). Free space or name another folder."
        ) from err


def _is_replaceable(to: Path) -> bool:
    """Whether a folder is empty, or holds an earlier export and nothing of anybody else's."""
    if to.is_symlink() or not to.is_dir():
        return False
    found = {str(path.relative_to(to)) for path in to.rglob("*") if not path.is_dir() or path.is_symlink()}
    if LINEAGE_FILE not in found:
        return not found
    try:
        return found <= {*read_lineage(to).files, *_ABOUT}
    except VerificationError:
        return False


def verify_files(folder: Path, lineage: Lineage) -> None:
    """Compare each file of an export with its recorded hash.

    Raises:
        VerificationError: If a file is missing or differs.
    """
    for name, digest in lineage.files.items():
        path = folder / name
        if not path.is_file():
            raise VerificationError(f"{path}: missing. Export the model again.")
        if sha256_of(path) != digest:
            raise VerificationError(f"{path}: differs from its recorded sha256. Export the model again.")


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _sync(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
