"""A user interface that polls a study, run as a program with KIND FOLDER HISTORY STUDY.

KIND is ``reader`` (as ``sweep status`` reads) or ``dashboard`` (Optuna's dashboard as our server mounts it). It polls
until its stdin ends, then prints what it saw as JSON.
"""

from __future__ import annotations

import io
import json
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sweep.search import OptunaStore
from tests.simulated import spec_in

PAUSE_SECONDS = 0.1
"""More eager than any user interface."""


def reader(folder: Path, history: str | None, study: str) -> Callable[[], int]:
    spec = spec_in(folder, study, *([f"history={history}"] if history else []))
    opened = OptunaStore.open_readonly(spec)
    return lambda: sum(trial.state.is_finished for trial in opened.trials())


def dashboard(folder: Path, history: str | None, study: str) -> Callable[[], int]:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna_dashboard import wsgi

    from dashboards.optuna_page import reading_only

    assert history is None
    journal = spec_in(folder, study).layout.history / "journal.log"
    app = reading_only(wsgi(JournalStorage(JournalFileBackend(str(journal)))))
    number = json.loads(get(app, "/api/studies"))["study_summaries"][0]["study_id"]

    def poll() -> int:
        trials = json.loads(get(app, f"/api/studies/{number}"))["trials"]
        return sum(trial["state"] == "Complete" for trial in trials)

    return poll


def get(app: Any, path: str) -> bytes:
    said: list[str] = []
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": "after=0",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        "wsgi.errors": sys.stderr,
        "wsgi.input": io.BytesIO(),
    }
    body = b"".join(app(environ, lambda status, headers, error=None: said.append(status)))
    if said != ["200 OK"]:
        raise RuntimeError(f"{path}: {said} {body[:500]!r}")
    return body


def main() -> None:
    warnings.simplefilter("ignore")
    kind, folder, history, study = sys.argv[1:]
    poll = {"reader": reader, "dashboard": dashboard}[kind](Path(folder), history or None, study)
    print("ready", flush=True)
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    seen, problems = [], []
    while True:
        is_last = over.wait(PAUSE_SECONDS)
        try:
            seen.append(poll())
        except Exception as err:  # noqa: BLE001  # whatever it is, the test must hear of it
            problems.append(f"{type(err).__name__}: {err}"[:500])
        if is_last:
            break
    print(json.dumps({"polls": len(seen), "last": seen[-1:], "is_sorted": seen == sorted(seen), "problems": problems}))


if __name__ == "__main__":
    main()
