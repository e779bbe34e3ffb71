"""What our pages answer: the pages, their data, and the actions people take on them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from threading import Lock, Thread
from typing import Any, cast
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from dashboards import optuna_page
from dashboards.studies import Studies
from dashboards.watched import Watched, digest_of, parsed, summary_of
from sweep import steering
from sweep.errors import StudyNotFoundError, SweepError, UserError
from sweep.strict_json import strict_json
from sweep.tracking import run_ids

STATIC = Path(__file__).with_name("static")
API = "/ajax-api/sweep"
"""MLflow's middleware refuses requests of other origins that change something, below ``/ajax-api/`` alone."""

TOKEN_HEADER = "x-sweep-token"
# Plotly's WebGL charts compile their shaders' bindings; nothing else may run that does not come from here.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:"
)

Action = Callable[[Watched, Mapping[str, Any]], str]


def _stop(study: Watched, asked: Mapping[str, Any]) -> str:
    return steering.stop_study(study.spec.layout, now=bool(asked.get("now")))


def _stop_trial(study: Watched, asked: Mapping[str, Any]) -> str:
    return steering.cancel_trial(study.spec, study.trials(), _whole(asked, "trial"))


def _add(study: Watched, asked: Mapping[str, Any]) -> str:
    return steering.add_trials(study.spec, _whole(asked, "trials"))


def _enqueue(study: Watched, asked: Mapping[str, Any]) -> str:
    given = asked.get("hyperparameters")
    if not isinstance(given, dict) or not all(isinstance(text, str) for text in given.values()):
        raise UserError("hyperparameters: is no table of texts. Send a text for each hyperparameter.")
    return steering.enqueue(study.spec, study.trials(), given)


ACTIONS: Mapping[str, Action] = {"stop": _stop, "stop-trial": _stop_trial, "add": _add, "enqueue": _enqueue}


def _whole(asked: Mapping[str, Any], key: str) -> int:
    value = asked.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UserError(f"{key}={value!r} is no whole number. Send one.")
    return value


class Pages:
    """Our pages over the studies of a storage.

    Args:
        storage: Storage root.
    """

    def __init__(self, storage: Path) -> None:
        self.studies = Studies(storage)
        self.token = secrets.token_urlsafe(24)
        self._lock = Lock()
        self._watched: dict[str, tuple[int, Watched]] = {}

    def watched(self, name: str) -> Watched:
        """A study, kept open.

        Raises:
            SweepError: If there is none, or it cannot be read.
        """
        with self._lock:
            stamp = self.studies.stamp(name)
            of, known = self._watched.get(name, (0, None))
            if known is None or of != stamp:
                fresh = Watched(self.studies.spec(name))
                if known is not None:
                    known.close()
                known = fresh
                self._watched[name] = stamp, known
            return known

    def warm_up(self) -> None:
        """Read the newest study before somebody asks: a history of thousands of trials takes a second."""
        try:
            self.watched(next(iter(self.studies.layouts()), "")).news(None, None)
        except SweepError:
            return  # told to whoever asks for it

    def routes(self) -> list[BaseRoute]:
        """All of them; they must precede a catch-all."""
        return [
            Route("/sweep", self._page("studies.html")),
            Route("/sweep/", lambda request: RedirectResponse("/sweep")),
            Route("/sweep/{study}", self._study_page),
            Route("/sweep-of", self._way_back),
            Route("/sweep-files/plotly.min.js", _plotly),
            Mount("/sweep-files", StaticFiles(directory=STATIC)),
            Route(f"{API}/studies", self._list),
            Route(f"{API}/studies/{{study}}", self._news),
            Route(f"{API}/studies/{{study}}/importance", self._importance),
            Route(f"{API}/studies/{{study}}/{{action}}", self._act, methods=["POST"]),
        ]

    def _page(self, name: str, status: int = 200) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            study = escape(request.path_params.get("study", ""))
            text = (STATIC / name).read_text(encoding="utf-8")
            text = text.replace("{{token}}", self.token).replace("{{study}}", study)
            headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
            return HTMLResponse(text, status, headers)

        return answer

    def _study_page(self, request: Request) -> Response:
        is_known = request.path_params["study"] in self.studies.layouts()
        return self._page("study.html" if is_known else "missing.html", 200 if is_known else 404)(request)

    def _way_back(self, request: Request) -> Response:
        """From an experiment or a run of MLflow's to the study or the trial that it records."""
        experiment, run = request.query_params.get("experiment"), request.query_params.get("run")
        for name, layout in self.studies.layouts().items():
            try:
                view = self.watched(name).view()
                numbers = {run_id: number for number, run_id in run_ids(layout).items()} if run else {}
            except SweepError:
                continue
            if run in numbers:
                return RedirectResponse(f"/sweep/{name}#trial={numbers[run]}")
            if experiment is not None and view.facts.experiment_id == experiment:
                return RedirectResponse(f"/sweep/{name}")
        return RedirectResponse("/sweep")

    def _list(self, request: Request) -> Response:
        rows = []
        for name in self.studies.layouts():
            try:
                rows.append(summary_of(name, self.watched(name).view()))
            except SweepError as err:
                rows.append(summary_of(name, None, str(err)))
        return _unless_known(request, strict_json({"studies": rows}, indent=None))

    def _news(self, request: Request) -> Response:
        query = request.query_params
        try:
            text = self.watched(request.path_params["study"]).news(query.get("since"), query.get("about"))
        except SweepError as err:
            return _problem(err)
        return _unless_known(request, text)

    def _importance(self, request: Request) -> Response:
        try:
            return JSONResponse(self.watched(request.path_params["study"]).importance())
        except SweepError as err:
            return _problem(err)

    async def _act(self, request: Request) -> Response:
        # MLflow lets every page of this machine read ours, token and all; what such a page sends names its origin.
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            return JSONResponse({"problem": "This request comes from a page of another server."}, 403)
        # A page of another origin can send a request, but neither read this token nor set this header.
        if not secrets.compare_digest(request.headers.get(TOKEN_HEADER, "").encode(), self.token.encode()):
            return JSONResponse({"problem": "This page is of an earlier server. Load it again."}, 403)
        action = ACTIONS.get(request.path_params["action"])
        if action is None:
            return JSONResponse({"problem": "There is no such action."}, 404)
        try:
            asked = parsed(await request.body())
            study = await run_in_threadpool(self.watched, request.path_params["study"])
            return JSONResponse({"done": await run_in_threadpool(action, study, asked)})
        except ValueError as err:
            return JSONResponse({"problem": f"The request cannot be read: {err}."}, 400)
        except SweepError as err:
            return _problem(err)


