"""What runs take on the disk, on the page: sizes, freeing, stars, and whole runs as files to take away or bring."""

import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from peft_studio.errors import RunNotFoundError, StorageError, StudioError
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.housekeeping import is_starred, set_star
from peft_studio.ui.routes import same_origin

MAX_UPLOAD = 2 * 2**30  # bytes of a packed run
UPLOADS_AT_A_TIME = 2
_NO_STORE = {"Cache-Control": "no-store"}

Handler = Callable[[Request], Awaitable[Response]]


def storage_routes(manager: JobManager) -> list[BaseRoute]:
    """Routes below ``/studio``, to be put before those of `routes.routes`, whose patterns are wider."""
    api = _Storage(manager)
    return [
        Route("/studio/storage.json", _words(api.use)),
        Route("/studio/archive/{run_id}.zip", _words(api.export)),
        Route("/studio/import", _words(api.take_in), methods=["POST"]),
        Route("/studio/runs/{run_id}/free", _words(api.free), methods=["POST"]),
        Route("/studio/runs/{run_id}/star", _words(api.star), methods=["POST"]),
    ]


def _words(handler: Handler) -> Handler:
    """Refuses changes that another site asks for, and answers a ``StudioError`` with its words."""

    async def answer(request: Request) -> Response:
        if request.method not in ("GET", "HEAD") and not same_origin(request):
            return JSONResponse({"error": "This request came from another site."}, 403)
        try:
            return await handler(request)
        except StudioError as exc:
            return JSONResponse({"error": str(exc)}, 404 if isinstance(exc, RunNotFoundError) else 409)

    return answer


class _Storage:
    """The handlers; what touches the disk runs in Starlette's thread pool."""

    def __init__(self, manager: JobManager) -> None:
        self._manager = manager
        self._uploads = asyncio.Semaphore(UPLOADS_AT_A_TIME)

    async def use(self, _request: Request) -> Response:
        """What every run takes, and all of them; with the stars."""
        return JSONResponse(await run_in_threadpool(self._use), headers=_NO_STORE)

    def _use(self) -> dict[str, object]:
        use = self._manager.keeper.measure(self._manager.list()).to_dict()
        starred = [run["id"] for run in use["runs"] if is_starred(self._manager.store.paths(run["id"]))]
        return {**use, "warning": self._manager.trouble or use["warning"], "starred": starred}

    async def free(self, request: Request) -> Response:
        """Removes a run's checkpoint."""
        freed = await run_in_threadpool(self._manager.free_checkpoint, request.path_params["run_id"])
        return JSONResponse({"ok": True, "freed": freed})

    async def star(self, request: Request) -> Response:
        """Marks a run as worth keeping; ``?on=0`` takes the mark away."""
        paths = self._manager.store.paths(request.path_params["run_id"])
        await run_in_threadpool(set_star, paths, request.query_params.get("on") != "0")
        return JSONResponse({"ok": True})

    async def export(self, request: Request) -> Response:
        """A whole run as a zip, written to a file of its own that goes once it is sent."""
        run_id = request.path_params["run_id"]
        path = self._temporary()
        try:
            await run_in_threadpool(self._manager.export_run, run_id, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        remove = BackgroundTask(path.unlink, missing_ok=True)
        return FileResponse(
            path, media_type="application/zip", filename=f"run-{run_id}.zip", headers=_NO_STORE, background=remove
        )

    async def take_in(self, request: Request) -> Response:
        """Takes in a packed run, which is the request's body."""
        if not _size(request) <= MAX_UPLOAD:
            return JSONResponse({"error": f"The file is larger than the {MAX_UPLOAD:,} bytes allowed."}, 413)
        path = self._temporary()
        try:
            async with self._uploads:
                if not await _receive(request, path):
                    return JSONResponse({"error": f"The file is larger than the {MAX_UPLOAD:,} bytes allowed."}, 413)
                run_id = await run_in_threadpool(self._manager.import_run, path)
        finally:
            path.unlink(missing_ok=True)
        return JSONResponse({"run_id": run_id})

    def _temporary(self) -> Path:
        try:
            handle, name = tempfile.mkstemp(".zip", "transfer-", self._manager.settings.cache_dir)
        except OSError as exc:
            raise StorageError(
                f"{self._manager.settings.cache_dir} cannot be written: {exc.strerror or exc}."
            ) from exc
        os.close(handle)
        return Path(name)


def _size(request: Request) -> int:
    told = request.headers.get("content-length", "0")
    return int(told) if told.isdecimal() else MAX_UPLOAD + 1


async def _receive(request: Request, path: Path) -> bool:
    """Writes a request's body to a file; False when it is too long."""
    received = 0
    try:
        with path.open("wb") as file:
            async for chunk in request.stream():
                received += len(chunk)
                if received > MAX_UPLOAD:
                    return False
                await run_in_threadpool(file.write, chunk)
    except OSError as exc:
        raise StorageError(f"The file could not be received: {exc.strerror or exc}.") from exc
    return True
