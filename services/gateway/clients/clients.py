"""Pure: the clients of the gateway: what each may do, from where, until when, and in whose name."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Annotated, TypedDict

from pydantic import AfterValidator, Field, StringConstraints

from shared import client_address
from shared.client_address import Network
from shared.contracts import address
from shared.contracts.clients import Scope, allows_sender

MAX_SENDER_CHARS = 255  # an address (RFC 5321 4.5.3.1, errata 1690), or a domain with its `@`
SENDER_FORM = "@"  # as far as JSON Schema can express it
MAX_NETWORKS = 100  # of a client
MAX_NETWORK_CHARS = 50  # of the longest form of IPv6 (RFC 4291 2.2) with its prefix length
NETWORK_FORM = r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$"  # as far as JSON Schema can express it
MAX_LIVE_KEYS = 2  # of a client: the old and the new one, while it changes from one to the other


ALL_SCOPES = frozenset(Scope)


def check_sender(text: str) -> str:
    """Return the canonical form of an address, or of a domain with its `@`. Raises ValueError."""
    if text.startswith("@"):
        return f"@{address.check_domain(text[1:])}"
    return address.check_address(text)


def check_network(text: str) -> str:
    """Return the canonical form of a network, such as 192.0.2.0/24. Raises ValueError."""
    return str(client_address.parse_network(text))


Sender = Annotated[
    str,
    StringConstraints(max_length=MAX_SENDER_CHARS),
    AfterValidator(check_sender),
    Field(json_schema_extra={"minLength": 4, "pattern": SENDER_FORM}),
]
NetworkText = Annotated[
    str,
    StringConstraints(max_length=MAX_NETWORK_CHARS),
    AfterValidator(check_network),
    Field(json_schema_extra={"pattern": NETWORK_FORM}),
]


@dataclass(frozen=True, slots=True)
class AllowedSenders:
    """The addresses and domains (`@shop.example`) that a client may write into From; None is any.

    A mail without a From has the deployment's default, which every client may use.
    """

    senders: list[str] | None = None

    def allow(self, mailbox: str | None) -> bool:
        """Return whether a canonical mailbox, or no mailbox, may stand in From."""
        return allows_sender(self.senders, mailbox)


@dataclass(frozen=True, slots=True)
class Client:
    """A client as the administrator has set it; its keys are valid from any network if None."""

    id: str
    allowed_senders: AllowedSenders = AllowedSenders()
    scopes: AbstractSet[Scope] = ALL_SCOPES
    networks: Sequence[Network] | None = None
    expires_at: datetime | None = None
    registered_at: datetime | None = field(default=None, compare=False)  # of every stored client

    def refusal(self, remote: str, at: datetime) -> str | None:
        """Return why no key of the client is valid at `remote`, for the log; None if one is."""
        if self.expires_at is not None and at >= self.expires_at:
            return "ClientExpired"
        if self.networks is not None and not client_address.is_in(remote, self.networks):
            return "ForeignNetwork"
        return None


class ClientSettings(TypedDict, total=False):
    """The settings of a client; None is the default, and an absent one stays unchanged."""

    senders: list[str] | None
    scopes: list[Scope] | None
    networks: list[str] | None
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """The stored part of a key: not the key itself, nor anything that it could be made from."""

    id: str
    created_at: datetime
    expires_at: datetime | None = None  # of a key of a version that did not store it
    last_used_on: date | None = None  # by UTC


@dataclass(frozen=True, slots=True)
class RegisteredClient:
    """A client with its keys, the oldest first."""

    client: Client
    created_at: datetime
    keys: Sequence[KeyRecord]
