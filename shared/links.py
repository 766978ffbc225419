"""Links in mails to the gateway: to unsubscribe, and to confirm a subscription.

A link holds an opaque token, sealed (AES-256-GCM): it shows no address, cannot be forged, and needs
no table. The same subscription has another token in each mail, and each works for a year.
"""

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError
from yarl import URL

from shared.contracts.fields import Address, Id, Locale, Moment
from shared.runtime.sealing import Sealer

LINK_DAYS = 365
MAX_TOKEN_CHARS = 2_000
MAX_URL_CHARS = 200  # the longest link is a header line of 950 octets; 998 are allowed
MAX_LABEL_CHARS = 63  # of a domain name (RFC 1035 2.3.4)
# A List-Id has two labels before the host of the links, and at most 255 octets (RFC 2919 2).
MAX_HOST_CHARS = 255 - 2 * (MAX_LABEL_CHARS + 1)
UNSUBSCRIBE_VARIABLE = "unsubscribe_url"  # what the templates of newsletters may show


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
    if url.user is not None or url.password is not None:
        raise ValueError("must have no user: readers of mails would see it")
    if len(_host(url)) > MAX_HOST_CHARS:
        raise ValueError(f"must have a host of at most {MAX_HOST_CHARS} characters")
    found = str(url).rstrip("/")  # with the host in A-labels, as header fields need it
    if len(found) > MAX_URL_CHARS:
        raise ValueError(
            f"must have at most {MAX_URL_CHARS} characters, those beyond ASCII encoded"
        )
    return found


def _host(url: URL) -> str:
    """Return the host as the end of a List-Id; localhost for one without a name (RFC 2919 4)."""
    host = (url.raw_host or "").rstrip(".")
    return "localhost" if ":" in host else host


PublicUrl = Annotated[str, StringConstraints(max_length=MAX_URL_CHARS), AfterValidator(_check_url)]


class Links:
    """Makes the links below a URL, and reads their tokens."""

    def __init__(self, url: str, sealer: Sealer) -> None:
        self._url = url
        self.host = _host(URL(url))
        self._sealer = sealer

    @property
    def one_click(self) -> bool:
        """Whether mail programs may unsubscribe by them: RFC 8058 3.1 demands https."""
        return self._url.startswith("https:")

    def to(self, subscription: LinkedSubscription) -> str:
        """Return the link of a subscription."""
        token = self._sealer.seal(_packed(subscription), subscription.kind)
        return f"{self._url}/{subscription.kind}/{token}"

    def read(self, kind: LinkKind, token: str, now: datetime) -> LinkedSubscription | None:
        """Return the facts in a token, None for one that is unknown, of another kind or too old."""
        if len(token) > MAX_TOKEN_CHARS:
            return None
        try:
            found = _unpacked(kind, self._sealer.open(token, kind))
        except (ValueError, ValidationError):
            return None
        return found if found.expires_at > now else None


def _packed(subscription: LinkedSubscription) -> bytes:
    """Return the facts in lines, half as long as in JSON; none of them has a line's end."""
    end = str(int(subscription.expires_at.timestamp()))
    client, locale = subscription.client or "", subscription.locale or ""
    lines = (end, client, subscription.content_type, locale, subscription.email)
    return "\n".join(lines).encode()


def _unpacked(kind: LinkKind, content: bytes) -> LinkedSubscription:
    """Return the facts in a token. Raises ValueError or ValidationError."""
    end, client, content_type, locale, email = content.decode().split("\n")
    return LinkedSubscription(
        kind=kind,
        client=client or None,
        email=email,
        content_type=content_type,
        locale=locale or None,
        expires_at=datetime.fromtimestamp(int(end), UTC),
    )


def link_end(now: datetime) -> datetime:
    """Return the end of a link that is made now."""
    return now + timedelta(days=LINK_DAYS)
