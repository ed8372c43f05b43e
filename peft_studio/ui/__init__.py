"""The web page: its tabs over a job manager. Never imports torch; nothing here holds state of a run."""

import contextlib
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import gradio as gr
from starlette.applications import Starlette
from starlette.middleware import Middleware

from peft_studio.access.bodies import MIB, BodyLimits
from peft_studio.access.entrance import Entrance
from peft_studio.access.gate import Gate, SignedIn
from peft_studio.access.kept_page import KeptPage
from peft_studio.access.patience import bound_header_time
from peft_studio.access.room import Room
from peft_studio.access.shares import Shares
from peft_studio.errors import StorageError
from peft_studio.jobs.manager import JobManager
from peft_studio.settings import Access, Settings
from peft_studio.tasks.tables import MAX_BYTES
from peft_studio.ui import api, inside, learn, room, train
from peft_studio.ui.answers import generate
from peft_studio.ui.context import Studio, keep_rights
from peft_studio.ui.routes import all_routes
from peft_studio.ui.shell import HEAD, SCRIPTS, STYLES, island, make_theme
from peft_studio.ui.storage import MAX_UPLOAD
from peft_studio.ui.uploads import clean_uploads, use_askers


def _islands(*kinds: tuple[str, str]) -> Callable[[Studio], None]:
    """A tab that is drawn by scripts in ``static`` alone, from the page's own routes: kinds and ids of its islands."""

    def build(_studio: Studio) -> None:
        for kind, elem_id in kinds:
            island(kind, elem_id=elem_id)

    return build


HOUSE_SECONDS = 3600.0  # between two looks after what nobody needs any more
TABS = (
    ("Train", train.build),
    ("Runs", _islands(("chart", "runs-chart"), *((name, name) for name in ("runs", "sharing", "mine", "storage")))),
    ("Compare", _islands(("compare", "compare"))),
    ("Experiments", _islands(("experiments", "experiments"))),
    ("Generate", generate.build),
    ("Inside", inside.build),
    ("Learn", learn.build),
)


def build_app(manager: JobManager, settings: Settings) -> gr.Blocks:
    """Makes the page."""
    use_askers()
    studio = Studio(manager, settings)
    is_class = settings.access is Access.CLASS
    tabs = (*TABS, ("Room", room.build)) if is_class else TABS
    with gr.Blocks(title="PEFT Studio", fill_width=True, analytics_enabled=False) as demo:
        island("header", {"cores": os.cpu_count() or 1}, elem_id="header")
        if is_class:
            island("roomstate", elem_id="room-state")
        studio.bridge = island("bridge", elem_id="bridge", event="fill")
        with gr.Tabs(elem_id="tabs") as studio.tabs:
            for title, build in tabs:
                hidden = title == "Room"  # until it is known that a teacher opens the page
                with gr.Tab(title, id=title.lower(), elem_id=f"tab-{title.lower()}", visible=not hidden) as tab:
                    studio.tab[title.lower()] = tab
                    if is_class and title == "Train":
                        island("roomquestion", elem_id="room-question")
                    build(studio)
        api.build(studio)
        for on_load in studio.on_load:
            on_load(demo)
    keep_rights(demo, settings.access)
    return demo


def app_parts(manager: JobManager, entrance: Entrance) -> dict[str, Any]:
    """What is given to the web app that Gradio makes: our routes, and the gate ahead of everything."""
    settings = manager.settings
    limits = BodyLimits(larger={"/gradio_api/upload": MAX_BYTES + MIB, "/studio/import": MAX_UPLOAD})

    @contextlib.asynccontextmanager
    async def gated(app: Starlette) -> AsyncIterator[None]:
        # Gradio puts its own middleware before any that it is given; when the app starts, all of it is in place.
        if app.middleware_stack is not None and not isinstance(app.middleware_stack, Gate):
            app.middleware_stack = Gate(
                app.middleware_stack, settings, entrance, limits, manager.share.budgets.allow_request
            )
        yield

    inner = [Middleware(SignedIn, settings=settings), Middleware(KeptPage)]
    return {"routes": all_routes(manager), "middleware": inner, "lifespan": gated}


def _keep_house(manager: JobManager, shares: Shares) -> None:
    """Removes every hour what nobody needs any more, for as long as the app runs."""
    settings = manager.settings
    while True:
        for owner in manager.belongings.expire(manager.delete):
            shares.forget(owner)
        clean_uploads(settings.home, settings.runs_dir)
        time.sleep(HOUSE_SECONDS)


def launch(demo: gr.Blocks, manager: JobManager, settings: Settings) -> str:
    """Serves the page and returns; the server runs in a thread.

    Returns:
        The token by which the owner of the app is known.

    Raises:
        OSError: The port is taken.
        StorageError: The gate is not in its place.
    """
    a_class = Room(settings, f"{SCRIPTS}/words.js") if settings.access is Access.CLASS else None
    entrance = Entrance(settings, Shares(settings.home), a_class)
    threading.Thread(target=_keep_house, args=(manager, entrance.shares), daemon=True, name="house").start()
    # Gradio's queue otherwise wakes a thousand times a second while nothing happens.
    demo._queue.sleep_when_free = 0.02
    demo._queue.progress_update_sleep_when_free = 0.1
    bound_header_time()
    demo.launch(
        server_name=settings.host, server_port=settings.port,
        app_kwargs=app_parts(manager, entrance),
        prevent_thread_lock=True, show_error=True, quiet=True, max_file_size=MAX_BYTES, state_session_capacity=500,
        theme=make_theme(), css_paths=list(STYLES), head=HEAD, footer_links=[],
        run_history=False, enable_monitoring=False, ssr_mode=False, pwa=False, mcp_server=True,
    )  # fmt: skip
    if not isinstance(demo.app.middleware_stack, Gate):
        demo.close(verbose=False)
        raise StorageError("The app is not safe to be served: its gate is not in place.")
    if a_class is not None:
        where = f"http://{settings.host}:{settings.port}/?tab=room&token={a_class.key}"
        print(f"The room's code is {a_class.code}; its teacher opens {where}", flush=True)
    return entrance.token
