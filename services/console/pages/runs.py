"""A run of newsletters: what became of its mails; those that did not arrive are sent once more."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, urlencode

from aiohttp import web

from services.console.context import PageContext, given
from services.console.rendering import counted, number
from services.console.traffic import sums_of
from shared.contracts import (
    ContentRun,
    ContentTypeAnswered,
    DescribeContentType,
    EmailsListed,
    EmailStatus,
)
from shared.runs import NOT_REACHED, Refusal, RunQuestions

PATH = "/content/{name}/runs/{run}"
PAGE_SIZE = 100  # mails, which one action sends once more
PAUSED = "nothing is sent, since the content type is paused: let its mails go out again first"
_REFUSALS: Mapping[Refusal, str] = {
    Refusal.UNKNOWN: "are no mails of this run",
    Refusal.NOT_FAILED: "arrived meanwhile, or still may",
    Refusal.REPEATED: "were sent once more before",
    Refusal.NOT_SUBSCRIBED: "are of subscriptions that have ended, or lack variables",
}


@dataclass(frozen=True, slots=True)
class RunPages:
    """Shows a run, and sends a page of its mails once more."""

    context: PageContext

    def routes(self) -> Sequence[web.RouteDef]:
        """Return the routes."""
        return [web.get(PATH, self.show), web.post(PATH, self.repeat)]

    async def show(self, request: web.Request) -> web.Response:
        """Return the sums of a run, and a page of the mails of a status that did not arrive."""
        status, run = _status(request), await self._run(request)
        counts = await self._questions().count(run, self._now())
        found = await self._mails(request, run, status)
        query = _query(request)
        return self.context.page(
            request,
            "run.html",
            run=run,
            sums=sums_of(counts),
            waiting=counts.waiting,
            chosen=status,
            statuses=NOT_REACHED,
            emails=found.emails,
            query=query,
            more=urlencode({**query, "after": found.next}) if found.next else None,
        )

    async def repeat(self, request: web.Request) -> web.Response:
        """Send the mails of a page once more, and lead to the next page."""
        status, run = _status(request), await self._run(request)
        subject = f"{run.content_type}: {run.run_id}"
        async with self.context.acting(request, "send mails once more", subject) as result:
            found = await self._mails(request, run, status)
            if await self._is_paused(run):
                result.text, result.failed = PAUSED, True
            else:
                wanted = [each.email_id for each in found.emails]
                refusals = await self._questions().repeat(run, wanted)
                result.text, result.failed = _described(Counter(refusals.values()))
        query = {**_query(request), "status": status}
        if found.next and not result.failed:
            query["after"] = found.next
        raise self.context.back(request, f"{quote(request.path)}?{urlencode(query)}", result)

    def _questions(self) -> RunQuestions:
        return RunQuestions(self.context.ask, self.context.new_id)

    def _now(self) -> datetime:
        return self.context.renderer.now()

    async def _run(self, request: web.Request) -> ContentRun:
        name, run = request.match_info["name"], request.match_info["run"]
        found = await self._questions().find(request.query.get("client") or None, name, run)
        if found is None:
            raise web.HTTPNotFound(text="There is no such run, or not any more.")
        return found

    async def _mails(
        self, request: web.Request, run: ContentRun, status: EmailStatus
    ) -> EmailsListed:
        after = request.query.get("after") or None
        return await self._questions().page(run, status, after, PAGE_SIZE)

    async def _is_paused(self, run: ContentRun) -> bool:
        question = DescribeContentType(
            id=self.context.new_id(), client=run.client, name=run.content_type
        )
        found = (await self.context.ask(question, ContentTypeAnswered)).content_type
        return found is not None and found.paused_at is not None


def _query(request: web.Request) -> dict[str, str]:
    return given(request.query, "client", "status")


def _status(request: web.Request) -> EmailStatus:
    status = request.query.get("status") or EmailStatus.FAILED
    if status not in NOT_REACHED:
        raise web.HTTPBadRequest(text="Mails of this status are not sent once more.")
    return EmailStatus(status)


def _described(counts: Mapping[Refusal | None, int]) -> tuple[str, bool]:
    """Return in words how many mails are sent, and why others are not; whether none is."""
    refused = [f"{number(counts[each])} {_REFUSALS[each]}" for each in Refusal if each in counts]
    repeated = counts.get(None, 0)
    return "; ".join(
        [counted(repeated, "is sent once more", "are sent once more"), *refused]
    ), not repeated
