"""Relays, as the senders use them, and how long mails take."""

from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from services.console.context import PageContext
from services.console.relays import SPAN
from services.console.sampling import Sampler


@dataclass(frozen=True, slots=True)
class RelayPages:
    """Shows what the senders answered of late."""

    context: PageContext
    sampler: Sampler

    def routes(self) -> Sequence[web.RouteDef]:
        """Return the routes."""
        return [web.get("/relays", self.show)]

    async def show(self, request: web.Request) -> web.Response:
        """Return the relays of each sender, and the times of mails over all of them."""
        return self.context.page(
            request,
            "relays.html",
            senders=self.sampler.relays.senders(),
            latencies=self.sampler.relays.latencies(),
            span=SPAN.total_seconds(),
            missing=self.sampler.missing_relays,
        )
