"""The webhooks of mail providers: what they say of mails becomes reports."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import prometheus_client
from aiohttp import web
from pydantic import Field, ValidationError

from services.gateway.api.openapi import Access, Operation, Success
from services.gateway.api.problem import (
    INTERNAL,
    INVALID_SIGNATURE,
    MALFORMED,
    NOT_FOUND,
    OVERLOADED,
    TIMEOUT,
    TOO_LARGE,
    UNAUTHORIZED,
    UNAVAILABLE,
    UNSUPPORTED_MEDIA_TYPE,
    Problem,
)
from services.gateway.api.request import CLIENT, JSON, REPEATABLE, SUBJECT
from services.gateway.api.response import AskingViews, ResponseBody, respond
from services.gateway.clients.clients import AllowedSenders, Client
from services.gateway.feedback.events import Provider, ProviderEvent, ProviderRequest, report_of
from services.gateway.feedback.sns import SnsReader
from shared.contracts import EmailFound, FindEmail, Report, ReportSource
from shared.errors import Unavailable

MAX_BYTES = 2 * 1024 * 1024  # SendGrid sends up to 768 KB, SNS 256 KB
TEXT = "text/plain"  # the Content-Type of the JSON of SNS
MAX_ASKED = 50  # questions to the ledger at a time
# After an event, in which the ledger may not have recorded its mail yet: its queue may be long.
RECENT = timedelta(minutes=1)
# Of all providers in the log, and in the budget of large bodies; no client can have this id.
_CALLER = Client("(feedback)", AllowedSenders([]), frozenset())

EVENTS = prometheus_client.Counter(
    "postrider_feedback_events",
    "Events of providers' webhooks, by what became of them: the kind of the report, unknown (the "
    "ledger has no such mail), ignored (it says nothing of a mail's way), refused (a request that "
    "the provider has not signed)",
    ("provider", "end"),
)


class FeedbackTaken(ResponseBody):
    """The broker has stored the reports of a request."""

    reported: int = Field(description="Events that became reports")
    unknown: int = Field(description="Events about mails that are not ours, or no more")
    ignored: int = Field(description="Events that say nothing of a mail's way, such as an opening")


POST_FEEDBACK = Operation(
    "postFeedback",
    "POST /v1/feedback/{provider}",
    "Take the events of a mail provider's webhook",
    (Success(200, "The broker has stored the reports", FeedbackTaken),),
    Access.PUBLIC,
    other_types=(JSON, TEXT),
    problems=(
        *(MALFORMED, UNAUTHORIZED, INVALID_SIGNATURE, NOT_FOUND, TIMEOUT, TOO_LARGE),
        *(UNSUPPORTED_MEDIA_TYPE, INTERNAL, UNAVAILABLE, OVERLOADED),
    ),
    description="The body is the one that the provider documents. It needs no key: each request is "
    "signed by its provider, or has the login that is set for it. A provider without its setting "
    "is a 404. The same event twice is one report.",
)


@dataclass(frozen=True, slots=True)
class FeedbackViews(AskingViews):
    """Finds the mails of events and publishes reports about them.

    Safe to repeat: a report has the same id each time. An event that has just happened may be about
    a mail that the ledger has yet to record: its provider comes again.
    """

    providers: Mapping[str, Provider]
    sns: SnsReader | None
    now: Callable[[], datetime]

    async def post(self, request: web.Request) -> web.Response:
        """Publish the reports of a provider's request; each one is confirmed before the answer."""
        name = request.match_info["provider"]
        request[SUBJECT], request[CLIENT], request[REPEATABLE] = name, _CALLER, True
        if name not in self.providers and not self._is_sns(name):
            raise Problem(NOT_FOUND)
        source, now = ReportSource(name), self.now()
        try:
            events = await self._events(request, source, now)
        except Problem as error:
            if error.type in {INVALID_SIGNATURE, UNAUTHORIZED}:
                EVENTS.labels(name, "refused").inc()
            raise
        ends, reports = await self._reports(events, source, now)
        if failures := await self.broker.publish_all(reports):
            raise next(iter(failures.values()))
        if ends["early"]:
            raise Unavailable("the ledger may not have recorded a mail yet")
        for end, count in ends.items():
            EVENTS.labels(name, end).inc(count)
        unknown, ignored = ends["unknown"], ends["ignored"]
        reported = ends.total() - unknown - ignored
        return respond(200, FeedbackTaken(reported=reported, unknown=unknown, ignored=ignored))

    def _is_sns(self, name: str) -> bool:
        return self.sns is not None and name == ReportSource.SES

    async def _events(
        self, request: web.Request, source: ReportSource, now: datetime
    ) -> Sequence[ProviderEvent | None]:
        if self.sns is not None and source is ReportSource.SES:
            content = await self.reader.read_bytes(request, MAX_BYTES, (JSON, TEXT))
            return await self.sns.read(content, now)
        content = await self.reader.read_bytes(request, MAX_BYTES)
        asked = ProviderRequest(request.headers, content)
        return await self.reader.check(content, lambda: self.providers[source].read(asked, now))

    async def _reports(
        self, events: Sequence[ProviderEvent | None], source: ReportSource, now: datetime
    ) -> tuple[Counter[str], Sequence[Report]]:
        """Return how many events had which end, and the reports, each once.

        Raises Unavailable or NoAnswer while the ledger is away.
        """
        ends, reports = Counter[str](), dict[str, Report]()
        for first in range(0, len(events), MAX_ASKED):
            asked = events[first : first + MAX_ASKED]
            # All of them end here: none is left behind when one fails.
            found = await asyncio.gather(
                *(self._report(each, source, now) for each in asked), return_exceptions=True
            )
            for each in found:
                if isinstance(each, BaseException):
                    raise each
                if isinstance(each, Report):
                    reports[each.id] = each
                ends[each.kind.value if isinstance(each, Report) else each] += 1
        return ends, list(reports.values())

    async def _report(
        self, event: ProviderEvent | None, source: ReportSource, now: datetime
    ) -> Report | str:
        """Return the report of an event, else its end. Raises Unavailable or NoAnswer."""
        if event is None:
            return "ignored"
        question = _question(event)
        answer = question and await self.ask(question, EmailFound)
        if not answer:
            return "unknown"
        if answer.email is None:
            is_recent = event.at is not None and now - event.at < RECENT
            return "early" if is_recent else "unknown"
        return report_of(event, source, answer.email, now) or "ignored"


def _question(event: ProviderEvent) -> FindEmail | None:
    """Return the question for the mail of an event, None if it names none that can exist."""
    try:
        return FindEmail(
            id=str(uuid.uuid4()),
            message_id=event.message_id or None,
            recipient=event.recipient or None,
        )
    except ValidationError:
        return None
