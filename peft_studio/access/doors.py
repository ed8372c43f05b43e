"""Who may ask for which address that is Gradio's own; ours below ``/studio/`` name their rights themselves."""

from collections.abc import Mapping
from typing import Literal

from peft_studio.access.rights import Right

OPEN: Literal["open"] = "open"
"""For everybody, also for whoever is nobody: files of programs, and the way in."""
CLOSED: Literal["closed"] = "closed"
"""For nobody: parts of Gradio that this app does not use."""
Door = Right | Literal["open", "closed"]

EXACT: Mapping[str, Door] = {
    "/": Right.LOOK,
    "/config": Right.LOOK,
    "/theme.css": OPEN,
    "/favicon.ico": OPEN,
    "/robots.txt": OPEN,
    "/manifest.json": OPEN,
    "/pwa_icon": OPEN,
    "/openapi.json": Right.LOOK,
    "/login": CLOSED,
    "/login/huggingface": OPEN,
    "/login/callback": OPEN,
    "/logout": OPEN,
    "/monitoring": CLOSED,
    "/gradio_api/startup-events": OPEN,
    "/gradio_api/theme.css": OPEN,
    "/gradio_api/app_id": Right.LOOK,
    "/gradio_api/info": Right.LOOK,
    "/gradio_api/openapi.json": Right.LOOK,
    "/gradio_api/user": Right.LOOK,
    "/gradio_api/login_check": Right.LOOK,
    "/gradio_api/token": CLOSED,
    "/gradio_api/deep_link": CLOSED,
    "/gradio_api/dev/reload": CLOSED,
    "/gradio_api/runs": CLOSED,
    "/gradio_api/queue/join": Right.LOOK,
    "/gradio_api/queue/data": Right.LOOK,
    "/gradio_api/queue/status": Right.LOOK,
    "/gradio_api/cancel": Right.LOOK,
    "/gradio_api/reset": Right.LOOK,
    "/gradio_api/upload": Right.TRAIN,
    "/gradio_api/upload_progress": Right.TRAIN,
    "/gradio_api/component_server": CLOSED,
    "/gradio_api/process_recording": CLOSED,
    "/gradio_api/vibe-edit": CLOSED,
    "/gradio_api/undo-vibe-edit": CLOSED,
    "/gradio_api/vibe-code": CLOSED,
    "/gradio_api/vibe-starter-queries": CLOSED,
    "/gradio_api/mcp": Right.LOOK,
}
"""Door of an address, without a slash at its end. What a function does passes the table of rights once more."""

BELOW: Mapping[str, Door] = {
    "/studio/static/": OPEN,
    "/studio/": Right.LOOK,
    "/static/": OPEN,
    "/assets/": OPEN,
    "/svelte/": OPEN,
    "/pwa_icon/": OPEN,
    "/monitoring/": CLOSED,
    "/gradio_api/call/": Right.LOOK,
    "/gradio_api/run/": Right.LOOK,
    "/gradio_api/api/": Right.LOOK,
    "/gradio_api/heartbeat/": Right.LOOK,
    "/gradio_api/mcp/": Right.LOOK,
    "/gradio_api/file=": Right.RUN_APP,
    "/gradio_api/file/": Right.RUN_APP,
    "/gradio_api/proxy=": CLOSED,
    "/gradio_api/stream/": CLOSED,
    "/gradio_api/run-history/": CLOSED,
    "/gradio_api/custom_component/": CLOSED,
    "/gradio_api/profiling/": CLOSED,
}
"""Door of all addresses with a beginning."""


def door_of(path: str) -> Door | None:
    """Who may ask for an address; None for one that no row names."""
    found = EXACT.get(path.rstrip("/") or "/")
    if found is not None:
        return found
    return next((door for start, door in BELOW.items() if path.startswith(start)), None)
