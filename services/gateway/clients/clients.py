"""Pure: the clients of the gateway: what each may do, from where, until when, and in whose name."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TypedDict

from shared import client_address
from shared.client_address import Network
from shared.contracts.clients import Scope, allows_sender

MAX_LIVE_KEYS = 2  # of a client: the old and the new one, while it changes from one to the other
ALL_SCOPES = frozenset(Scope)


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


def is_over(settings: ClientSettings, at: datetime) -> bool:
    """Return whether the settings have an end that is past, so that no key would be valid."""
    end = settings.get("expires_at")
    return end is not None and end <= at


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
