"""Runs: the mails of a content type for one period, with what became of them."""

import asyncio
from datetime import datetime
from typing import Annotated, Literal

from aiohttp import web
from pydantic import ConfigDict, Field

from services.gateway.api.body import RFC3339_TIME, RequestBody, read_query
from services.gateway.api.content_types import ContentOwnerQuery, find_content_type, read_key
from services.gateway.api.openapi import Access, Operation, Success
from services.gateway.api.problem import (
    CONTENT_TYPE_PAUSED,
    NO_SUCH_CONTENT_TYPE,
    NO_SUCH_RUN,
    Problem,
)
from services.gateway.api.records import DEFAULT_PAGE_SIZE, MessageRecord
from services.gateway.api.request import REPEATABLE
from services.gateway.api.response import AskingViews, ResponseBody, respond
from services.gateway.api.stats import MailCounts
from shared.contracts import (
    ContentRun,
    EmailStatus,
    ListRuns,
    RunsListed,
)
from shared.contracts.clients import Scope
from shared.contracts.content import MAX_LISTED_RUNS
from shared.contracts.fields import Id, Moment
from shared.contracts.ledger import MAX_LISTED_EMAILS, PageCursor
from shared.runs import Refusal, RunQuestions

MAX_REPEATED_MESSAGES = 100  # of one request, each of which is looked up


class RunsQuery(ContentOwnerQuery):
    """The query for a page of runs."""

    after: Annotated[Moment | None, RFC3339_TIME] = Field(
        None, description="`next` of the page before"
    )
    limit: int = Field(MAX_LISTED_RUNS, ge=1, le=MAX_LISTED_RUNS)


class RunQuery(ContentOwnerQuery):
    """The query for a run, with a page of the messages that did not arrive."""

    status: Literal["failed", "expired", "bounced"] = Field(
        "failed", description="Of the messages on the page"
    )
    after: PageCursor | None = Field(None, description="`next` of the page before")
    limit: int = Field(DEFAULT_PAGE_SIZE, ge=1, le=MAX_LISTED_EMAILS, description="Messages a page")


