"""Batches: up to 500 messages in a request, or one content for up to 500 recipients."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from aiohttp import web
from pydantic import ConfigDict, Field

from services.gateway.api import body
from services.gateway.api.batch_items import (
    MAX_BATCH_SIZE,
    Item,
    NewTemplatedBatch,
    TemplatedBatch,
    check_items,
    read_items,
    read_templated,
    size_of,
)
from services.gateway.api.body import MAX_MISTAKES, RequestBody, StrictModel
from services.gateway.api.messages import BatchMessage
from services.gateway.api.openapi import Operation, Success
from services.gateway.api.problem import (
    FOREIGN_SENDER,
    INVALID,
    KEY_REUSED,
    TEMPLATE_INVALID,
    UNAVAILABLE,
    Mistake,
    Problem,
    ProblemType,
)
from services.gateway.api.request import CLIENT, REPEATABLE, RequestReader
from services.gateway.api.response import ResponseBody, respond
from services.gateway.clients.clients import Client
from services.gateway.clients.idempotency import RequestStamp
from shared.broker import Broker
from shared.contracts import SendEmail
from shared.contracts.clients import Scope
from shared.errors import Unavailable

_FORMS = (
    'The body must be a list, an object with a list in "messages", or one with a "template" and '
    '"recipients".'
)
_UNKNOWN = "It is not known whether this was done. Asking again under its id does no harm."


class NewBatch(RequestBody):
    """Asks for up to 500 messages to be sent; also read as the bare list."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"messages": [{"to": "ada@mail.example", "subject": "Hello", "text": "Hi."}]}
            ]
        }
    )
    max_bytes = None

    messages: list[BatchMessage] = Field(min_length=1, max_length=MAX_BATCH_SIZE)


class BatchQuery(StrictModel):
    """How mistakes count."""

    mode: Literal["permissive", "strict"] = Field(
        "permissive", description="strict: with one mistake no message of the batch is sent"
    )


class MessageMistake(ResponseBody):
    """One mistake in a message."""

    pointer: str = Field(description="Where: a JSON Pointer into the message, such as #/to/0")
    detail: str


class MessageAnswer(ResponseBody):
    """Whether one of the messages is accepted."""

    status: Literal["accepted", "refused", "unavailable"] = Field(
        description="refused: it has mistakes. unavailable: it is not known whether it is kept; "
        "the same request with its Idempotency-Key does no harm."
    )
    id: str | None = Field(None, description="Of a message without mistakes")
    code: str | None = Field(None, description="Of its problem, for programs")
    detail: str | None = Field(None, description="Of its problem, for people")
    errors: list[MessageMistake] | None = Field(None, description="Its first mistakes")


class BatchAnswer(ResponseBody):
    """Which of the messages are accepted; the broker has stored these."""

    accepted: int
    refused: int
    unavailable: int
    messages: list[MessageAnswer] = Field(description="In the order of the request")


POST_BATCH = Operation(
    "postBatch",
    "POST /v1/messages/batch",
    "Send up to 500 messages, or one content to up to 500 recipients",
    (
        Success(202, "The broker has stored all messages", BatchAnswer),
        Success(207, "The broker has stored the messages that are accepted", BatchAnswer),
    ),
    scope=Scope.SEND,
    body=NewBatch,
    other_bodies=(NewTemplatedBatch,),
    bare_field="messages",
    query=BatchQuery,
    problems=(TEMPLATE_INVALID, KEY_REUSED),
    description="Each message has an answer, in the order of the request. A message with an `id` "
    "is sent once, however often it comes; so is each message of a request with an "
    "`Idempotency-Key`. A message of its own may be refused by `invalid`, `foreign-sender`, "
    "`expired` or `too-large`.",
    repeatable=True,
)


