"""The settings of the sender."""

import ipaddress
from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FilePath,
    InstanceOf,
    model_validator,
)
from pydantic_settings import NoDecode

from services.sender import keyring
from services.sender.compose import Letterhead
from services.sender.dkim import Signer
from services.sender.pool import Limits
from services.sender.relay import Login, Patience, Tls
from services.sender.schedule import Schedule
from shared import address, sealing
from shared.config import Port, Seconds, Secret, Settings
from shared.contracts import Category
from shared.fields import Domain, Mailbox

MAX_CONNECTIONS = 2000  # a class; RabbitMQ's limit of a quorum queue's prefetch
DOT_SECONDS = 600.0  # RFC 5321 4.5.3.2.6


def _sealing_keys(text: str) -> str:
    sealing.read_keys(text)
    return text


# Given as the directory that they are in, and read with the other settings: a key that cannot be
# used is told before anything is opened.
Signers = Annotated[Mapping[str, InstanceOf[Signer]], NoDecode, BeforeValidator(keyring.read)]
Connections = Annotated[int, Field(ge=1, le=MAX_CONNECTIONS)]
# A name of one label too: in a container network the relay may well be called `relay`.
Host = Annotated[
    str,
    Field(
        pattern=r"^([0-9A-Za-z_-]{1,63}(\.[0-9A-Za-z_-]{1,63})*\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$",
        max_length=255,
    ),
]
# A domain or an address literal (RFC 5321 4.1.3); some relays know their clients by it.
HeloName = Annotated[str, Field(pattern=r"^(\[[0-9A-Za-z.:]+\]|[0-9A-Za-z][0-9A-Za-z.-]*)$")]


class SenderSettings(Settings):
    """The relay, our identity, and for each class its connections and its patience.

    Times are in seconds. `sender_smtp_tls` has no default, so that clear text is a decision.
    """

    service: ClassVar[str] = "sender"

    sender_smtp_host: Host
    sender_smtp_port: Annotated[Port, Field(ge=1)]
    sender_smtp_tls: Tls
    sender_smtp_username: str | None = None
    sender_smtp_password: str | None = Field(None, repr=False)
    sender_smtp_ca_file: FilePath | None = Field(None, description="The system's if absent")
    sender_helo_name: HeloName | None = Field(
        None, max_length=255, description="Our address if absent"
    )
    sender_from: Mailbox = Field(description="From, where a command has none")
    sender_message_id_domain: Domain | None = Field(
        None, description="That of SENDER_FROM if absent"
    )
    sender_dkim_keys: Signers = Field(
        default_factory=dict,
        validate_default=False,
        repr=False,
        description="A directory of <domain>/<selector>.pem; without it nothing is signed",
    )
    sealing_key: Annotated[Secret, AfterValidator(_sealing_keys)]

    sender_connections_otp: Connections = 2
    sender_connections_transactional: Connections = 4
    sender_connections_bulk: Connections = 4
    sender_messages_per_connection: int = Field(100, ge=1)
    sender_idle_seconds: Seconds = Field(30.0, description="An older idle connection is checked")
    sender_connect_seconds: Seconds = 30.0
    sender_command_seconds: Seconds = 300.0
    sender_dot_seconds: Annotated[Seconds, Field(le=DOT_SECONDS)] = DOT_SECONDS

    sender_first_wait_otp: Seconds = 5.0
    sender_first_wait_transactional: Seconds = 15.0
    sender_first_wait_bulk: Seconds = 300.0
    sender_longest_wait_otp: Seconds = 60.0
    sender_longest_wait_transactional: Seconds = 3600.0
    sender_longest_wait_bulk: Seconds = 14_400.0
    sender_give_up_otp: Seconds = 600.0
    sender_give_up_transactional: Seconds = 86_400.0
    sender_give_up_bulk: Seconds = Field(345_600.0, description="RFC 5321 4.5.4.1: 4 or 5 days")
    sender_retry_uncertain_otp: bool = True
    sender_retry_uncertain_transactional: bool = True
    sender_retry_uncertain_bulk: bool = False

    @model_validator(mode="after")
    def _logs_in_safely(self) -> Self:
        if (self.sender_smtp_username is None) != (self.sender_smtp_password is None):
            raise ValueError("SENDER_SMTP_USERNAME and SENDER_SMTP_PASSWORD go together")
        clear = self.sender_smtp_tls is Tls.NONE and not _is_loopback(self.sender_smtp_host)
        if clear and self.sender_smtp_password is not None:
            raise ValueError("SENDER_SMTP_PASSWORD would cross the network in clear text")
        return self

    @property
    def login(self) -> Login | None:
        """The account at the relay, if it asks for one."""
        if self.sender_smtp_username is None or self.sender_smtp_password is None:
            return None
        return Login(self.sender_smtp_username, self.sender_smtp_password)

    @property
    def patience(self) -> Patience:
        """How long to wait for the relay."""
        return Patience(
            self.sender_connect_seconds, self.sender_command_seconds, self.sender_dot_seconds
        )

    @property
    def letterhead(self) -> Letterhead:
        """What a command leaves open."""
        domain = address.domain_of(address.bare_address(self.sender_from))
        return Letterhead(self.sender_from, self.sender_message_id_domain or domain)

    def limits(self, category: Category) -> Limits:
        """Give the limits of a class's connections."""
        connections: int = getattr(self, f"sender_connections_{category}")
        return Limits(connections, self.sender_messages_per_connection, self.sender_idle_seconds)

    def schedule(self, category: Category) -> Schedule:
        """Give the waits of a class."""
        return Schedule(
            first=getattr(self, f"sender_first_wait_{category}"),
            longest=getattr(self, f"sender_longest_wait_{category}"),
            give_up=getattr(self, f"sender_give_up_{category}"),
            retries_uncertain=getattr(self, f"sender_retry_uncertain_{category}"),
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
