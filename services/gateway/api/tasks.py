"""Tasks: one door for mails, codes and subscriptions, in the form of an older service."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.gateway.api import body
from services.gateway.api.body import RequestBody
from services.gateway.api.codes import CodeViews, NewCode, StrictLength
from services.gateway.api.messages import StrictRetries
from services.gateway.api.openapi import Operation, Success
from services.gateway.api.problem import (
    KEY_REUSED,
    TOO_MANY_REQUESTS,
    UNAVAILABLE,
    Problem,
    invalid,
    retry_after,
)
from services.gateway.api.request import CLIENT, RequestReader, check_scope
from services.gateway.api.response import ResponseBody, respond
from services.gateway.clients.clients import Scope
from services.gateway.clients.idempotency import RequestStamp
from shared.broker import Broker
from shared.contracts import SendEmail, Subscribe, Unsubscribe
from shared.contracts.fields import Address, Id, LineText, Subject, Text
from shared.contracts.mail import Frequency
from shared.errors import NoQueue


class TaskPayload(BaseModel):
    """The payload of every task; a field that its task does not need is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    user: Address = Field(alias="userId", description="The address that it is for")


class MessagePayload(TaskPayload):
    """A mail, sent at once."""

    subject: Subject
    content: Text = Field(repr=False, description="HTML if it begins with `<`, else text")


class CodePayload(TaskPayload):
    """A one-time code of so many digits."""

    length: StrictLength


class UnsubscribePayload(TaskPayload):
    """A subscription, by the name of its content."""

    content_type: Id


class SubscribePayload(UnsubscribePayload):
    """A subscription, and how often its content is mailed."""

    frequency: Frequency


class NewTask(RequestBody):
    """The fields of every task."""

    max_bytes = None

    task: Annotated[LineText, StringConstraints(min_length=1)] = Field(
        description="A name for your own use, returned with the outcomes of a mail"
    )
    retries: StrictRetries | None = Field(
        None, description="Of mails: further attempts at most; the schedule alone if absent"
    )


class MessageTask(NewTask):
    """Asks for a mail to be sent."""

    type: Literal["message"]
    payload: MessagePayload

    def command(self, stamp: RequestStamp, client: str) -> SendEmail:
        """Return the command of the mail."""
        content = self.payload.content
        is_html = content.lstrip().startswith("<")
        return SendEmail.model_construct(
            id=stamp.id,
            client=client,
            created_at=stamp.at,
            to=(self.payload.user,),
            subject=self.payload.subject,
            text=None if is_html else content,
            html=content if is_html else None,
            metadata={"task": self.task},
            retries=self.retries,
        )


class CodeTask(NewTask):
    """Asks for a one-time code to be mailed."""

    type: Literal["generateOtp"]
    payload: CodePayload

    @property
    def code(self) -> NewCode:
        """The request for the code."""
        return NewCode(email=self.payload.user, length=self.payload.length)


class SubscribeTask(NewTask):
    """Asks for a content to be mailed again and again."""

    type: Literal["subscribe"]
    payload: SubscribePayload

    def command(self, stamp: RequestStamp, client: str) -> Subscribe:
        """Return the command to the scheduler."""
        return Subscribe(
            id=stamp.id,
            client=client,
            email=self.payload.user,
            content_type=self.payload.content_type,
            frequency=self.payload.frequency,
            retries=self.retries,
        )


class UnsubscribeTask(NewTask):
    """Asks for a subscription to end."""

    type: Literal["unsubscribe"]
    payload: UnsubscribePayload

    def command(self, stamp: RequestStamp, client: str) -> Unsubscribe:
        """Return the command to the scheduler."""
        return Unsubscribe(
            id=stamp.id,
            client=client,
            email=self.payload.user,
            content_type=self.payload.content_type,
        )


AnyTask = MessageTask | CodeTask | SubscribeTask | UnsubscribeTask
TASKS: Mapping[object, type[AnyTask]] = {
    "message": MessageTask,
    "generateOtp": CodeTask,
    "subscribe": SubscribeTask,
    "unsubscribe": UnsubscribeTask,
}


class TaskAnswer(ResponseBody):
    """The task is accepted, and done whatever fails from now on."""

    status: Literal[True] = True
    msg: str = Field(description="The same for each task of its type")
    id: str = Field(description="Of the message, the code or the command")


POST_TASK = Operation(
    "postTask",
    "POST /v1/tasks",
    "Send a mail or a code, begin or end a subscription",
    (Success(202, "It is stored, or the code is on its way", TaskAnswer),),
    scope=Scope.SEND,
    body=MessageTask,
    other_bodies=(CodeTask, SubscribeTask, UnsubscribeTask),
    problems=(KEY_REUSED, TOO_MANY_REQUESTS),
    description="`generateOtp` needs the scope `codes` too. Subscriptions are a 503 while there is "
    "no scheduler.",
    repeatable=True,
)


@dataclass(frozen=True, slots=True)
class TaskViews:
    """Publishes the command of each task."""

    reader: RequestReader
    broker: Broker
    codes: CodeViews

    async def post(self, request: web.Request) -> web.Response:
        """Do the task of a request."""
        content = await self.reader.read_bytes(request)
        task = await self.reader.check(content, lambda: read_task(content))
        if isinstance(task, CodeTask):
            check_scope(request[CLIENT], Scope.CODES)
            issued = await self.codes.issue(request, task.code, content)
            return _accepted(task, issued.challenge_id)
        stamp = await self.reader.stamp(request, content)
        command = task.command(stamp, request[CLIENT].id)
        try:
            await self.broker.publish(command)
        except NoQueue as error:
            if isinstance(task, MessageTask):
                raise  # the ledger may have its copy
            raise Problem(
                UNAVAILABLE,
                "No scheduler runs. Nothing was done.",
                headers=retry_after(),
                reason=str(error),
            ) from None
        return _accepted(task, command.id)


def read_task(content: bytes) -> AnyTask:
    """Return the checked task of a body. Raises Problem."""
    value: Any = body.parse(content)
    kind = value.get("type") if isinstance(value, dict) else None
    model = TASKS.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise invalid("#/type", f"must be one of {', '.join(map(str, TASKS))}")
    return body.checked(model, value)


def _accepted(task: AnyTask, identifier: str) -> web.Response:
    return respond(202, TaskAnswer(msg=_MESSAGES[task.type], id=identifier))


_MESSAGES = {
    "message": "The mail is accepted",
    "generateOtp": "The code is on its way",
    "subscribe": "The subscription is accepted",
    "unsubscribe": "The end of the subscription is accepted",
}
