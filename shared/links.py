"""Links in mails to the gateway: to unsubscribe, and to confirm a subscription.

A link holds an opaque token, sealed (AES-256-GCM): it shows no address, cannot be forged, and needs
no table. The same subscription has another token in each mail, and each works for a year.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError
from yarl import URL

from shared.contracts.fields import Address, Id, Locale, Moment
from shared.runtime.sealing import Sealer

LINK_DAYS = 365
MAX_TOKEN_CHARS = 2_000
MAX_URL_CHARS = 200
_CONTEXT = "link"


class LinkKind(StrEnum):
    """The effect of a link; its path begins with the value."""

    UNSUBSCRIBE = "unsubscribe"
    CONFIRM = "subscribe"


class LinkedSubscription(BaseModel):
    """The facts in a token."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: LinkKind
    client: Id | None = None
    email: Address
    content_type: Id
    locale: Locale | None = None
    expires_at: Moment


def _check_url(text: str) -> str:
    url = URL(text)
    if url.scheme not in {"http", "https"} or not url.host or url.query_string or url.fragment:
        raise ValueError("must be an http or https URL without a query")
    return text.rstrip("/")


PublicUrl = Annotated[str, StringConstraints(max_length=MAX_URL_CHARS), AfterValidator(_check_url)]


class Links:
    """Makes the links below a URL, and reads their tokens."""

    def __init__(self, url: str, sealer: Sealer) -> None:
        self._url = url
        self._sealer = sealer

    @property
    def one_click(self) -> bool:
        """Whether mail programs may unsubscribe by them: RFC 8058 3.1 demands https."""
        return self._url.startswith("https:")

    def to(self, subscription: LinkedSubscription) -> str:
        """Return the link of a subscription."""
        content = subscription.model_dump_json(exclude_none=True).encode()
        return f"{self._url}/{subscription.kind}/{self._sealer.seal(content, _CONTEXT)}"

    def read(self, kind: LinkKind, token: str, now: datetime) -> LinkedSubscription | None:
        """Return the facts in a token, None for one that is unknown, of another kind or too old."""
        if len(token) > MAX_TOKEN_CHARS:
            return None
        try:
            content = self._sealer.open(token, _CONTEXT)
            found = LinkedSubscription.model_validate(orjson.loads(content))
        except (ValueError, ValidationError):
            return None
        return found if found.kind is kind and found.expires_at > now else None


def link_end(now: datetime) -> datetime:
    """Return the end of a link that is made now."""
    return now + timedelta(days=LINK_DAYS)
