"""Commands and outcomes as tests need them."""

import base64
from datetime import UTC, datetime
from typing import Any

from services.sender import outcome
from services.sender.schedule import RetrySchedule
from shared.contracts import Category, Outcome, Reply, SendEmail
from shared.contracts.attachment import Attachment

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def a_command(*to: str, category: Category = Category.TRANSACTIONAL, **more: Any) -> SendEmail:  # noqa: ANN401 -- fields of the contract
    """Return a command for some recipients, by default anna."""
    fields: dict[str, Any] = {
        "id": "mail-1",
        "to": to or ("anna@x.example",),
        "subject": "Hello",
        "text": "How are you?\n",
    }
    return SendEmail(category=category, **(fields | more))


def a_file(name: str = "a.txt", octets: bytes = b"Hello", **more: Any) -> Attachment:  # noqa: ANN401 -- fields of the contract
    """Return a file of a mail."""
    return Attachment(filename=name, content=base64.b64encode(octets).decode(), **more)


def outcomes(
    command: SendEmail, reply: Reply, *recipients: str, retries_uncertain: bool = True
) -> tuple[Outcome, ...]:
    """Return the events of an attempt with the same reply for some recipients, by default all."""
    schedule = RetrySchedule(15, 3600, 86_400, retries_uncertain)
    result = dict.fromkeys(recipients or command.recipients, reply)
    return outcome.Attempt(command, NOW).settle(result, schedule).events
