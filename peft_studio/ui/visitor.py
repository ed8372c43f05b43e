"""Who one is to this app, and the links by which one shows one's runs to others."""

from starlette.requests import Request
from starlette.routing import BaseRoute

from peft_studio.access.entrance import Entrance
from peft_studio.access.rights import Right
from peft_studio.access.shares import Shares
from peft_studio.access.visitors import Role, asker
from peft_studio.errors import ConfigError
from peft_studio.jobs.manager import JobManager
from peft_studio.ui.http import endpoint


def visitor_routes(manager: JobManager) -> list[BaseRoute]:
    """Routes below ``/studio`` that tell a page who has it open, and that make and take back links."""

    def me(_request: Request) -> object:
        visitor = asker()
        told = {"role": visitor.role.value, "name": visitor.name, "access": manager.settings.access.value}
        return {**told, "home": str(manager.settings.home) if visitor.role is Role.OWNER else ""}

    def share(request: Request) -> object:
        runs = _wanted(request)
        for run in runs:
            manager.library.paths(run, Right.TAKE)
        entrance, shares = _links(request)
        return {"share": entrance.shared_link(shares.add(asker().id, runs).id), "runs": runs}

    def withdraw(request: Request) -> object:
        return {"withdrawn": _links(request)[1].withdraw(asker().id, _wanted(request))}

    def links(request: Request) -> object:
        entrance, shares = _links(request)
        return [{"share": entrance.shared_link(one.id), "runs": one.runs} for one in shares.of(asker().id)]

    return [
        endpoint("/studio/me.json", me),
        endpoint("/studio/shares.json", links),
        endpoint("/studio/share", share, "POST"),
        endpoint("/studio/unshare", withdraw, "POST"),
    ]


def _wanted(request: Request) -> list[str]:
    """The runs that a request names."""
    runs = [run for run in request.query_params.get("runs", "").split(",") if run]
    if not runs:
        raise ConfigError("No run is named; allowed: ids of your runs, with commas between them.", "runs")
    return runs


def _links(request: Request) -> tuple[Entrance, Shares]:
    entrance: Entrance = request.scope["state"]["entrance"]
    return entrance, entrance.shares
