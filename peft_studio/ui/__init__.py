"""The web page: five tabs over a job manager. Never imports torch; nothing here holds state of a run."""

import os
import threading
from collections.abc import Callable

import gradio as gr
from starlette.middleware import Middleware

from peft_studio.jobs.manager import JobManager
from peft_studio.settings import Settings
from peft_studio.tasks.tables import MAX_BYTES
from peft_studio.ui import api, generate, learn, train
from peft_studio.ui.context import Studio
from peft_studio.ui.http import LocalNamesOnly
from peft_studio.ui.routes import all_routes
from peft_studio.ui.shell import HEAD, STYLES, island
from peft_studio.ui.theme import make_theme
from peft_studio.ui.uploads import clean_uploads, use_askers


def _islands(*kinds: tuple[str, str]) -> Callable[[Studio], None]:
    """A tab that is drawn by scripts in ``static`` alone, from the page's own routes: kinds and ids of its islands."""

    def build(_studio: Studio) -> None:
        for kind, elem_id in kinds:
            island(kind, elem_id=elem_id)

    return build


TABS = (
    ("Train", train.build),
    ("Runs", _islands(("chart", "runs-chart"), ("runs", "runs"), ("storage", "storage"))),
    ("Compare", _islands(("compare", "compare"))),
    ("Generate", generate.build),
    ("Learn", learn.build),
)


def build_app(manager: JobManager, settings: Settings) -> gr.Blocks:
    """Makes the page."""
    use_askers()
    studio = Studio(manager, settings)
    with gr.Blocks(title="PEFT Studio", fill_width=True, analytics_enabled=False) as demo:
        home = "" if settings.public else str(settings.home)  # visitors see no folder of the server
        island("header", {"home": home, "cores": os.cpu_count() or 1}, elem_id="header")
        studio.bridge = island("bridge", elem_id="bridge", event="fill")
        with gr.Tabs(elem_id="tabs") as studio.tabs:
            for title, build in TABS:
                with gr.Tab(title, id=title.lower()) as tab:
                    studio.tab[title.lower()] = tab
                    build(studio)
        api.build(studio)
        for on_load in studio.on_load:
            on_load(demo)
    return demo


def launch(demo: gr.Blocks, manager: JobManager, settings: Settings) -> None:
    """Serves the page and returns; the server runs in a thread.

    Raises:
        OSError: The port is taken.
    """
    threading.Thread(target=clean_uploads, args=(settings.home, settings.runs_dir), daemon=True).start()
    # Gradio's queue otherwise wakes a thousand times a second while nothing happens.
    demo._queue.sleep_when_free = 0.02
    demo._queue.progress_update_sleep_when_free = 0.1
    demo.launch(
        server_name=settings.host, server_port=settings.port,
        app_kwargs={"routes": all_routes(manager), "middleware": [Middleware(LocalNamesOnly)]},
        prevent_thread_lock=True, show_error=True, quiet=True, max_file_size=MAX_BYTES, state_session_capacity=500,
        theme=make_theme(), css_paths=list(STYLES), head=HEAD, footer_links=[],
        run_history=False, enable_monitoring=False, ssr_mode=False, pwa=False,
    )  # fmt: skip
