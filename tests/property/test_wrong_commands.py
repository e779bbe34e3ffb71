"""Every verb with nonsense: one clear error, exit code 2, or 1 where something of ours is damaged; no traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from objectives.testing import tiny_file, tiny_model, tiny_rows
from sweep import objective_jobs
from sweep.cli.main import main
from sweep.execution.warm_client import WarmParent
from sweep.layout import StudyLayout
from sweep.spec import parse_spec, spec_text

from .spec_mutants import BASE, Mutator

SPECS = 120  # mutated specs and overrides at the command line; about one in eight reaches model and data

Sweep = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Sweep:
    """Runs a command in this process, in an empty folder; gives exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sweep", *arguments])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err, err
        return code, out, err

    return run


def refused(result: tuple[int, str, str], *, code: int = 2) -> str:
    """The one message of a command that did nothing."""
    found, out, err = result
    assert (found, out) == (code, ""), (found, out, err)
    assert err.startswith(("error: ", "Usage: ")), err
    return err


STRANGE = ("nope", "", "..", "../../x", "/etc/passwd", "a" * 5000, "\x1b[31m", "a\nb", "😀", "%s{0}", "x.yaml", "~")
VERBS = ("status", "best", "resume", "stop", "enqueue", "sync", "ui", "export")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_refuses_a_study_that_is_not_there(sweep: Sweep, tmp_path: Path, verb: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.yaml").write_text("study: [", encoding="utf-8")
    (tmp_path / "folder.yaml").mkdir()
    more = {"export": ["--to", "out"], "enqueue": ["--trials", "1"]}.get(verb, [])
    for name in STRANGE:
        assert "no study" in refused(sweep(verb, name, *more))
    for storage in ("file", "file/x", "/dev/null", "nowhere", "a" * 5000):
        assert "--storage" in refused(sweep(verb, "x", "--storage", storage, *more))
    assert "no study" in refused(sweep(verb, "x", "--storage", "empty", *more))
    assert "bad.yaml:1" in refused(sweep(verb, "bad.yaml", *more))
    refused(sweep(verb, "folder.yaml", *more))
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.yaml", "empty", "file", "folder.yaml"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--storage", "nowhere"),
        ("check", "nowhere.yaml"),
        ("check", "."),
        ("check", "/dev/null"),
        ("check", "/dev/zero"),
        ("check", "a" * 5000),
        ("run", "nowhere.yaml"),
        ("run", "--trials", "-1"),
        ("run", "--hours", "nan"),
        ("run", "--workers", "1000000000"),
        ("run", "--trials", "x"),
        ("run", "--set", "budget"),
        ("init", "nowhere/x.yaml"),
        ("init", "."),
        ("init", "/proc/x.yaml"),
        ("init", "a" * 300 + ".yaml"),
        ("init", "x.yaml", "--data", "nowhere.csv"),
        ("init", "x.yaml", "--data", "a" * 5000),
        ("verify", "nowhere"),
        ("verify", "a" * 5000),
        ("best", "x", "-k", "0"),
        ("sync", "x", "--timeout", "-1"),
        ("ui", "x", "--port", "0"),
        ("export", "x"),
        ("enqueue", "x"),
        ("enqueue", "x", "rate"),
        ("enqueue", "x", "rate=1", "rate=2"),
        ("enqueue", "x", "--trials", "0"),
        ("stop", "x", "--trial", "-1"),
        ("frobnicate",),
        ("--frobnicate",),
        ("status", "a", "b"),
    ],
    ids=lambda arguments: " ".join(arguments)[:40],
)
def test_nonsense_is_refused_with_exit_code_two(sweep: Sweep, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    refused(sweep(*arguments))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def layout(tmp_path: Path) -> StudyLayout:
    """A stored study without a history."""
    (tmp_path / "model").mkdir()
    (tmp_path / "train.jsonl").touch()
    spec = parse_spec(BASE, place="study.yaml", folder=tmp_path)
    spec.layout.folder.mkdir(parents=True)
    spec.layout.spec.write_text(spec_text(spec.resolved()), encoding="utf-8")
    return spec.layout


BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))
DAMAGED_SPECS = {
    "empty": b"",
    "binary": b"\xff\xfe\x00",
    "list": b"[]",
    "text": b"x",
    "torn": b"study: intents\nobjective: {",
    "other keys": b"study: x\nfoo: 1\n",
    "wrong section": b"budget: 3\n",
    "latin": b"study: caf\xe9",
    "deep": b"[" * 5000,
    "bomb": BOMB.encode(),
    "python": b"!!python/object:os.system x",
    "date": b"2020-13-45",
    "number": b"a: " + b"9" * 5000,
    "keys": b"1: 2\n? [a]\n: b\n",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("damage", DAMAGED_SPECS)
def test_a_damaged_stored_spec_is_told_with_its_place(sweep: Sweep, layout: StudyLayout, damage: str) -> None:
    layout.spec.write_bytes(DAMAGED_SPECS[damage])
    for verb in ("status", "best", "resume", "sync", "ui"):
        assert str(layout.spec) in refused(sweep(verb, "intents"), code=1)
    assert str(layout.spec) in refused(sweep("export", "intents", "--to", "out"), code=1)
    code, out, _ = sweep("list")
    assert (code, "UNREADABLE" in out) == (0, True)


DAMAGED_JOURNALS = {
    "binary": b"\xff\xfe\x00\n\x01\n",
    "other JSON": b'[]\n3\n"a"\n',
    "unknown record": b'{"op_code": 99}\n{"op_code": 0}\n',
    "number": b"NaN\n",
    "keys missing": b'{"op_code": 0, "worker_id": "x"}\n',
    "deep": b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize("damage", DAMAGED_JOURNALS)
def test_a_damaged_journal_is_told_with_its_place(sweep: Sweep, layout: StudyLayout, damage: str) -> None:
    layout.history.mkdir()
    (layout.history / "journal.log").write_bytes(DAMAGED_JOURNALS[damage])
    for verb in ("status", "best"):
        assert "journal.log" in refused(sweep(verb, "intents"), code=1)
    assert "journal.log" in refused(sweep("export", "intents", "--to", "out"), code=1)
    assert sweep("list")[0] == 0


@pytest.mark.timeout(60)
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_a_stored_spec_that_is_no_file_is_no_study(
    sweep: Sweep, layout: StudyLayout, make: Callable[[Path], None]
) -> None:
    layout.spec.unlink()
    make(layout.spec)
    refused(sweep("status", "intents"))
    assert sweep("list")[0] == 0


@pytest.fixture(scope="module")
def parent() -> Iterator[WarmParent]:
    with objective_jobs.warm_parent() as warm:
        yield warm


@pytest.fixture
def folder(tmp_path: Path, parent: WarmParent, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model and tiny data; every command forks from the one warm parent."""
    tiny_model(tmp_path / "model")
    tiny_file(tmp_path / "train.jsonl", tiny_rows(60))

    @contextmanager
    def warm() -> Iterator[Any]:
        yield parent

    monkeypatch.setattr(objective_jobs, "warm_parent", warm)
    return tmp_path


def test_mutated_specs_at_the_command_line_end_with_0_or_2_and_refused_ones_write_nothing(
    sweep: Sweep, folder: Path
) -> None:
    mutator, codes = Mutator(Random(10)), []
    before = sorted(folder.rglob("*"))
    for number in range(SPECS):
        content = mutator.in_tree().encode(errors="surrogatepass") if number % 3 else mutator.in_bytes()
        (folder / "study.yaml").write_bytes(content)
        given = ["--set", mutator.override().replace("\0", "")] if number % 4 == 0 else []
        code, out, err = sweep("check", "study.yaml", *given)
        assert code in (0, 2), err
        codes.append(code)
        (folder / "study.yaml").unlink()
        if code == 2:
            assert out == ""
            assert all(line.isprintable() for line in err.splitlines())
            assert [path for path in sorted(folder.rglob("*")) if "mlruns" not in path.parts] == before
        else:
            assert out.rstrip().endswith("Ready.")
    assert codes.count(0) >= SPECS / 40
    assert codes.count(2) >= SPECS / 2
    assert not (folder / "mlruns" / "studies").exists()


HUGE_BUT_LEGAL = {
    "objective.training.batch_size": str(10**9),
    "objective.training.evaluation_batch_size": str(2**62),
    "objective.training.accumulation": str(2**62),
    "objective.training.train_rows": str(2**62),
    "objective.training.epochs": "1e300",
    "objective.training.gradient_clipping": "1e300",
    "budget.trials": str(10**12),
    "budget.hours": "1e6",
    "resources.workers": "1000",
    "resources.cpus_per_trial": "1000",
    "keep": str(2**62),
    "on.failed.stop_after": str(2**62),
    "limits.log_mb": "1e-320",
}


def test_unbelievable_values_work_or_are_refused(sweep: Sweep, folder: Path) -> None:
    (folder / "study.yaml").write_text(BASE, encoding="utf-8")
    for key, value in HUGE_BUT_LEGAL.items():
        code, out, err = sweep("check", "study.yaml", "--set", f"{key}={value}")
        assert (code, out[-7:]) == (0, "Ready.\n"), (key, err)
    fresh = ("--set", "storage=elsewhere")
    for key, value, told in (
        ("objective.training.max_length", str(10**6), "above the 64 tokens"),
        ("objective.training.learning_rate", "1e300", "diverges at once"),
        ("objective.training.weight_decay", "1e300", "diverges at once"),
        ("resources.workers", str(10**6), "above 1000"),
        ("limits.memory_gb", "1e300", "above 1000000000"),
    ):
        code, out, err = sweep("check", "study.yaml", "--set", f"{key}={value}", *fresh)
        assert (code, out) == (2, ""), (key, err)
        assert told in err
