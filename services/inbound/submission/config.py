"""The settings of the submission door."""

from pydantic import Field

from shared.config import CertificateFile, Port, Seconds, SecretFile, Settings
from shared.contracts import Category
from shared.contracts.mime import MAX_MIME_BYTES

MIB = 1024 * 1024
ADDED_BYTES = 1024  # of Date and Message-ID, where a mail has none


class SubmissionSettings(Settings):
    """The settings of the submission door, which stays closed without a certificate."""

    inbound_submission_host: str = Field("127.0.0.1", description="The address of its two ports")
    inbound_submission_port: Port = Field(
        587, description="Its port with STARTTLS; any that is free if 0"
    )
    inbound_submission_tls_port: Port = Field(
        465, description="Its port over TLS; any that is free if 0"
    )
    inbound_submission_certificate: CertificateFile | None = Field(
        None, description="With those that sign it, PEM; the door is closed without it"
    )
    inbound_submission_certificate_key: SecretFile | None = Field(
        None, description="Its private key, PEM"
    )
    inbound_submission_category: Category = Field(
        Category.TRANSACTIONAL, description="The class of a mail without X-Postrider-Category"
    )
    inbound_submission_max_size: int = Field(
        MAX_MIME_BYTES - ADDED_BYTES,
        ge=1024,
        le=MAX_MIME_BYTES - ADDED_BYTES,
        description="Bytes of a mail",
    )
    inbound_submission_max_mails: int = Field(
        128 * MIB, ge=MIB, description="Bytes of all mails that are being received"
    )
    inbound_submission_max_connections: int = Field(
        1000, ge=1, description="Open at a time; fewer where the system leaves fewer descriptors"
    )
    inbound_submission_max_connections_by_address: int = Field(
        100, ge=1, description="Of one IPv4 address or IPv6 /64"
    )
    inbound_submission_login_seconds: Seconds = Field(
        60.0, description="From the start of a connection to the end of its login"
    )
    inbound_submission_command_seconds: Seconds = Field(
        300.0, description="From a reply to the next command (RFC 5321 4.5.3.2.7)"
    )
    inbound_submission_mail_seconds: Seconds = Field(
        300.0, description="For all of a mail to arrive"
    )
    inbound_submission_client_rate: float = Field(
        0.0,
        ge=0,
        le=1_000_000,
        description="Mails a second of each client, at each inbound; 0 for no limit",
    )
