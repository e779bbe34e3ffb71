"""``python -m objectives.examples TASK``: a folder with a spec and its rows, for ``sweep run TASK/study.yaml``."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from pathlib import Path

from objectives.examples.rows import EXAMPLES
from sweep.errors import InvalidDataError, UserError

SPECS = Path(__file__).parent


def write_example(task: str, data: Path | None, folder: Path) -> Path:
    """Write an example's spec and rows.

    Args:
        task: One of :data:`EXAMPLES`.
        data: Folder of published data sets, each in a sub-folder; the bundled data needs none.
        folder: Where to; files of the same names are replaced.

    Returns:
        The spec.

    Raises:
        InvalidDataError: If the data is not there.
    """
    example = EXAMPLES[task]
    if example.published is not None and data is None:
        raise InvalidDataError(
            f"{task}: its rows come from {example.published.page} ({example.published.licence}). Fetch "
            f"{', '.join(example.published.files)} into a folder {example.published.name}, and name the folder above "
            "it with --data."
        )
    files = [] if example.published is None or data is None else example.published.found_in(data)
    splits = example.make(files)
    spec = write_spec(task, folder)
    for split, rows in splits.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    return spec


def write_spec(task: str, folder: Path) -> Path:
    """Write an example's spec alone, with the shape of its model where that is one of its own; returns the spec."""
    folder.mkdir(parents=True, exist_ok=True)
    if (shape := SPECS / f"{task}.json").exists():
        shutil.copyfile(shape, folder / "config.json")
    return Path(shutil.copyfile(SPECS / f"{task}.yaml", folder / "study.yaml"))


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m objectives.examples", description=__doc__)
    parser.add_argument("task", choices=sorted(EXAMPLES))
    parser.add_argument("--data", type=Path, help="folder of published data sets, each in a sub-folder")
    parser.add_argument("--to", type=Path, help="where to; the task's name in this folder if left out")
    arguments = parser.parse_args()
    try:
        spec = write_example(arguments.task, arguments.data, arguments.to or Path(arguments.task))
    except UserError as err:
        sys.exit(f"error: {err}")
    sys.stdout.write(f"wrote {spec.parent}; run it with `sweep run {spec}`\n")


if __name__ == "__main__":
    main()