@dataclass(frozen=True, slots=True)
class BatchViews:
    """Publishes the messages of batches."""

    reader: RequestReader
    broker: Broker

    async def post(self, request: web.Request) -> web.Response:
        """Publish the messages that have no mistakes, and answer each of them."""
        strict = body.read_query(BatchQuery, request.query).mode == "strict"
        content = await self.reader.read_bytes(request)
        batch, place = await self.reader.check(content, lambda: read_batch(content))
        items = batch if isinstance(batch, Sequence) else await self._rendered(request, batch)
        stamp = await self.reader.stamp(request, content)
        commands = [*make_commands(items, stamp, request[CLIENT])]
        refused = [each for each in commands if isinstance(each, Problem)]
        if refused and (strict or len(refused) == len(commands)):
            await self.reader.forget_key(request, stamp)
        if refused and strict:
            raise refusal(commands, place)
        request[REPEATABLE] = all(isinstance(each, Problem) or each.id for each in items)
        failures = await self._published(commands)
        return _response(commands, failures)

    async def _rendered(self, request: web.Request, batch: TemplatedBatch) -> Sequence[Item]:
        """Return the messages of a template; after each of them other requests go on."""
        items: list[Item] = []
        for item in batch.messages():
            items.append(item)
            await asyncio.sleep(0)  # refused or not: it may have taken 50 ms
        self.reader.hold(request, sum(map(size_of, items)))
        return items

    async def _published(
        self, commands: Sequence[SendEmail | Problem]
    ) -> Mapping[str, Unavailable]:
        """Publish the commands; return the failures by the message's id.

        Raises Unavailable when there is nothing but failures.
        """
        good = [each for each in commands if isinstance(each, SendEmail)]
        failures = await self.broker.publish_all(good)
        if failures and len(failures) == len(commands):
            raise next(iter(failures.values()))
        return failures


def read_batch(content: bytes) -> tuple[Sequence[Item] | TemplatedBatch, str]:
    """Return the messages of a body, or their template, and the place of them in the body.

    Raises Problem for what is no mistake of one message.
    """
    value = body.parse(content)
    if isinstance(value, dict) and "template" in value:
        return read_templated(value), "#/recipients"
    if isinstance(value, dict) and value.keys() == {"messages"}:
        value, place = value["messages"], "#/messages"
    elif isinstance(value, list):
        place = "#"
    else:
        raise Problem(INVALID, _FORMS)
    return read_items(check_items(value, place), BatchMessage), place


def make_commands(
    items: Sequence[Item], stamp: RequestStamp, client: Client
) -> Iterator[SendEmail | Problem]:
    """Yield the command of each message, or its problem.

    A message without an id gets the id of the request and its index, the same at each repeat.
    """
    seen: set[str] = set()
    for index, item in enumerate(items):
        if isinstance(item, Problem):
            yield item
        elif item.id in seen:
            yield _mistake(INVALID, "#/id", "must be another id than that of a message before")
        elif not client.allowed_senders.allow(item.from_):
            yield _mistake(FOREIGN_SENDER, "#/from", "must be an address of this client")
        elif refusal := item.refusal(stamp.at):
            yield refusal
        else:
            seen.update({item.id} if item.id else ())
            own = RequestStamp(item.id or f"{stamp.id}.{index}", stamp.at)
            yield item.command(own, client.id)


def refusal(commands: Sequence[SendEmail | Problem], place: str) -> Problem:
    """Return the problem of a whole batch with mistakes, with their places in its body."""
    found = [
        Mistake(f"{place}/{index}{mistake.pointer.removeprefix('#')}", mistake.detail)
        for index, each in enumerate(commands)
        if isinstance(each, Problem)
        for mistake in each.errors or (Mistake("#", each.detail or each.type.title),)
    ]
    return Problem(INVALID, "Nothing was sent.", errors=found[:MAX_MISTAKES])


def _response(
    commands: Sequence[SendEmail | Problem], failures: Mapping[str, Unavailable]
) -> web.Response:
    answers = [_answer(each, failures) for each in commands]
    count = Counter(each.status for each in answers)
    # A 207 (RFC 4918 11.1): the messages differ in their status, which each of them names.
    return respond(
        202 if count["accepted"] == len(answers) else 207,
        BatchAnswer(
            accepted=count["accepted"],
            refused=count["refused"],
            unavailable=count["unavailable"],
            messages=answers,
        ),
    )


def _answer(command: SendEmail | Problem, failures: Mapping[str, Unavailable]) -> MessageAnswer:
    if isinstance(command, Problem):
        errors = [
            MessageMistake(pointer=each.pointer, detail=each.detail) for each in command.errors
        ]
        return MessageAnswer(
            status="refused", code=command.type.code, detail=command.detail, errors=errors or None
        )
    if command.id in failures:
        return MessageAnswer(
            status="unavailable", id=command.id, code=UNAVAILABLE.code, detail=_UNKNOWN
        )
    return MessageAnswer(status="accepted", id=command.id)


def _mistake(kind: ProblemType, pointer: str, detail: str) -> Problem:
    return Problem(kind, errors=[Mistake(pointer, detail)])
