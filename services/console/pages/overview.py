"""The first page: mails a second, what waits, and what needs an operator."""

from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from services.console.context import PageContext
from services.console.sampling import Sampler
from services.console.traffic import OUTCOMES
from shared import dead_letter
from shared.contracts import Category

ALL = "all"  # in a query: of all classes together


@dataclass(frozen=True, slots=True)
class OverviewPages:
    """Shows what goes on now, from looks that are a few seconds old."""

    context: PageContext
    sampler: Sampler

    def routes(self) -> Sequence[web.RouteDef]:
        """Return the routes."""
        return [web.get("/", self.show), web.get("/traffic.json", self.traffic)]

    async def show(self, request: web.Request) -> web.Response:
        """Return the page."""
        sampler = self.sampler
        letters = {each: sampler.queues.waiting(each) for each in dead_letter.dead_queues()}
        return self.context.page(
            request,
            "overview.html",
            outcomes=list(OUTCOMES),
            categories=list(Category),
            totals=sampler.traffic.totals(),
            unfinished=sampler.traffic.waiting(),
            since=sampler.traffic.since,
            missing_traffic=sampler.missing_traffic,
            missing_queues=sampler.missing_queues,
            looked_at=sampler.queues.at,
            work=sampler.queues.work(),
            delays=sampler.queues.delays(),
            letters={name: count for name, count in letters.items() if count},
        )

    async def traffic(self, request: web.Request) -> web.Response:
        """Return the points of a chart, by outcome, for the script of the page."""
        name = request.query.get("category", ALL)
        if name not in {ALL, *Category}:
            raise web.HTTPBadRequest(text="There is no such class of mail.")
        category = None if name == ALL else Category(name)
        traffic = self.sampler.traffic
        if request.query.get("span") == "day":
            return web.json_response(traffic.day(category, self.sampler.now()))
        return web.json_response(traffic.hour(category))
