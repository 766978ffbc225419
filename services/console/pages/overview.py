"""The first page: mails a second, what waits, and what needs an operator."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote, urlencode

from aiohttp import web

from services.console.context import Missing, PageContext
from services.console.queues import QueueRow
from services.console.rendering import number
from services.console.sampling import Sampler
from services.console.traffic import OUTCOMES
from shared import dead_letter
from shared.contracts import Category, CircuitState, ContentTypesListed, WebhooksListed

ALL = "all"  # in a query: of all classes together


class OperatorTask(NamedTuple):
    """A fault that an operator can mend, and the page to do it on."""

    text: str
    path: str


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
            missing=list(_missing(sampler)),
            is_known=_is_known(sampler),
            work=sampler.queues.work(),
            delays=sampler.queues.delays(),
            problems=list(problems(sampler)),
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


def problems(sampler: Sampler) -> Iterator[OperatorTask]:
    """Yield what is wrong by the last looks, what stops mail first."""
    rows = sampler.queues.work() if sampler.queues.at else ()
    yield from (OperatorTask(text, "#queues") for row in rows if (text := _fault(row)))
    for sender in sampler.relays.senders():
        for relay in sender.answer.relays:
            if relay.circuit is not CircuitState.CLOSED:
                text = f"takes no {relay.category} mail: it failed {relay.failures} times"
                yield OperatorTask(f"{relay.relay} {text}", "/relays")
    for queue in dead_letter.dead_queues():
        if count := sampler.queues.waiting(queue):
            text = f"{number(count)} in {queue}: look why, then send back or drop"
            yield OperatorTask(text, f"/dead-letters/{queue}")
    if isinstance(sampler.failing_webhooks, WebhooksListed):
        yield from _stopped_webhooks(sampler.failing_webhooks)
    if isinstance(sampler.paused_content, ContentTypesListed):
        yield from _paused_content(sampler.paused_content)


def _stopped_webhooks(found: WebhooksListed) -> Iterator[OperatorTask]:
    if len(found.webhooks) == 1:
        (only,) = found.webhooks
        text = f"the endpoint {only.url} {'is disabled' if only.disabled_at else 'fails'}"
        yield OperatorTask(text, f"/webhooks/{quote(only.webhook_id, safe='')}")
    elif found.webhooks:
        count = f"{len(found.webhooks)}{' or more' if found.next else ''}"
        yield OperatorTask(
            f"{count} endpoints fail, or are disabled since they failed", "/webhooks"
        )


def _paused_content(found: ContentTypesListed) -> Iterator[OperatorTask]:
    if len(found.content_types) == 1:
        (only,) = found.content_types
        query = f"?{urlencode({'client': only.client})}" if only.client else ""
        path = f"/content/{quote(only.name, safe='')}{query}"
        yield OperatorTask(f"the content type {only.name} is paused", path)
    elif found.content_types:
        count = f"{len(found.content_types)}{' or more' if found.next else ''}"
        yield OperatorTask(f"{count} content types are paused", "/content")


def _missing(sampler: Sampler) -> Iterator[Missing]:
    """Yield why a look at what may need an operator failed."""
    looks = (sampler.missing_queues, sampler.failing_webhooks, sampler.paused_content)
    yield from (each for each in looks if isinstance(each, Missing))


def _is_known(sampler: Sampler) -> bool:
    """Return whether there was a look at everything that may need an operator."""
    return None not in (sampler.queues.at, sampler.failing_webhooks, sampler.paused_content)


def _fault(row: QueueRow) -> str | None:
    if row.is_missing:
        return f"the queue {row.name} is missing: run ops topology declare"
    if row.consumers:
        return None
    waits = f" ({number(row.waiting)} waiting)" if row.waiting else ""
    return f"nothing reads {row.name}{waits}: start {row.name.partition('.')[0]}"