def _problem(err: SweepError) -> Response:
    status = 404 if isinstance(err, StudyNotFoundError) else 409 if isinstance(err, UserError) else 500
    return JSONResponse({"problem": str(err)}, status)


def _unless_known(request: Request, text: str) -> Response:
    """JSON, or 304 where the browser has the very same."""
    tag = f'"{digest_of(text)}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(text, media_type="application/json", headers=headers)


def _plotly(request: Request) -> Response:
    import importlib.util

    # Found, not imported: the package's code is not needed, the script that it bundles is.
    found = importlib.util.find_spec("plotly")
    folder = Path(str(found.origin)).parent if found else Path()
    headers = {"Cache-Control": "max-age=86400"}
    return FileResponse(folder / "package_data" / "plotly.min.js", media_type="text/javascript", headers=headers)


def _mlflow_index(request: Request) -> Response:
    """MLflow's own page with one script more: the way back to ours."""
    from mlflow.server import app

    text = (Path(str(app.static_folder)) / "index.html").read_text(encoding="utf-8")
    script = '<script defer="defer" src="/sweep-files/way-back.js"></script></head>'
    return HTMLResponse(text.replace("</head>", script, 1), headers={"Cache-Control": "no-cache"})


class OptunaRoute(BaseRoute):
    """Matches the absolute paths of Optuna's dashboard.

    Args:
        page: The dashboard.
    """

    def __init__(self, page: optuna_page.OptunaPage) -> None:
        from mlflow.server.fastapi_app import _EfficientWSGIMiddleware

        self._app = _EfficientWSGIMiddleware(page)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a request is for the dashboard."""
        is_its_own = scope["type"] == "http" and str(scope["path"]).startswith(optuna_page.PATHS)
        return (Match.FULL if is_its_own else Match.NONE), {}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer it."""
        await self._app(scope, receive, send)


def all_routes(storage: Path, mlflow: str | None = None) -> list[BaseRoute]:
    """Our pages, Optuna's dashboard, and MLflow's page with the way back, or the way to it.

    Args:
        storage: Storage root.
        mlflow: Address of MLflow, if it is not served here.
    """
    pages = Pages(storage)
    optuna = optuna_page.OptunaPage(pages.studies)

    def to_optuna(request: Request) -> Response:
        number = optuna.histories.number_of(cast(str, request.path_params.get("study", "")))
        return RedirectResponse("/dashboard/" if number is None else f"/dashboard/studies/{number}")

    Thread(target=pages.warm_up, name="warm-up", daemon=True).start()
    return [
        Route("/", _mlflow_index if mlflow is None else lambda request: RedirectResponse(mlflow)),
        Route("/optuna", to_optuna),
        Route("/optuna/{study}", to_optuna),
        *pages.routes(),
        OptunaRoute(optuna),
    ]
