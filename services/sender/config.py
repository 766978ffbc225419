"""The settings of the sender."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf, model_validator
from pydantic_settings import NoDecode

from services.sender.claims import LEASE_SECONDS
from services.sender.mail.compose import MailDefaults, MailProvider
from services.sender.mail.dkim import DkimSigner, read_signers
from services.sender.schedule import Backoff, RetrySchedule
from services.sender.smtp.rate_limits import domain_rate, relay_rate
from services.sender.smtp.relay import (
    Auth,
    ConnectionLimits,
    HeloName,
    Host,
    PerSecond,
    RelaySettings,
    ServerPort,
    Timeouts,
    Tls,
)
from services.sender.store import LATE_COMMAND_SECONDS
from shared.config import CertificateFile, KeyText, Seconds, SecretFile, Settings
from shared.contracts import Category, address
from shared.contracts.fields import Domain, Mailbox
from shared.return_path import ReturnPaths
from shared.runtime import sealing
from shared.storage.rate import Rate

MAX_CONNECTIONS = 2000  # a class
MAX_PREFETCH = 2000  # RabbitMQ's limit for a quorum queue
# Mails in this process for each connection beside the one on it, so that it has no pause while
# claims and outcomes are committed and confirmed. More would only wait at a slow relay.
WAITING_PER_CONNECTION = 3
DOT_SECONDS = 600.0  # RFC 5321 4.5.3.2.6
# At a shutdown the content may be sent until DRAIN_SECONDS are over. Then the reply has the time of
# RFC 5321.
DRAIN_DOT_SECONDS = 660.0

_REQUIRED = ("SENDER_SMTP_HOST", "SENDER_SMTP_PORT", "SENDER_SMTP_TLS")  # of the one relay

# For the reply to MAIL over a kept connection; a person waits for a code. RFC 5321 4.5.3.2.2 asks
# for 300 seconds, which the relay has when the mail then goes over a new connection.
KEPT_SECONDS = 60.0
KEPT_CODE_SECONDS = 5.0

# Descriptions of the settings that each class has.
CONNECTIONS_TEXT = "SMTP connections of this class to each relay"
FIRST_WAIT_TEXT = "Seconds before the second attempt; then doubling"
LONGEST_WAIT_TEXT = "Seconds where doubling ends"
GIVE_UP_TEXT = "Seconds after which a deferred mail expires"
RETRY_UNCERTAIN_TEXT = "Whether a mail that may have arrived is sent again"


# The setting is their directory, read with the other settings: an unusable key is reported before
# anything is opened.
Signers = Annotated[Mapping[str, InstanceOf[DkimSigner]], NoDecode, BeforeValidator(read_signers)]
Connections = Annotated[int, Field(ge=1, le=MAX_CONNECTIONS)]


class SenderSettings(Settings):
    """The relays, our identity, and the connections and waits of each class.

    Times are in seconds. There is one relay in `sender_smtp_…`, or several in `sender_relays`.
    `sender_smtp_tls` has no default, so that clear text is a decision.
    """

    service: ClassVar[str] = "sender"

    sender_smtp_host: Host | None = Field(None, description="The relay, if there is only one")
    sender_smtp_port: ServerPort | None = Field(None, description="Its port")
    sender_smtp_tls: Tls | None = Field(None, description="From the start, by STARTTLS, or none")
    sender_smtp_username: str | None = Field(None, description="No login if absent")
    sender_smtp_password: str | None = Field(None, repr=False, description="Of that user")
    sender_smtp_token_file: SecretFile | None = Field(
        None, description="For XOAUTH2; read at each login"
    )
    sender_smtp_auth: Auth = Field(Auth.AUTO, description="How to log in")
    sender_smtp_ca_file: CertificateFile | None = Field(None, description="The system's if absent")
    sender_helo_name: HeloName | None = Field(None, description="Our address if absent")
    sender_relays: tuple[RelaySettings, ...] = Field(
        (), repr=False, description="Several relays as a JSON list of objects"
    )
    sender_smtp_chunking: bool = Field(
        default=True, description="Whether BDAT may be used where the relay offers CHUNKING"
    )
    sender_smtp_rate: PerSecond | None = Field(None, description="Mails a second, over all senders")
    sender_domain_rates: Mapping[Domain, PerSecond] = Field(
        default_factory=dict,
        description="Recipients a second by their domain, over all senders, as a JSON object",
    )
    sender_from: Mailbox = Field(description="From, where a command has none")
    sender_message_id_domain: Domain | None = Field(
        None, description="That of SENDER_FROM if absent"
    )
    sender_provider: MailProvider | None = Field(
        None, description="The relay is of this provider, whose webhooks name mails by a header"
    )
    sender_dkim_keys: Signers = Field(
        default_factory=dict,
        validate_default=False,
        repr=False,
        description="A directory of <domain>/<selector>.pem; without it nothing is signed",
    )
    sender_bounce_domain: Domain | None = Field(
        None,
        description="Reports about mails come back to this domain: each mail goes to one recipient,"
        " with an envelope sender of its own; From is the envelope sender if absent",
    )
    bounce_key: Annotated[str, AfterValidator(sealing.check_keys)] | None = Field(
        None,
        repr=False,
        description="Signs these envelope senders as inbound has it; 32 bytes as hex, the newest"
        " first; needed with a bounce domain",
    )
    sealing_key: Annotated[KeyText, AfterValidator(sealing.check_keys)] = Field(
        description="Opens codes; of 32 bytes as hex, newest first, separated by commas"
    )
    suppression_key: Annotated[KeyText, AfterValidator(sealing.check_one_key)] = Field(
        description="Hashes suppressed addresses as the ledger does; 32 bytes as hex, for good"
    )

    sender_connections_otp: Connections = Field(2, description=CONNECTIONS_TEXT)
    sender_connections_transactional: Connections = Field(4, description=CONNECTIONS_TEXT)
    sender_connections_bulk: Connections = Field(4, description=CONNECTIONS_TEXT)
    sender_messages_per_connection: int = Field(
        100, ge=1, description="After so many a connection is closed"
    )
    sender_idle_seconds: Seconds = Field(30.0, description="An older idle connection is checked")
    sender_connect_seconds: Seconds = Field(30.0, description="For a relay to be reached")
    sender_command_seconds: Seconds = Field(300.0, description="For the reply to a command")
    sender_dot_seconds: Annotated[Seconds, Field(le=DOT_SECONDS)] = Field(
        DOT_SECONDS, description="For the reply to a whole mail"
    )
    sender_drain_dot_seconds: Seconds = Field(
        DRAIN_DOT_SECONDS, description="The same at a shutdown, from SIGTERM on"
    )
    sender_write_seconds: Seconds = Field(180.0, description="For each 256 KiB of a mail")
    sender_rest_seconds: Seconds = Field(
        5.0, description="Without attempts at a relay that is away; then doubling"
    )
    sender_longest_rest_seconds: Seconds = Field(300.0, description="Where doubling ends")

    sender_first_wait_otp: Seconds = Field(5.0, description=FIRST_WAIT_TEXT)
    sender_first_wait_transactional: Seconds = Field(15.0, description=FIRST_WAIT_TEXT)
    sender_first_wait_bulk: Seconds = Field(300.0, description=FIRST_WAIT_TEXT)
    sender_longest_wait_otp: Seconds = Field(60.0, description=LONGEST_WAIT_TEXT)
    sender_longest_wait_transactional: Seconds = Field(3600.0, description=LONGEST_WAIT_TEXT)
    sender_longest_wait_bulk: Seconds = Field(14_400.0, description=LONGEST_WAIT_TEXT)
    sender_give_up_otp: Seconds = Field(600.0, description=GIVE_UP_TEXT)
    sender_give_up_transactional: Seconds = Field(86_400.0, description=GIVE_UP_TEXT)
    sender_give_up_bulk: Seconds = Field(
        345_600.0, description=f"{GIVE_UP_TEXT}; RFC 5321 4.5.4.1: 4 or 5 days"
    )
    sender_retry_uncertain_otp: bool = Field(default=True, description=RETRY_UNCERTAIN_TEXT)
    sender_retry_uncertain_transactional: bool = Field(
        default=True, description=RETRY_UNCERTAIN_TEXT
    )
    sender_retry_uncertain_bulk: bool = Field(default=False, description=RETRY_UNCERTAIN_TEXT)
    sender_claim_seconds: Seconds = Field(
        LEASE_SECONDS, description="A sender without a sign of life for so long is dead"
    )
    sender_remember: Seconds = Field(
        604_800.0, description="For which a mail's outcome answers a copy of its command"
    )
    sender_purge_seconds: Seconds = Field(3600.0, description="Between two purges of old rows")

    @model_validator(mode="after")
    def _names_each_relay_once(self) -> Self:
        names = [(relay.host, relay.port) for relay in self.sender_relays]
        if names and self.sender_smtp_host is not None:
            raise ValueError("SENDER_RELAYS or SENDER_SMTP_HOST, not both")
        if len(set(names)) < len(names):
            raise ValueError("SENDER_RELAYS names a relay twice")
        return self

    @model_validator(mode="after")
    def _has_a_relay(self) -> Self:
        # A setting with a mistake has no attribute here, but it is not missing.
        missing = [name for name in _REQUIRED if getattr(self, name.lower(), name) is None]
        if missing and not self.sender_relays:
            lines = (f"{name} is needed, or SENDER_RELAYS" for name in missing)
            raise ValueError("\n".join(lines))
        return self

    @model_validator(mode="after")
    def _logs_in_safely(self) -> Self:
        parts = {self.sender_smtp_host, self.sender_smtp_port, self.sender_smtp_tls}
        if self.sender_relays or None in parts:
            return self
        if problem := self._one_relay().problem():
            raise ValueError(f"SENDER_SMTP: {problem}")
        return self

    @model_validator(mode="after")
    def _remembers_long_enough(self) -> Self:
        longest = max(self.schedule(category).give_up for category in Category)
        if self.sender_remember < longest + LATE_COMMAND_SECONDS:
            # Two senders could send a mail that is purged while it is still tried.
            raise ValueError("SENDER_REMEMBER must be a day longer than any SENDER_GIVE_UP")
        return self

    @model_validator(mode="after")
    def _signs_return_paths(self) -> Self:
        if self.sender_bounce_domain is not None and self.bounce_key is None:
            raise ValueError("SENDER_BOUNCE_DOMAIN needs a BOUNCE_KEY")
        return self

    @property
    def return_paths(self) -> ReturnPaths | None:
        """The return paths of mails, None where From is the envelope sender."""
        if self.sender_bounce_domain is None or self.bounce_key is None:
            return None
        return ReturnPaths.from_text(self.sender_bounce_domain, self.bounce_key)

    @property
    def relays(self) -> tuple[RelaySettings, ...]:
        """The relays, at least one."""
        return self.sender_relays or (self._one_relay(),)

    def _one_relay(self) -> RelaySettings:
        """Return the relay of `sender_smtp_…`, whose parts were validated one by one."""
        parts: dict[str, Any] = {
            "host": self.sender_smtp_host,
            "port": self.sender_smtp_port,
            "tls": self.sender_smtp_tls,
            "username": self.sender_smtp_username,
            "password": self.sender_smtp_password,
            "token_file": self.sender_smtp_token_file,
            "auth": self.sender_smtp_auth,
            "ca_file": self.sender_smtp_ca_file,
            "helo_name": self.sender_helo_name,
            "chunking": self.sender_smtp_chunking,
            "rate": self.sender_smtp_rate,
        }
        return RelaySettings.model_construct(**parts)

    @property
    def timeouts(self) -> Timeouts:
        """The limits of each step at a relay."""
        return Timeouts(
            self.sender_connect_seconds,
            self.sender_command_seconds,
            self.sender_dot_seconds,
            self.sender_write_seconds,
        )

    @property
    def backoff(self) -> Backoff:
        """The pauses without attempts at a relay that does not serve us."""
        return Backoff(self.sender_rest_seconds, self.sender_longest_rest_seconds)

    @property
    def rates(self) -> Mapping[str, Rate]:
        """The rates of relays and domains, by name."""
        relays = {relay_rate(f"{each.host}:{each.port}"): each.rate for each in self.relays}
        domains = {domain_rate(name): rate for name, rate in self.sender_domain_rates.items()}
        return {name: Rate(rate) for name, rate in {**relays, **domains}.items() if rate}

    @property
    def mail_defaults(self) -> MailDefaults:
        """The defaults of a command."""
        domain = address.domain_of(address.bare_address(self.sender_from))
        return MailDefaults(
            self.sender_from, self.sender_message_id_domain or domain, self.sender_provider
        )

    def limits(self, category: Category) -> ConnectionLimits:
        """Return the limits of a class's connections."""
        return ConnectionLimits(
            connections=getattr(self, f"sender_connections_{category}"),
            mails=self.sender_messages_per_connection,
            idle_seconds=self.sender_idle_seconds,
            kept_seconds=KEPT_CODE_SECONDS if category is Category.OTP else KEPT_SECONDS,
        )

    def prefetch(self, category: Category) -> int:
        """Return how many mails of a class this process may hold."""
        connections = self.limits(category).connections
        return min(connections * (len(self.relays) + WAITING_PER_CONNECTION), MAX_PREFETCH)

    def schedule(self, category: Category) -> RetrySchedule:
        """Return the waits of a class."""
        return RetrySchedule(
            first=getattr(self, f"sender_first_wait_{category}"),
            longest=getattr(self, f"sender_longest_wait_{category}"),
            give_up=getattr(self, f"sender_give_up_{category}"),
            retries_uncertain=getattr(self, f"sender_retry_uncertain_{category}"),
        )
