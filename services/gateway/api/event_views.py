"""What clients report of mails that went another way, over HTTP."""

from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from services.gateway.api import domains, reports
from services.gateway.api.answers import EventAnswer, EventsAnswer
from services.gateway.api.reply import accepted, answer
from services.gateway.api.reports import MOST, NDJSON, EventRefusal
from services.gateway.clients import idempotency
from services.gateway.intake import JSON, RequestReader
from services.gateway.request import CLIENT, SUBJECT
from services.gateway.road import Road
from shared.contracts import Kind, Sighting


@dataclass(frozen=True, slots=True)
class EventViews:
    """Passes events on."""

    intake: RequestReader
    road: Road

    async def put_delivered(self, request: web.Request) -> web.Response:
        """Publish that somebody's mail to a domain was delivered."""
        return await self._put(request, Kind.DELIVERED)

    async def put_bounced(self, request: web.Request) -> web.Response:
        """Publish that somebody's mail to a domain bounced."""
        return await self._put(request, Kind.BOUNCED)

    async def _put(self, request: web.Request, kind: Kind) -> web.Response:
        """Publish one event; the same key for the same domain and kind is the same event."""
        domain = domains.read(request.match_info["domain"])
        client, stamp = request[CLIENT].id, self.intake.now()
        key = idempotency.read(request.headers.getall(idempotency.HEADER, ()))
        request[SUBJECT] = identifier = idempotency.derived(client, key) if key else stamp.id
        seen = Sighting.model_construct(id=identifier, domain=domain, kind=kind, at=stamp.at)
        await self.road.publish(reports.report([seen], stamp, client))
        return accepted(identifier)

    async def post(self, request: web.Request) -> web.Response:
        """Publish many events at once, the good ones; each is answered."""
        content = await self.intake.content(request, MOST, (JSON, NDJSON))
        kind = request.content_type
        found = await self.intake.checked(content, lambda: reports.items(content, kind))
        stamp = await self.intake.stamped(request, content)
        read = await self.intake.checked(content, lambda: reports.read_all(found, stamp))
        kept = [each for each in read if isinstance(each, Sighting)]
        if kept:
            await self.road.publish(reports.report(kept, stamp, request[CLIENT].id))
        return _answered(read, len(kept))


def _answered(read: Sequence[Sighting | EventRefusal], kept: int) -> web.Response:
    refused = len(read) - kept
    told = EventsAnswer(
        accepted=kept, refused=refused, events=[EventAnswer.of(each) for each in read]
    )
    # RFC 4918 11.1: the parts went differently, and each says how.
    return answer(207 if refused else 202, told)
