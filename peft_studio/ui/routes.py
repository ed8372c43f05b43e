"""The page's own routes: JSON for lists and live curves, files, and the buttons that change a run or the queue.

They answer without Gradio's queue, so that a hundred open pages cost little.
"""

import contextlib
import csv
import gzip
import io
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from peft_studio.archives.adapter_archive import export_zip
from peft_studio.errors import InvalidStateError, RunNotFoundError, StudioError
from peft_studio.jobs.manager import JobManager
from peft_studio.ui.details import run_details
from peft_studio.ui.matrix import library
from peft_studio.ui.runlist import RunList, plain
from peft_studio.ui.shell import STATIC, STATIC_VERSION
from peft_studio.ui.table import csv_rows

MAX_CURVES = 64
_NO_STORE = {"Cache-Control": "no-store"}
_FOREVER = {"Cache-Control": "public, max-age=31536000, immutable"}

Handler = Callable[[Request], Response]


def routes(manager: JobManager) -> list[BaseRoute]:
    """All routes below ``/studio``."""
    api = _Api(manager)
    return [
        Route("/studio/static/plotly.min.js", plotly_file),
        Route("/studio/static/{version}/{name}", static_file),
        Route("/studio/runs.json", _words(api.runs)),
        Route("/studio/queue.json", _words(api.queue)),
        Route("/studio/queue/{action}", _words(api.act_on_queue), methods=["POST"]),
        Route("/studio/metrics.json", _words(api.metrics)),
        Route("/studio/findings.json", _words(api.findings)),
        Route("/studio/library.json", lambda _request: _json(library())),
        Route("/studio/runs/{run_id}/details", _words(api.details)),
        Route("/studio/log/{run_id}", _words(api.log)),
        Route("/studio/export/{run_id}.zip", _words(api.export)),
        Route("/studio/compare.csv", _words(api.compare)),
        Route("/studio/runs/{run_id}/{action}", _words(api.act), methods=["POST"]),
    ]


def _words(handler: Handler) -> Handler:
    """Answers a ``StudioError`` with its words as JSON."""

    def answer(request: Request) -> Response:
        try:
            return handler(request)
        except RunNotFoundError as exc:
            return JSONResponse({"error": str(exc)}, 404)
        except StudioError as exc:
            return JSONResponse({"error": str(exc)}, 409)

    return answer


def _json(value: Any) -> Response:
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Response(body, media_type="application/json", headers=_NO_STORE)


