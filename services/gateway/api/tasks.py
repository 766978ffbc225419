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
    NO_SUCH_CONTENT_TYPE,
    OPTED_OUT,
    SUPPRESSED,
    TOO_MANY_REQUESTS,
    Problem,
    invalid,
)
from services.gateway.api.request import CLIENT, check_scope
from services.gateway.api.response import AskingViews, ResponseBody, respond
from services.gateway.api.schedule import SCHEDULED_AT, ScheduledAt, schedule_refusal
from services.gateway.api.subscriptions import subscribe
from services.gateway.clients.idempotency import RequestStamp
from shared.contracts import (
    AddSuppressions,
    Category,
    NewSuppression,
    SendEmail,
    Subscribe,
    SubscriptionResult,
    SuppressionOrigin,
    SuppressionsChanged,
)
from shared.contracts.clients import Scope
from shared.contracts.fields import Address, Id, LineText, Subject, Text
from shared.contracts.frequency import NamedFrequency


class TaskPayload(BaseModel):
    """The payload of every task; a field that its task does not need is ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    user: Address = Field(alias="userId", description="The address that it is for")


class MessagePayload(TaskPayload):
    """A mail."""

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

    frequency: NamedFrequency


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
    scheduled_at: ScheduledAt = Field(None, description=SCHEDULED_AT)

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
            scheduled_at=self.scheduled_at and max(self.scheduled_at, stamp.at),
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

    def question(self, stamp: RequestStamp, client: str) -> Subscribe:
        """Return the question to the scheduler."""
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

    def question(self, stamp: RequestStamp, client: str) -> AddSuppressions:
        """Return the question to the ledger, whose event ends the subscription."""
        entry = NewSuppression(
            email=self.payload.user,
            client=client,
            list_id=self.payload.content_type,
            categories=(Category.BULK,),
            origin=SuppressionOrigin.UNSUBSCRIBE,
        )
        return AddSuppressions(id=stamp.id, suppressions=(entry,))


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
    problems=(KEY_REUSED, TOO_MANY_REQUESTS, NO_SUCH_CONTENT_TYPE, OPTED_OUT, SUPPRESSED),
    description="`generateOtp` needs the scope `codes` too. Subscriptions are a 503 while there is "
    "no scheduler.",
    repeatable=True,
)


@dataclass(frozen=True, slots=True)
class TaskViews(AskingViews):
    """Publishes the command of each task, or asks the service that keeps it."""

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
        client = request[CLIENT].id
        match task:
            case MessageTask():
                if refusal := schedule_refusal(task.scheduled_at, stamp.at):
                    await self.reader.forget_key(request, stamp)
                    raise refusal
                await self.broker.publish(task.command(stamp, client))
            case SubscribeTask():
                await self._subscribe(task.question(stamp, client))
            case UnsubscribeTask():
                question = task.question(stamp, client)
                await self.ask(question, SuppressionsChanged)
        return _accepted(task, stamp.id)

    async def _subscribe(self, question: Subscribe) -> None:
        answer = await subscribe(self, question)
        if answer.result is SubscriptionResult.NO_CONTENT_TYPE:
            raise Problem(NO_SUCH_CONTENT_TYPE)


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
