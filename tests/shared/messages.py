"""Messages for the tests of the contracts and of the consumer."""

import json
from datetime import UTC, datetime

from shared.contracts import DomainClassified, SendEmail, Verdict, decode

KIND = "email.send.transactional"
QUEUE = "sender.transactional"  # where the commands go
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
SMALLEST = {"id": "m1", "to": ["ann@example.org"], "subject": "Hello", "text": "Hi"}


def body(**changes: object) -> bytes:
    """Return the JSON of a SendEmail."""
    return json.dumps(SMALLEST | changes).encode()


def send_email(raw: bytes) -> SendEmail:
    """Decode a transactional SendEmail."""
    message = decode(KIND, raw)
    assert isinstance(message, SendEmail)
    return message


def mail(name: str) -> SendEmail:
    """Return a command with the given id."""
    return SendEmail(id=name, to=("ada@example.com",), subject="s", text="t")


def fact(name: str) -> DomainClassified:
    """Return an event with the given id."""
    return DomainClassified(id=name, at=MOMENT, domain="example.com", status=Verdict.UNKNOWN)
