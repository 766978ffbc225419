"""Mails: found by their recipient, and the life of one from the request to the last reply."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from urllib.parse import quote, urlencode

from aiohttp import web

from services.console.context import PageContext
from services.console.rendering import counted
from shared.contracts import (
    CancelEmail,
    Category,
    DescribeEmail,
    EmailCancelling,
    EmailDescribed,
    EmailRecord,
    EmailsListed,
    EmailStatus,
    ListEmails,
    SchedulingAnswered,
    SchedulingResult,
    UnscheduleEmail,
)

FILTERS = ("recipient", "client", "status", "category", "tag", "after")


@dataclass(frozen=True, slots=True)
class MessagePages:
    """Shows mails as the ledger knows them, and cancels one."""

    context: PageContext

    def routes(self) -> Sequence[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/messages", self.list),
            web.get("/messages/{id}", self.show),
            web.post("/messages/{id}", self.cancel),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """Return the newest mails, or those of a recipient, a client, a status or a class."""
        question = partial(self.context.question, ListEmails)
        listing = await self.context.listing(request, FILTERS, question, EmailsListed)
        return self.context.list_page(
            request,
            "messages.html",
            listing,
            statuses=list(EmailStatus),
            categories=list(Category),
        )

    async def show(self, request: web.Request) -> web.Response:
        """Return the life of a mail; if several clients have one of this id, their names."""
        described = await self._described(request)
        identifier = request.match_info["id"]
        if described.email is None:
            return self.context.page(
                request,
                "message_unknown.html",
                HTTPStatus.OK if described.clients else HTTPStatus.NOT_FOUND,
                identifier=identifier,
                clients=described.clients,
                forgotten=described.forgotten,
            )
        ends = [each.at for each in described.email.recipients if each.status.ended and each.at]
        return self.context.page(
            request,
            "message.html",
            email=described.email,
            history=described.history,
            is_over=all(each.status.ended for each in described.email.recipients),
            last_end=max(ends, default=None),
        )

    async def cancel(self, request: web.Request) -> web.Response:
        """Cancel a mail for the recipients that it is not too late for."""
        identifier = request.match_info["id"]
        email = (await self._described(request)).email
        if email is None:
            raise web.HTTPNotFound(text="There is no such mail.")
        async with self.context.acting(request, "cancel mail", identifier) as result:
            result.text = await self._cancel(email)
        client = urlencode({"client": email.client or ""})
        raise self.context.back(request, f"/messages/{quote(identifier)}?{client}", result)

    async def _described(self, request: web.Request) -> EmailDescribed:
        question = DescribeEmail(
            id=self.context.new_id(),
            email_id=request.match_info["id"],
            client=request.query.get("client"),
        )
        return await self.context.ask(question, EmailDescribed)

    async def _cancel(self, email: EmailRecord) -> str:
        """Return what was cancelled; a mail for later is with the scheduler until it is due."""
        name, client = email.email_id, email.client
        if email.scheduled_at is not None:
            later = UnscheduleEmail(id=self.context.new_id(), email_id=name, client=client)
            answer = await self.context.ask(later, SchedulingAnswered)
            if answer.result is SchedulingResult.DONE:
                return "it will not be sent"
        question = CancelEmail(id=self.context.new_id(), email_id=name, client=client)
        found = await self.context.ask(question, EmailCancelling)
        if not found.waiting + found.undecided + found.ended + found.cancelled:
            return "it will be sent to no recipient"
        cancelled = counted(found.cancelled + found.waiting, "recipient", "recipients")
        return (
            f"{cancelled} cancelled, {found.undecided} undecided: an attempt is under way, "
            f"{found.ended} had ended before"
        )
