"""Who one is to this app, what one has here, and the links by which one shows one's runs to others."""

from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import BaseRoute

from peft_studio.access.budgets import is_bound
from peft_studio.access.entrance import Entrance
from peft_studio.access.rights import Right
from peft_studio.access.shares import Shares
from peft_studio.access.visitors import Role, Visitor, asker
from peft_studio.errors import ConfigError, InvalidStateError, NotAllowedError
from peft_studio.jobs.manager import JobManager
from peft_studio.runs.status import Status
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
        entrance, shares = _links(request)
        if one := request.query_params.get("share"):
            return {"withdrawn": shares.take_back(asker().id, entrance.link_of(one))}
        return {"withdrawn": shares.withdraw(asker().id, _wanted(request))}

    def links(request: Request) -> object:
        entrance, shares = _links(request)
        return [{"share": entrance.shared_link(one.id), "runs": one.runs} for one in shares.of(asker().id)]

    def mine(_request: Request) -> object:
        return _use_of(manager, asker())

    def take_along(_request: Request) -> object:
        headers = {"Content-Disposition": 'attachment; filename="peft-studio-mine.zip"'}
        packed = manager.belongings.packed(asker().id)
        return StreamingResponse(packed, media_type="application/zip", headers=headers)

    def delete(request: Request) -> object:
        owner, shares = asker().id, _links(request)[1]
        if (role := asker().role) is not Role.VISITOR:
            error = InvalidStateError if role in (Role.OWNER, Role.TEACHER) else NotAllowedError
            raise error("Only a visitor's things are deleted all at once; the owner deletes run by run.")
        shares.forget(owner)
        return {"busy": manager.belongings.delete(owner, manager.stop, manager.delete)}

    return [
        endpoint("/studio/me.json", me),
        endpoint("/studio/mine.json", mine),
        endpoint("/studio/mine.zip", take_along, right=Right.TAKE),
        endpoint("/studio/mine/delete", delete, "POST"),
        endpoint("/studio/shares.json", links),
        endpoint("/studio/share", share, "POST"),
        endpoint("/studio/unshare", withdraw, "POST"),
    ]


def _use_of(manager: JobManager, visitor: Visitor) -> dict[str, Any]:
    """What somebody has, what they have used of each limit, and when their things expire."""
    settings, share = manager.settings, manager.share
    runs, kept = manager.belongings.runs(visitor.id), manager.belongings.kept([visitor.id])[0]
    used: dict[str, float | None] = {
        "most_running": sum(info.status.is_active for info in runs),
        "most_queued": sum(info.status is Status.QUEUED for info in runs),
        "most_mb": kept / 1e6,
        **share.budgets.used(visitor),
        "most_tokens": None,
        "most_minutes": None,
    }
    limits = [{"name": name, "used": value, "limit": settings.limit(name)} for name, value in used.items()]
    return {
        "runs": len(runs),
        "bytes": kept,
        "files": len(manager.belongings.files(visitor.id)),
        "limits": [one for one in limits if one["limit"]] if is_bound(visitor) else [],
        "idle_days": settings.limit("most_idle_days"),
    }


def _wanted(request: Request) -> list[str]:
    """The runs that a request names."""
    runs = [run for run in request.query_params.get("runs", "").split(",") if run]
    if not runs:
        raise ConfigError("No run is named; allowed: ids of your runs, with commas between them.", "runs")
    return runs


def _links(request: Request) -> tuple[Entrance, Shares]:
    entrance: Entrance = request.scope["state"]["entrance"]
    return entrance, entrance.shares
