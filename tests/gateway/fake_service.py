"""Services behind the gateway that answer as a test wants."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from shared.broker import Broker
from shared.consumer import Handler, Subscription
from shared.contracts import Contract, ReplyClass, SendEmail

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def silent(message: Contract) -> Sequence[Contract]:
    """Return no answer."""
    del message
    return ()


@dataclass
class FakeService:
    """A handler that returns a test's answers and records the messages."""

    answer: Callable[[Any], Sequence[Contract]] = silent
    got: list[Any] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, message: Contract) -> Sequence[Contract]:
        """Record a message and return its answers."""
        self.got.append(message)
        self.asked.set()
        return self.answer(message)


def outcomes(*kinds: type[Contract]) -> Callable[[SendEmail], Sequence[Contract]]:
    """Return an answer to a mail: one outcome of each kind, for the recipients in order."""
    return lambda command: [
        _outcome(kind, command, recipient)
        for recipient, kind in zip(command.recipients, kinds, strict=False)
    ]


def _outcome(kind: type[Contract], command: SendEmail, recipient: str) -> Contract:
    return kind.model_validate(
        {
            "id": f"{command.id}-{kind.__name__}",
            "at": NOW,
            "email_id": command.id,
            "category": command.category,
            "recipient": recipient,
            "attempt": 1,
            "reply": {"stage": "rcpt", "code": 250, "text": "so it is"},
            "reply_class": ReplyClass.MAILBOX_UNKNOWN,
            "retry_after": 5,
        }
    )


@asynccontextmanager
async def running_service(
    url: str, queue: str, handlers: Mapping[type[Contract], Handler]
) -> AsyncIterator[None]:
    """Run a service that handles one queue until the block is left."""
    subscription = Subscription(queue, handlers, prefetch=10)
    async with Broker.connect(url, "fake") as connected, connected.consuming(subscription):
        yield
