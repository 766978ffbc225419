"""The settings of the sender."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Self, TypeVar

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
from services.sender.account import Account, HeloName, Host, Rate, ServerPort
from services.sender.claim import LEASE_SECONDS
from services.sender.compose import Letterhead
from services.sender.dkim import Signer
from services.sender.pace import Pace
from services.sender.relay import Auth, Backoff, Limits, Patience, Tls
from services.sender.schedule import Schedule
from services.sender.throttle import domain_rate, relay_rate
from shared import address, sealing
from shared.config import Seconds, Secret, Settings
from shared.contracts import Category
from shared.fields import Domain, Mailbox

MAX_CONNECTIONS = 2000  # a class; RabbitMQ's limit of a quorum queue's prefetch
DOT_SECONDS = 600.0  # RFC 5321 4.5.3.2.6
AWAY_SECONDS = 86_400.0  # a command may still come again after its mail was given up


def _sealing_keys(text: str) -> str:
    sealing.read_keys(text)
    return text


# Given as the directory that they are in, and read with the other settings: a key that cannot be
# used is told before anything is opened.
Signers = Annotated[Mapping[str, InstanceOf[Signer]], NoDecode, BeforeValidator(keyring.read)]
Connections = Annotated[int, Field(ge=1, le=MAX_CONNECTIONS)]

T = TypeVar("T")


class SenderSettings(Settings):
    """The relays, our identity, and for each class its connections and its patience.

    Times are in seconds. There is one relay in `sender_smtp_…`, or several in `sender_relays`.
    `sender_smtp_tls` has no default, so that clear text is a decision.
    """

    service: ClassVar[str] = "sender"

    sender_smtp_host: Host | None = None
    sender_smtp_port: ServerPort | None = None
    sender_smtp_tls: Tls | None = None
    sender_smtp_username: str | None = None
    sender_smtp_password: str | None = Field(None, repr=False)
    sender_smtp_token_file: FilePath | None = Field(
        None, description="For XOAUTH2; read at each login"
    )
    sender_smtp_auth: Auth = Auth.AUTO
    sender_smtp_ca_file: FilePath | None = Field(None, description="The system's if absent")
    sender_helo_name: HeloName | None = Field(None, description="Our address if absent")
    sender_relays: tuple[Account, ...] = Field(
        (), repr=False, description="Several relays as a JSON list of objects"
    )
    sender_smtp_rate: Rate | None = Field(None, description="Mails a second, over all senders")
    sender_domain_rates: Mapping[Domain, Rate] = Field(
        default_factory=dict,
        description="Recipients a second by their domain, over all senders, as a JSON object",
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
    sender_write_seconds: Seconds = Field(180.0, description="For each 256 KiB of a mail")
    sender_rest_seconds: Seconds = Field(5.0, description="Of a relay away; then doubling")
    sender_longest_rest_seconds: Seconds = 300.0

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
    sender_claim_seconds: Seconds = Field(
        LEASE_SECONDS, description="A sender that has not been heard of for so long is dead"
    )
    sender_remember: Seconds = Field(
        604_800.0, description="How long a mail's outcome answers a copy of its command"
    )
    sender_purge_seconds: Seconds = Field(3600.0, description="Between two clearings of old rows")

    @model_validator(mode="after")
    def _has_relays(self) -> Self:
        names = [(account.host, account.port) for account in self.sender_relays]
        if names and self.sender_smtp_host is not None:
            raise ValueError("SENDER_RELAYS or SENDER_SMTP_HOST, not both")
        if len(set(names)) < len(names):
            raise ValueError("SENDER_RELAYS names a relay twice")
        if problem := next(filter(None, (each.problem() for each in self.accounts)), None):
            raise ValueError(f"SENDER_SMTP: {problem}")
        return self

    @model_validator(mode="after")
    def _remembers_long_enough(self) -> Self:
        longest = max(self.schedule(category).give_up for category in Category)
        if self.sender_remember < longest + AWAY_SECONDS:
            # A mail forgotten while it is still tried could be sent by two senders.
            raise ValueError("SENDER_REMEMBER must be a day longer than any SENDER_GIVE_UP")
        return self

    @property
    def accounts(self) -> tuple[Account, ...]:
        """The relays. Raises ValueError when there is none."""
        return self.sender_relays or (self._account(),)

    def _account(self) -> Account:
        """Give the one relay of the simple form; what its parts look like was checked before."""
        return Account.model_construct(
            host=_needed(self.sender_smtp_host, "HOST"),
            port=_needed(self.sender_smtp_port, "PORT"),
            tls=_needed(self.sender_smtp_tls, "TLS"),
            username=self.sender_smtp_username,
            password=self.sender_smtp_password,
            token_file=self.sender_smtp_token_file,
            auth=self.sender_smtp_auth,
            ca_file=self.sender_smtp_ca_file,
            helo_name=self.sender_helo_name,
            rate=self.sender_smtp_rate,
        )

    @property
    def patience(self) -> Patience:
        """How long to wait for the relay."""
        return Patience(
            self.sender_connect_seconds,
            self.sender_command_seconds,
            self.sender_dot_seconds,
            self.sender_write_seconds,
        )

    @property
    def backoff(self) -> Backoff:
        """How long a relay rests that does not serve us."""
        return Backoff(self.sender_rest_seconds, self.sender_longest_rest_seconds)

    @property
    def paces(self) -> Mapping[str, Pace]:
        """The rates that are limited, by their names."""
        relays = {relay_rate(f"{each.host}:{each.port}"): each.rate for each in self.accounts}
        domains = {domain_rate(name): rate for name, rate in self.sender_domain_rates.items()}
        return {name: Pace(rate) for name, rate in {**relays, **domains}.items() if rate}

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


def _needed(value: T | None, name: str) -> T:
    if value is None:
        raise ValueError(f"SENDER_SMTP_{name} is needed, or SENDER_RELAYS")
    return value
