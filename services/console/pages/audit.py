"""The audit: what operators did, the newest first."""

from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from services.console.context import PageContext, tried
from services.console.store import ActionStore

PAGE_SIZE = 100
MAX_TIME_DIGITS = 15  # of milliseconds since 1970: 30,000 years


@dataclass(frozen=True, slots=True)
class AuditPages:
    """Shows what operators did."""

    context: PageContext
    store: ActionStore

    def routes(self) -> Sequence[web.RouteDef]:
        """Return the routes."""
        return [web.get("/audit", self.show)]

    async def show(self, request: web.Request) -> web.Response:
        """Return a page of actions."""
        before = _cursor(request.query.get("before", ""))
        found = await tried(self.store.page(PAGE_SIZE + 1, before))
        return self.context.page(request, "audit.html", found=found, page_size=PAGE_SIZE)


def _cursor(text: str) -> tuple[int, str] | None:
    """Return the time and the id of the last action of the page before."""
    at, _, identifier = text.partition("-")
    is_time = at.isdecimal() and len(at) <= MAX_TIME_DIGITS
    return (int(at), identifier) if is_time and "\0" not in identifier else None