class RunRepetition(RequestBody):
    """Asks for messages of a run to be sent once more."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"messages": ["0123456789abcdef0123456789abcdef.20261102T073000Z"]}]
        }
    )

    messages: tuple[Id, ...] = Field(
        min_length=1,
        max_length=MAX_REPEATED_MESSAGES,
        fail_fast=True,
        description="Ids of messages that failed, expired or bounced",
    )


class RunBody(ResponseBody):
    """The messages of a content type for one period."""

    run: str = Field(description="Also the value of the tag `run` of its messages")
    content_type: str
    client: str | None = None
    period: datetime = Field(description="The time of its subscriptions' schedules")
    published: int = Field(description="Messages that are on their way, repetitions not included")
    unknown_mailboxes: int = Field(description="Of these, refused since there is no such mailbox")
    complaints: int = Field(description="Of these, reported as spam")
    unfit: int = Field(
        description="Subscriptions without a message, since their variables do not fit the "
        "templates: they are mailed at their next time that they fit"
    )

    @classmethod
    def of(cls, run: ContentRun) -> "RunBody":
        """Return the body of a run."""
        return cls(
            run=run.run_id,
            content_type=run.content_type,
            client=run.client,
            period=run.period_at,
            published=run.published,
            unknown_mailboxes=run.unknown_mailboxes,
            complaints=run.complaints,
            unfit=run.unfit,
        )


class RunPage(ResponseBody):
    """A page of runs, the latest first."""

    runs: list[RunBody]
    next: datetime | None = Field(
        None, description="`after` of the next page; absent at the last one"
    )


class RunDetails(RunBody):
    """A run with the sums over its messages, and some that did not arrive."""

    counts: MailCounts = Field(description="Repetitions included")
    messages: list[MessageRecord] = Field(
        description="Those of the status of the query, the newest first"
    )
    next: str | None = Field(None, description="`after` of the next page; absent at the last one")


class RefusedMessage(ResponseBody):
    """A message that is not sent once more."""

    id: str
    reason: Refusal = Field(
        description="unknown: no message of this run. not-failed: it arrived, or still may, or was "
        "suppressed or cancelled. repeated: it was sent once more before, under the id that has "
        "a number behind its own. not-subscribed: the subscription has ended, or has no variables "
        "for the templates"
    )


class Repeated(ResponseBody):
    """The messages that are sent once more, and those that are not."""

    repeated: int
    refused: list[RefusedMessage]


LIST_RUNS = Operation(
    "listRuns",
    "GET /v1/content-types/{name}/runs",
    "List the runs of a content type, the latest first",
    (Success(200, "A page of them", RunPage),),
    Access.ANY,
    Scope.READ,
    query=RunsQuery,
    problems=(NO_SUCH_CONTENT_TYPE,),
)
GET_RUN = Operation(
    "getRun",
    "GET /v1/content-types/{name}/runs/{run}",
    "Count the messages of a run, and list those that did not arrive",
    (Success(200, "The sums, and a page of messages", RunDetails),),
    Access.ANY,
    Scope.READ,
    query=RunQuery,
    problems=(NO_SUCH_RUN,),
)
REPEAT_RUN = Operation(
    "repeatMessages",
    "POST /v1/content-types/{name}/runs/{run}/repeat",
    "Send messages of a run that did not arrive once more",
    (Success(200, "Those that are sent once more, and those that are not", Repeated),),
    scope=Scope.SEND,
    body=RunRepetition,
    problems=(NO_SUCH_RUN, NO_SUCH_CONTENT_TYPE, CONTENT_TYPE_PAUSED),
    description="Only messages that failed, expired or bounced, each once: asked again, nobody is "
    "mailed twice. A repetition has an id of its own, and may itself be repeated if it fails.",
)


class RunViews(AskingViews):
    """Asks the scheduler about runs, and the ledger what became of their messages."""

    async def list(self, request: web.Request) -> web.Response:
        """Return a page of runs."""
        query = read_query(RunsQuery, request.query)
        client, name = read_key(request, query)
        question = ListRuns(
            id=self.new_id(), client=client, name=name, after=query.after, limit=query.limit
        )
        page = await self.ask(question, RunsListed)
        if not page.runs:
            await find_content_type(self, client, name)
        return respond(200, RunPage(runs=[*map(RunBody.of, page.runs)], next=page.next))

    async def get(self, request: web.Request) -> web.Response:
        """Return a run with its sums, and a page of the messages that did not arrive."""
        query = read_query(RunQuery, request.query)
        client, name = read_key(request, query)
        run = await self._find(client, name, request.match_info["run"])
        questions, now = self._questions(), self.reader.new_stamp().at
        counts, page = await asyncio.gather(
            questions.count(run, now),
            questions.page(run, EmailStatus(query.status), query.after, query.limit),
        )
        body = RunDetails(
            **dict(RunBody.of(run)),
            counts=MailCounts.copied_from(counts),
            messages=[MessageRecord.of(each) for each in page.emails],
            next=page.next,
        )
        return respond(200, body)

    async def repeat(self, request: web.Request) -> web.Response:
        """Send messages of a run once more."""
        request[REPEATABLE] = True
        given, _ = await self.reader.read(request, RunRepetition)
        client, name = read_key(request)
        run = await self._find(client, name, request.match_info["run"])
        if (await find_content_type(self, client, name)).paused_at is not None:
            raise Problem(CONTENT_TYPE_PAUSED)
        found = await self._questions().repeat(run, [*dict.fromkeys(given.messages)])
        refused = [RefusedMessage(id=each, reason=why) for each, why in found.items() if why]
        return respond(200, Repeated(repeated=len(found) - len(refused), refused=refused))

    async def _find(self, client: str | None, name: str, run: str) -> ContentRun:
        """Return a run. Raises Problem."""
        found = await self._questions().find(client, name, run)
        if found is None:
            raise Problem(NO_SUCH_RUN)
        return found

    def _questions(self) -> RunQuestions:
        return RunQuestions(self.ask, self.new_id)
