"""The page's own routes: JSON for lists and live curves, files, and the buttons that change a run or the queue.

They answer without Gradio's queue, so that a hundred open pages cost little.
"""

import contextlib
import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute

from peft_studio.access.rights import Right
from peft_studio.access.visitors import Role, asker
from peft_studio.archives.adapter_archive import export_zip
from peft_studio.errors import RunNotFoundError
from peft_studio.experiments.forecast import told_forecast
from peft_studio.experiments.lab import Lab
from peft_studio.jobs.actions import Action, actions_on
from peft_studio.jobs.manager import JobManager
from peft_studio.jobs.run_list import RunList, plain
from peft_studio.runs.reader import RunInfo
from peft_studio.settings import Access
from peft_studio.ui.answers.ask import ask_routes
from peft_studio.ui.details import run_details, settings_of
from peft_studio.ui.http import Handler, endpoint, file_name, safe_cell, told
from peft_studio.ui.hub import hub_routes
from peft_studio.ui.inside import inside_routes
from peft_studio.ui.lab.routes import experiment_routes
from peft_studio.ui.methods import library
from peft_studio.ui.room import room_routes
from peft_studio.ui.room.question import RoomQuestion
from peft_studio.ui.shell import static_routes
from peft_studio.ui.storage import storage_routes
from peft_studio.ui.visitor import visitor_routes

MAX_CURVES = 64
MAX_COMPARED = 200  # runs whose settings are asked for at once
CSV_FIELDS = (
    "id", "title", "method", "model", "task", "status", "learning_rate", "step", "trainable_params", "total_params",
    "trainable_share", "adapter_bytes", "peak_memory_bytes", "seconds", "steps_per_second", "tokens_per_second",
    "best_eval_loss", "best_step", "saved_step",
)  # fmt: skip


def all_routes(manager: JobManager) -> list[BaseRoute]:
    """Everything below ``/studio``."""
    question = RoomQuestion(manager) if manager.settings.access is Access.CLASS else None
    return [
        *hub_routes(manager.fetcher, manager.share.check_kept),
        *storage_routes(manager),
        *visitor_routes(manager),
        *room_routes(manager, question),
        *inside_routes(manager),
        *ask_routes(manager),
        *experiment_routes(Lab(manager)),
        *routes(manager, question),
    ]


def routes(manager: JobManager, question: RoomQuestion | None = None) -> list[BaseRoute]:
    """The routes of runs and their queue, and static files; the more special ones are put before them."""
    api = _Api(manager, question)
    runs = [_route(manager, "/studio/runs/{run_id}", action) for action in actions_on("run").values()]
    queue = [_route(manager, "/studio/queue", action) for action in actions_on("queue").values()]
    return [
        *static_routes(),
        endpoint("/studio/runs.json", api.runs),
        endpoint("/studio/queue.json", api.queue),
        endpoint("/studio/metrics.json", api.metrics),
        endpoint("/studio/findings.json", api.findings),
        endpoint("/studio/settings.json", api.settings),
        endpoint("/studio/library.json", lambda _request: library()),
        endpoint("/studio/runs/{run_id}/details", api.details),
        endpoint("/studio/log/{run_id}", api.log),
        endpoint("/studio/export/{run_id}.zip", api.export),
        endpoint("/studio/compare.csv", api.compare),
        *runs,
        *queue,
        endpoint("/studio/runs/{run_id}/{action}", _no_action(actions_on("run")), "POST"),
        endpoint("/studio/queue/{action}", _no_action(actions_on("queue")), "POST"),
    ]


def _route(manager: JobManager, path: str, action: Action) -> BaseRoute:
    """The route of an action; its parameters come from the query."""

    def act(request: Request) -> object:
        values = {one.name: request.query_params.get(one.query or one.name) for one in action.parameters}
        return action.answer(action.do(manager, request.path_params.get("run_id"), values))

    return endpoint(f"{path}/{action.name}", act, "POST", action.right)


def _no_action(allowed: Iterable[str]) -> Handler:
    def refuse(request: Request) -> object:
        action = request.path_params["action"]
        raise HTTPException(404, f"There is no action {action!r}; allowed: {', '.join(allowed)}.")

    return refuse