class _Api:
    """The handlers; they run in Starlette's thread pool."""

    def __init__(self, manager: JobManager) -> None:
        self._manager = manager
        self._list = RunList(manager.list)

    def runs(self, request: Request) -> Response:
        """Every run, newest first, without its config; with ``?since=``, what changed: see `RunList.since`."""
        since = request.query_params.get("since")
        if since is not None:
            return _json(self._list.since(int(since) if since.isdecimal() else 0))
        return _json([plain(info) for info in self._manager.list()])

    def queue(self, _request: Request) -> Response:
        """Whether the queue stands still; who waits in it is in the list of runs."""
        return _json({"paused": self._manager.queue.state().paused})

    def metrics(self, request: Request) -> Response:
        """New points of several curves: ``?runs=id:since,id:since``; unknown runs are left out."""
        deltas = []
        for item in request.query_params.get("runs", "").split(",")[:MAX_CURVES]:
            run_id, _, since = item.partition(":")
            try:
                deltas.append(self._manager.series(run_id, int(since) if since.isdigit() else 0))
            except RunNotFoundError:
                continue
        return _json(deltas)

    def log(self, request: Request) -> Response:
        """The end of a run's log, as text."""
        text = self._manager.log_tail(request.path_params["run_id"])
        return PlainTextResponse(text, headers={**_NO_STORE, "X-Content-Type-Options": "nosniff"})

    def details(self, request: Request) -> Response:
        """Findings, test figures, the check after saving, confusion matrix and ranks of a run."""
        run_id = request.path_params["run_id"]
        details = run_details(self._manager.info(run_id), self._manager.store.paths(run_id))
        return _json({**details, "findings": self._findings(run_id)})

    def findings(self, request: Request) -> Response:
        """What the doctor says about several runs: ``?runs=id,id``; unknown runs are left out."""
        found = {}
        for run_id in request.query_params.get("runs", "").split(",")[:MAX_CURVES]:
            with contextlib.suppress(RunNotFoundError):
                found[run_id] = self._findings(run_id)
        return _json(found)

    def _findings(self, run_id: str) -> list[dict[str, Any]]:
        return [finding.to_dict() for finding in self._manager.findings(run_id)]

    def export(self, request: Request) -> Response:
        """The adapter with its card and script."""
        paths = self._manager.store.paths(request.path_params["run_id"])
        buffer = io.BytesIO()
        export_zip(paths, buffer)
        headers = {**_NO_STORE, "Content-Disposition": f'attachment; filename="{paths.id}.zip"'}
        return Response(buffer.getvalue(), media_type="application/zip", headers=headers)

    def compare(self, request: Request) -> Response:
        """The comparison as CSV; ``?runs=a,b`` limits it."""
        wanted = {name for name in request.query_params.get("runs", "").split(",") if name}
        infos = [info for info in self._manager.list() if not wanted or info.id in wanted]
        text = io.StringIO()
        csv.writer(text).writerows(csv_rows(infos))
        headers = {**_NO_STORE, "Content-Disposition": 'attachment; filename="peft-studio-runs.csv"'}
        return Response(text.getvalue(), media_type="text/csv", headers=headers)

    def act(self, request: Request) -> Response:
        """Does one of ``RunInfo.actions``; only a page of this very host may ask."""
        if not same_origin(request):
            return JSONResponse({"error": "This request came from another site."}, 403)
        run_id, action, manager = request.path_params["run_id"], request.path_params["action"], self._manager
        actions: dict[str, Callable[[], object]] = {
            "pause": lambda: manager.pause(run_id),
            "resume": lambda: manager.resume(run_id),
            "stop": lambda: manager.stop(run_id),
            "extend": lambda: manager.extend(run_id, _steps(request)),
            "hold": lambda: manager.hold(run_id),
            "release": lambda: manager.hold(run_id, held=False),
            "front": lambda: manager.move(run_id, "front"),
            "up": lambda: manager.move(run_id, "up"),
            "down": lambda: manager.move(run_id, "down"),
            "prioritize": lambda: manager.prioritize(run_id, request.query_params.get("to", "")),
            "delete": lambda: manager.delete(run_id),
        }
        if action not in actions:
            return JSONResponse({"error": f"There is no action {action!r}; allowed: {', '.join(actions)}."}, 404)
        actions[action]()
        return _json({"ok": True})

    def act_on_queue(self, request: Request) -> Response:
        """Has the queue stand still or go on; only a page of this very host may ask."""
        if not same_origin(request):
            return JSONResponse({"error": "This request came from another site."}, 403)
        action = request.path_params["action"]
        if action not in ("pause", "start"):
            return JSONResponse({"error": f"There is no action {action!r}; allowed: pause, start."}, 404)
        self._manager.pause_queue(action == "pause")
        return _json({"ok": True})


def _steps(request: Request) -> int:
    asked = request.query_params.get("steps", "")
    if not asked.isdecimal():
        raise InvalidStateError(f"steps = {asked!r} is not a number of steps; allowed: 1, 2, 3 and so on.")
    return int(asked[:12])


def same_origin(request: Request) -> bool:
    """Whether a request's ``Origin`` names the host it was sent to, which a browser cannot be made to forge."""
    origin = request.headers.get("origin", "")
    host = request.headers.get("x-forwarded-host") or request.headers.get("host", "")
    return bool(origin) and urlsplit(origin).netloc == host


def static_file(request: Request) -> Response:
    """A script of ours, by an address that changes with it."""
    path = STATIC / request.path_params["name"]
    if path.parent != STATIC or path.suffix != ".js" or not path.is_file():
        return PlainTextResponse("Not found", 404)
    # A page of an earlier version may ask with its own address for what is newer now.
    fresh = request.path_params["version"] == STATIC_VERSION
    return FileResponse(path, media_type="text/javascript", headers=_FOREVER if fresh else _NO_STORE)


def plotly_file(_request: Request) -> Response:
    """plotly.js out of the installed ``plotly`` package."""
    return Response(_plotly(), media_type="text/javascript", headers={"Content-Encoding": "gzip", **_FOREVER})


@lru_cache(maxsize=1)
def _plotly() -> bytes:
    import importlib.util

    spec = importlib.util.find_spec("plotly")  # found, not imported: only a file of it is needed
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("The plotly package is not installed.")
    path = Path(spec.submodule_search_locations[0]) / "package_data" / "plotly.min.js"
    return gzip.compress(path.read_bytes(), 6)
