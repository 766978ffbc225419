"""The settings of the door for reports."""

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from shared.config import CertificateFile, Port, Seconds, SecretFile, Settings
from shared.contracts.fields import Address, Domain
from shared.return_path import ReturnPaths
from shared.runtime import sealing

MIB = 1024 * 1024
MAX_CONNECTIONS = 10_000
MAX_ADDRESSES = 20
DAY_SECONDS = 86_400.0


class ReportSettings(Settings):
    """The settings of the door for reports, which stays closed without a domain."""

    inbound_report_domain: Domain | None = Field(
        None, description="The domain of return paths, as SENDER_BOUNCE_DOMAIN; its MX leads here"
    )
    bounce_key: Annotated[str, AfterValidator(sealing.check_keys)] | None = Field(
        None,
        repr=False,
        description="Proves return paths, as the sender signs them; 32 bytes as hex, newest first;"
        " needed with a domain",
    )
    inbound_report_addresses: tuple[Address, ...] = Field(
        (),
        max_length=MAX_ADDRESSES,
        description="Other addresses that take reports, such as those of feedback loops",
    )
    inbound_report_others: bool = Field(
        default=False,
        description="Whether a mail that is no report becomes the event mail.received",
    )
    inbound_report_host: str = Field("0.0.0.0", description="Where it listens")  # noqa: S104 -- as a mail server does
    inbound_report_port: Port = Field(25, description="Its port; 0 for any")
    inbound_report_max_bytes: int = Field(
        30 * MIB, ge=64 * 1024, le=100 * MIB, description="Of a mail; a larger one is refused"
    )
    inbound_report_max_connections: int = Field(
        200, ge=1, le=MAX_CONNECTIONS, description="SMTP connections at one time"
    )
    inbound_report_max_connections_by_address: int = Field(
        20, ge=1, le=MAX_CONNECTIONS, description="The same from one address"
    )
    inbound_report_certificate: CertificateFile | None = Field(
        None, description="With those that sign it, PEM; STARTTLS is not offered without it"
    )
    inbound_report_certificate_key: SecretFile | None = Field(
        None, description="Its private key, PEM"
    )
    inbound_report_command_seconds: Seconds = Field(
        60.0, description="From a reply to the next command"
    )
    inbound_report_mail_seconds: Seconds = Field(300.0, description="For all of a mail to arrive")
    inbound_report_session_seconds: Seconds = Field(900.0, description="For a whole connection")
    inbound_report_readers: int = Field(2, ge=1, le=64, description="Processes that read reports")
    inbound_report_kept_files: int = Field(
        1000, ge=0, le=100_000, description="Mails that were not understood, kept in DATA_DIR"
    )
    inbound_report_kept_seconds: Seconds = Field(
        7 * DAY_SECONDS, description="How long they are kept: they hold what people wrote"
    )

    @model_validator(mode="after")
    def _proves_return_paths(self) -> Self:
        if self.inbound_report_domain is not None and self.bounce_key is None:
            raise ValueError("INBOUND_REPORT_DOMAIN needs a BOUNCE_KEY")
        return self

    @property
    def return_paths(self) -> ReturnPaths | None:
        """The return paths that are taken, None while the door is closed."""
        if self.inbound_report_domain is None or self.bounce_key is None:
            return None
        return ReturnPaths.from_text(self.inbound_report_domain, self.bounce_key)