class _Api:
    """The handlers; they run in Starlette's thread pool."""

    def __init__(self, manager: JobManager, question: RoomQuestion | None) -> None:
        self._manager = manager
        self._question = question
        self._list = RunList(manager.library.all, manager.settings.access)

    def runs(self, request: Request) -> object:
        """Every run, newest first, without its config; with ``?since=``, what changed: see `RunList.since`.

        That, whether the queue stands still and a student's question are one answer: pages ask for it all the time.
        """
        self._manager.belongings.visited(asker().id)
        since = request.query_params.get("since")
        if since is not None:
            told = {**self._list.since(count(since)), "paused": self._manager.queue.state().paused}
            if self._question is not None and asker().role is Role.VISITOR:
                told["question"] = self._question.part(asker().id)
            return told
        return [plain(info, self._manager.settings.access) for info in self._manager.library.list()]

    def queue(self, _request: Request) -> object:
        """Whether the queue stands still, and what is foretold: `experiments.forecast`; who waits is in the list."""
        return {"paused": self._manager.queue.state().paused, **told_forecast(self._manager)}

    def metrics(self, request: Request) -> object:
        """New points of several curves: ``?runs=id:since,id:since``; unknown runs are left out."""
        deltas = []
        for item in request.query_params.get("runs", "").split(",")[:MAX_CURVES]:
            run_id, _, since = item.partition(":")
            with contextlib.suppress(RunNotFoundError):
                deltas.append(self._manager.library.series(run_id, count(since)))
        return deltas

    def log(self, request: Request) -> object:
        """The end of a run's log, as text."""
        text = self._manager.library.log_tail(request.path_params["run_id"])
        return PlainTextResponse(told(text), headers={"X-Content-Type-Options": "nosniff"})

    def details(self, request: Request) -> object:
        """Findings, test figures, the check after saving, confusion matrix and ranks of a run."""
        run_id = request.path_params["run_id"]
        library = self._manager.library
        saved = library.latest_event(run_id, "saved")
        details = run_details(library.info(run_id), library.paths(run_id), saved)
        return {**details, "findings": self._findings(run_id), "notes": library.notes(run_id)}

    def findings(self, request: Request) -> object:
        """What the doctor says about several runs: ``?runs=id,id``; unknown runs are left out."""
        found = {}
        for run_id in request.query_params.get("runs", "").split(",")[:MAX_CURVES]:
            with contextlib.suppress(RunNotFoundError):
                found[run_id] = self._findings(run_id)
        return found

    def settings(self, request: Request) -> object:
        """What several runs are set to: ``?runs=id,id``; unknown runs are left out. See `details.settings_of`."""
        infos = []
        for run_id in request.query_params.get("runs", "").split(",")[:MAX_COMPARED]:
            with contextlib.suppress(RunNotFoundError):
                infos.append(self._manager.library.info(run_id))
        return settings_of(infos)

    def _findings(self, run_id: str) -> list[dict[str, Any]]:
        return [finding.to_dict() for finding in self._manager.library.findings(run_id)]

    def export(self, request: Request) -> object:
        """The adapter with its card and script; with ``?rows=1`` the data's rows, too."""
        paths = self._manager.library.paths(request.path_params["run_id"], Right.TAKE)
        buffer = io.BytesIO()
        export_zip(paths, buffer, rows=request.query_params.get("rows") == "1")
        headers = {"Content-Disposition": f'attachment; filename="{file_name(paths.id)}.zip"'}
        return Response(buffer.getvalue(), media_type="application/zip", headers=headers)

    def compare(self, request: Request) -> object:
        """The comparison as CSV; ``?runs=a,b`` limits it."""
        wanted = {name for name in request.query_params.get("runs", "").split(",") if name}
        infos = [info for info in self._manager.library.list() if not wanted or info.id in wanted]
        text = io.StringIO()
        csv.writer(text).writerows(csv_rows(infos))
        headers = {"Content-Disposition": 'attachment; filename="peft-studio-runs.csv"'}
        return Response(text.getvalue(), media_type="text/csv", headers=headers)


def count(text: str) -> int:
    """A count of a query; 0 for what is none, or larger than any can be."""
    return int(text) if text.isdecimal() and len(text) < 20 else 0


def csv_rows(infos: Sequence[RunInfo]) -> Iterable[list[Any]]:
    """Header and rows, in the order of the runs; a value that is not known is an empty cell."""
    metrics = sorted({name for info in infos for name in info.metrics})
    scored = sorted({name for info in infos for name in info.tokenizers})
    yield list(map(safe_cell, [*CSV_FIELDS, *metrics, *(f"tokenizer/{name}" for name in scored)]))
    for info in infos:
        values = [getattr(info, name) for name in CSV_FIELDS]
        values += [info.metrics.get(name) for name in metrics] + [info.tokenizers.get(name) for name in scored]
        yield list(map(safe_cell, values))
