"""Clients, as services beside the gateway see them: whose key a password is, and their removal."""

from collections.abc import Collection
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from shared.contracts import address
from shared.contracts.fields import (
    MAX_IP_CHARS,
    Id,
    Moment,
    OptionalMoment,
    ShortText,
    no_control,
)
from shared.contracts.message import Answer, Event, Question

MAX_CLIENT_ID_CHARS = 64
CLIENT_ID_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"
MAX_SENDERS = 100  # of a client
MAX_KEY_CHARS = 2000  # a key has some 300
MAX_SCOPES = 100


class Scope(StrEnum):
    """A right of a client; each operation asks for one of them."""

    SEND = "send"
    CODES = "codes"
    EVENTS = "events"
    READ = "read"
    SUPPRESS = "suppress"
    WEBHOOKS = "webhooks"


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
