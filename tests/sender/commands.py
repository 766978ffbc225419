"""Commands as tests need them."""

import base64
from datetime import UTC, datetime
from typing import Any

from shared.contracts import Category, SendEmail
from shared.contracts.attachment import Attachment

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def a_command(*to: str, category: Category = Category.TRANSACTIONAL, **more: Any) -> SendEmail:  # noqa: ANN401 -- fields of the contract
    """Give a command for some recipients, anna when none is named."""
    fields: dict[str, Any] = {
        "id": "mail-1",
        "to": to or ("anna@x.example",),
        "subject": "Hello",
        "text": "How are you?\n",
    }
    return SendEmail(category=category, **(fields | more))


def a_file(name: str = "a.txt", octets: bytes = b"Hello", **more: Any) -> Attachment:  # noqa: ANN401 -- fields of the contract
    """Give a file that goes with a mail."""
    return Attachment(filename=name, content=base64.b64encode(octets).decode(), **more)
