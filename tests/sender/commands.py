"""Commands as tests need them."""

from datetime import UTC, datetime
from typing import Any

from shared.contracts import Category, SendEmail

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
