"""Clients, as services beside the gateway see them: whose key it is, removals, and changes."""

from collections.abc import Collection
from datetime import date
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from shared import client_address
from shared.contracts import address
from shared.contracts.fields import (
    MAX_IP_CHARS,
    NOT_EMPTY,
    Id,
    Moment,
    OptionalMoment,
    ShortText,
    no_control,
)
from shared.contracts.message import Answer, Event, OperatorQuestion, Question

MAX_CLIENT_ID_CHARS = 64
CLIENT_ID_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
MAX_SENDERS = 100  # of a client
MAX_KEY_CHARS = 2000  # a key has some 300
MAX_SCOPES = 100
MAX_NETWORKS = 100  # of a client
MAX_SENDER_CHARS = 255  # an address (RFC 5321 4.5.3.1, errata 1690), or a domain with its `@`
SENDER_FORM = "@"  # as far as JSON Schema can express it
MAX_NETWORK_CHARS = 50  # of the longest form of IPv6 (RFC 4291 2.2) with its prefix length
NETWORK_FORM = r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$"  # as far as JSON Schema can express it
MAX_LISTED_CLIENTS = 100  # of a page
MAX_CLIENT_KEYS = 10  # that are shown of a client; it has two at most
MAX_CLIENTS_BYTES = 16 * 1024 * 1024  # of a page: senders and networks take 80 kB a client
MAX_CLIENT_BYTES = 256 * 1024


class Scope(StrEnum):
    """A right of a client; each operation asks for one of them."""

    SEND = "send"
    CODES = "codes"
    EVENTS = "events"
    READ = "read"
    SUPPRESS = "suppress"
    WEBHOOKS = "webhooks"


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
ClientId = Annotated[
    str, StringConstraints(pattern=CLIENT_ID_PATTERN, max_length=MAX_CLIENT_ID_CHARS)
]


def allows_sender(senders: Collection[str] | None, mailbox: str | None) -> bool:
    """Return whether a client with these senders may write a canonical mailbox into From.

    They are addresses and domains (`@shop.example`); None is any. A mail without a From has the
    deployment's default, which every client may use.
    """
    if senders is None or mailbox is None:
        return True
    bare = address.bare_address(mailbox)
    return bare in senders or f"@{address.domain_of(bare)}" in senders


class AuthenticateClient(Question):
    """Asks the gateway whether a key is one of a client's keys, and valid at an address."""

    keys = ("client.authenticate",)

    client: Id
    key: Annotated[str, AfterValidator(no_control)] = Field(max_length=MAX_KEY_CHARS, repr=False)
    remote: Annotated[str, AfterValidator(no_control)] = Field(
        max_length=MAX_IP_CHARS, description="The address of the key's user"
    )


class AuthenticatedClient(BaseModel):
    """A client and its rights."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: Id
    senders: tuple[ShortText, ...] | None = Field(
        None, max_length=MAX_SENDERS, description="From addresses and domains; any if absent"
    )
    scopes: Annotated[tuple[ShortText, ...], Field(max_length=MAX_SCOPES)]
    expires_at: OptionalMoment = None


class ClientAuthenticated(Answer):
    """Answers `AuthenticateClient`; without a client the key is not valid, for no stated reason."""

    keys = ("client.authenticated",)

    client: AuthenticatedClient | None = None


class ClientRemoved(Event):
    """Signals that a client was removed: what acts in its name ends.

    Its id may be registered again, before or after this arrives; the time of the registration says
    which of the two clients was removed.
    """

    keys = ("client.removed",)

    client: Id
    registered_at: Moment = Field(description="When the client that was removed was registered")


class ClientKeyRecord(BaseModel):
    """A key of a client, without what is needed to use it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    key_id: Id
    created_at: Moment
    expires_at: OptionalMoment = None
    last_used_on: date | None = Field(None, description="By UTC; absent if it was never used")


