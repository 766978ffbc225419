"""Pure: the clients of the gateway, what each may do, and the addresses it may send from."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from shared.contracts import address

MAX_CLIENT_ID_CHARS = 64
CLIENT_ID_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
MAX_SENDERS = 100  # of a client
MAX_SENDER_CHARS = 255  # an address (RFC 5321 4.5.3.1, errata 1690), or a domain with its `@`
SENDER_FORM = "@"  # as far as JSON Schema can express it


class Scope(StrEnum):
    """A right of a client; each operation asks for one of them."""

    SEND = "send"
    CODES = "codes"
    EVENTS = "events"
    READ = "read"
    SUPPRESS = "suppress"


ALL_SCOPES = frozenset(Scope)


def check_sender(text: str) -> str:
    """Return the canonical form of an address, or of a domain with its `@`. Raises ValueError."""
    if text.startswith("@"):
        return f"@{address.check_domain(text[1:])}"
    return address.check_address(text)


Sender = Annotated[
    str,
    StringConstraints(max_length=MAX_SENDER_CHARS),
    AfterValidator(check_sender),
    Field(json_schema_extra={"minLength": 4, "pattern": SENDER_FORM}),
]


@dataclass(frozen=True, slots=True)
class AllowedSenders:
    """The addresses and domains (`@shop.example`) that a client may write into From; None is any.

    A mail without a From has the deployment's default, which every client may use.
    """

    senders: list[str] | None = None

    def allow(self, mailbox: str | None) -> bool:
        """Return whether a canonical mailbox, or no mailbox, may stand in From."""
        if self.senders is None or mailbox is None:
            return True
        bare = address.bare_address(mailbox)
        return bare in self.senders or f"@{address.domain_of(bare)}" in self.senders


@dataclass(frozen=True, slots=True)
class Client:
    """A client that has shown a valid key."""

    id: str
    allowed_senders: AllowedSenders
    scopes: AbstractSet[Scope] = ALL_SCOPES
