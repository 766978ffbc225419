"""A small gateway with a domain table, and with faults that a real one must not have."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

KEY = "the key"


class Gateway:
    """Counts events by their ids.

    The first `refusals` requests are processed and refused. Of the events, `lost` are not counted
    and `doubled` are counted twice. `busy` is set when `busy_after` requests have come.
    """

    def __init__(
        self,
        *,
        refusals: int = 0,
        status: int = 503,
        lost: int = 0,
        doubled: int = 0,
        busy_after: int = 1,
    ) -> None:
        self.events: dict[str, tuple[str, str]] = {}
        self.asked: list[str] = []
        self.busy = asyncio.Event()
        self.url = URL()
        self._refusals = refusals
        self._status = status
        self._lost = lost
        self._doubled = doubled
        self._busy_after = busy_after

    @classmethod
    @asynccontextmanager
    async def serving(cls, **faults: int) -> AsyncIterator["Gateway"]:
        """Serve a gateway for the length of the block."""
        gateway = cls(**faults)
        app = web.Application()
        app.router.add_put("/v1/events/{domain}/{kind}", gateway._put)
        app.router.add_post("/v1/events", gateway._post)
        app.router.add_get("/v1/domains/stats", gateway._stats)
        app.router.add_get("/v1/domains", gateway._list)
        async with TestServer(app) as server:
            gateway.url = server.make_url("/")
            yield gateway

    async def _put(self, request: web.Request) -> web.Response:
        key = request.headers["Idempotency-Key"]
        self.events[key] = (request.match_info["domain"], request.match_info["kind"])
        return self._answer(request, {"id": key})

    async def _post(self, request: web.Request) -> web.Response:
        for event in (await request.json())["events"]:
            self.events[event["id"]] = (event["domain"], event["kind"])
        return self._answer(request, {})

    def _answer(self, request: web.Request, body: Mapping[str, Any]) -> web.Response:
        self.asked.append(request.path)
        if len(self.asked) >= self._busy_after:
            self.busy.set()
        if request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response({"code": "unauthorized"}, status=401)
        if self._refusals:
            self._refusals -= 1
            return web.json_response({}, status=self._status, headers={"Retry-After": "0"})
        return web.json_response(body, status=202)

    def _counted(self) -> Counter[tuple[str, str]]:
        kept = list(self.events.values())
        return Counter([*kept[self._lost :], *kept[: self._doubled]])

    async def _stats(self, _: web.Request) -> web.Response:
        return web.json_response({"delivered": self._counted().total(), "bounced": 0})

    async def _list(self, request: web.Request) -> web.Response:
        counted, limit = self._counted(), 2
        names = sorted({*(name for name, _ in counted), "aaa.example", "zzz.example"})
        later = [name for name in names if name > request.query["after"]]
        page = [
            {
                "domain": name,
                "delivered": counted[name, "delivered"],
                "bounced": counted[name, "bounced"],
            }
            for name in later[:limit]
        ]
        after = later[limit - 1] if len(later) > limit else None
        return web.json_response({"domains": page, "next": after})