class ClientRecord(BaseModel):
    """A client: what it may do, from where and until when, and its keys, the oldest first."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    client_id: Id
    created_at: Moment
    senders: tuple[ShortText, ...] | None = Field(
        None, max_length=MAX_SENDERS, description="From addresses and domains; any if absent"
    )
    scopes: Annotated[tuple[ShortText, ...], Field(max_length=MAX_SCOPES)]
    networks: tuple[ShortText, ...] | None = Field(
        None, max_length=MAX_NETWORKS, description="Where its keys are valid; anywhere if absent"
    )
    expires_at: OptionalMoment = None
    client_keys: tuple[ClientKeyRecord, ...] = Field((), max_length=MAX_CLIENT_KEYS)


class ClientRights(BaseModel):
    """The rights of a client: in whose name it sends, what it may do, from where and until when."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    senders: Annotated[tuple[Sender, ...], Field(max_length=MAX_SENDERS)] | None = Field(
        None, description="From addresses and domains; any if absent"
    )
    scopes: Annotated[tuple[Scope, ...], Field(max_length=len(Scope))] | None = Field(
        None, description="All if absent"
    )
    networks: (
        Annotated[tuple[NetworkText, ...], Field(max_length=MAX_NETWORKS), NOT_EMPTY] | None
    ) = Field(None, description="Where its keys are valid; anywhere if absent")
    expires_at: Moment | None = Field(None, description="When its keys end; never if absent")


class ClientResult(StrEnum):
    """The result of a question about a client."""

    FOUND = "found"
    CREATED = "created"
    CHANGED = "changed"
    REVOKED = "revoked"
    EXISTS = "exists"  # already, so that nothing was created
    UNKNOWN = "unknown"  # the client, or the key of it
    TOO_MANY_KEYS = "too_many_keys"
    OVER = "over"  # the end that was asked for, so that nothing was created or changed
    OUTDATED = "outdated"  # it was changed since the asker saw it, so that nothing was changed


class ListClients(OperatorQuestion):
    """Asks for a page of clients, by id."""

    keys = ("client.list",)

    after: Id | None = Field(None, description="`next` of the page before")
    limit: int = Field(MAX_LISTED_CLIENTS, ge=1, le=MAX_LISTED_CLIENTS)


class ClientsListed(Answer):
    """Answers with a page of clients."""

    keys = ("client.listed",)
    max_bytes = MAX_CLIENTS_BYTES

    clients: tuple[ClientRecord, ...] = Field(max_length=MAX_LISTED_CLIENTS)
    next: Id | None = Field(None, description="`after` of the next page; absent at the last one")


class DescribeClient(OperatorQuestion):
    """Asks for a client."""

    keys = ("client.describe",)

    client_id: Id


class RegisterClient(OperatorQuestion):
    """Asks for a client to be registered. The answer, after the commit, has its first key."""

    keys = ("client.register",)
    max_bytes = MAX_CLIENT_BYTES

    client_id: ClientId
    rights: ClientRights = ClientRights()


class ChangeClient(OperatorQuestion):
    """Asks for the rights of a client to be changed, if they still are as the operator saw them."""

    keys = ("client.change",)
    max_bytes = MAX_CLIENT_BYTES

    client_id: Id
    rights: ClientRights
    seen: ClientRights


class RevokeClient(OperatorQuestion):
    """Asks for a client and its keys to be revoked. Asked again, there is none."""

    keys = ("client.revoke",)

    client_id: Id


class AddClientKey(OperatorQuestion):
    """Asks for a second key of a client, so that the first can be revoked after it."""

    keys = ("client.add_key",)

    client_id: Id


class RevokeClientKey(OperatorQuestion):
    """Asks for a key of a client to be revoked. Asked again, there is none."""

    keys = ("client.revoke_key",)

    client_id: Id
    key_id: Id


class ClientAnswered(Answer):
    """Answers with the result, the client if there is one, and a key if it is new."""

    keys = ("client.answered",)
    max_bytes = MAX_CLIENT_BYTES

    result: ClientResult
    client: ClientRecord | None = None
    key_id: Id | None = None
    api_key: str | None = Field(None, max_length=MAX_KEY_CHARS, repr=False)
