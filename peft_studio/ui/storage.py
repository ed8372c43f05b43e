"""What runs take on the disk, on the page: sizes, freeing, stars, and whole runs as files to take away or bring."""

import asyncio
import os
import tempfile
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import BaseRoute

from peft_studio.access.rights import Right
from peft_studio.access.visitors import Role, asker
from peft_studio.archives.adapter_archive import exportable, pack_merged
from peft_studio.errors import StorageError
from peft_studio.jobs.actions import actions_on
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.housekeeping import is_starred
from peft_studio.ui.http import endpoint

MAX_UPLOAD = 2 * 2**30  # bytes of a packed run
UNPACKED_AT_A_TIME = 2


def storage_routes(manager: JobManager) -> list[BaseRoute]:
    """Routes below ``/studio`` that tell sizes, and that send and receive whole runs."""
    api, take_in = _Storage(manager), actions_on("home")["import"]
    return [
        endpoint("/studio/storage.json", api.use),
        endpoint("/studio/archive/{run_id}.zip", api.export),
        endpoint("/studio/merged/{run_id}.zip", api.merged, "POST", Right.TAKE),
        endpoint(f"/studio/{take_in.name}", api.take_in, "POST", take_in.right),
    ]


class _Storage:
    """The handlers."""

    def __init__(self, manager: JobManager) -> None:
        self._manager = manager
        self._unpacking = asyncio.Semaphore(UNPACKED_AT_A_TIME)

    def use(self, _request: Request) -> object:
        """What every run takes, and all of them; with the stars."""
        use = self._manager.keeper.measure(self._manager.library.list()).to_dict()
        starred = [run["id"] for run in use["runs"] if is_starred(self._manager.store.paths(run["id"]))]
        trouble = self._manager.trouble if asker().role is Role.OWNER else ""  # it names the home folder
        return {**use, "warning": trouble or use["warning"], "starred": starred}

    def export(self, request: Request) -> object:
        """A whole run as a zip, written to a file of its own that goes once it is sent."""
        run_id = self._manager.library.paths(request.path_params["run_id"], Right.TAKE).id
        path = self._temporary()
        try:
            self._manager.export_run(run_id, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        remove = BackgroundTask(path.unlink, missing_ok=True)
        return FileResponse(path, media_type="application/zip", filename=f"run-{run_id}.zip", background=remove)

    def merged(self, request: Request) -> object:
        """Base and adapter as one model, made by the engine, in a zip of its own that goes once it is sent."""
        paths = self._manager.library.paths(request.path_params["run_id"], Right.TAKE)
        exportable(paths)
        path = self._temporary()
        try:
            with tempfile.TemporaryDirectory(prefix="merged-", dir=self._manager.settings.cache_dir) as name:
                difference = self._manager.engine.merge(paths.id, Path(name))
                pack_merged(paths, Path(name), difference, path)
        except OSError as exc:
            path.unlink(missing_ok=True)
            raise StorageError(f"The merged model could not be written: {exc.strerror or exc}.") from exc
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        remove = BackgroundTask(path.unlink, missing_ok=True)
        return FileResponse(path, media_type="application/zip", filename=f"merged-{paths.id}.zip", background=remove)

    async def take_in(self, request: Request) -> object:
        """Takes in a packed run, which is the request's body."""
        told = request.headers.get("content-length", "0")
        _check_size(int(told[:18]) if told.isdecimal() else MAX_UPLOAD + 1)
        path = self._temporary()
        try:
            await _receive(request, path)  # the gate ends what comes slowly; it takes nobody else's place meanwhile
            async with self._unpacking:
                return {"run_id": await run_in_threadpool(self._manager.import_run, path)}
        finally:
            path.unlink(missing_ok=True)

    def _temporary(self) -> Path:
        folder = self._manager.settings.cache_dir
        try:
            handle, name = tempfile.mkstemp(".zip", "transfer-", folder)
        except OSError as exc:
            raise StorageError(f"{folder} cannot be written: {exc.strerror or exc}.") from exc
        os.close(handle)
        return Path(name)


def _check_size(size: int) -> None:
    if size > MAX_UPLOAD:
        raise HTTPException(413, f"The file is larger than the {MAX_UPLOAD:,} bytes allowed.")


async def _receive(request: Request, path: Path) -> None:
    """Writes a request's body to a file."""
    received = 0
    try:
        with path.open("wb") as file:
            async for chunk in request.stream():
                received += len(chunk)
                _check_size(received)
                await run_in_threadpool(file.write, chunk)
    except OSError as exc:
        raise StorageError(f"The file could not be received: {exc.strerror or exc}.") from exc
