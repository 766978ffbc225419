"""The settings of the gateway."""

import re
from collections.abc import Callable
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from services.gateway.feedback import resend, sendgrid
from services.gateway.feedback.sns import TOPIC
from shared.client_address import Network
from shared.config import Port, Seconds, Settings
from shared.runtime import sealing
from shared.topology import QUESTION_SECONDS

MIB = 1024 * 1024
# Less than SENDER_REMEMBER: the sender would send a later repeat again.
MAX_REMEMBER_SECONDS = 6 * 86_400.0
MIN_KEY_BYTES = 32  # RFC 7518 3.2: as long as the hash of HS256

MIN_MAILGUN_CHARS = 16
LOGIN = r"[A-Za-z0-9._-]{1,100}:[A-Za-z0-9._-]{16,200}"  # as a URL can have it


def _check_key(text: str) -> str:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        raise ValueError("must be hex") from None
    if len(key) < MIN_KEY_BYTES or len(set(key)) == 1:
        raise ValueError(f"must be {MIN_KEY_BYTES} random bytes or more as hex")
    return text


def _checked_by(read: Callable[[str], object]) -> Callable[[str], str]:
    """Return a validator of texts that `read` reads; it raises ValueError."""

    def check(text: str) -> str:
        read(text)
        return text

    return check


def _check_topic(text: str) -> str:
    if not re.fullmatch(TOPIC, text):
        raise ValueError("must be the ARN of an SNS topic: arn:aws:sns:<region>:<account>:<name>")
    return text


def _check_login(text: str) -> str:
    if not re.fullmatch(LOGIN, text):
        raise ValueError("must be user:password, of 16 or more letters and digits")
    return text


class GatewaySettings(Settings):
    """The gateway's own settings; the two secrets have no defaults."""

    service: ClassVar[str] = "gateway"

    gateway_host: str = Field("127.0.0.1", description="The address of the API")
    gateway_port: Port = Field(8080, description="Its port; any that is free if 0")
    gateway_admin_token: Annotated[
        str, Field(min_length=32, repr=False, description="Registers and revokes clients")
    ]
    gateway_key_secret: Annotated[str, AfterValidator(_check_key)] = Field(
        repr=False, description="Signs the clients' keys; hex of 32 random bytes or more"
    )
    gateway_key_days: int = Field(
        365, ge=1, le=3650, description="Days that a client's key is valid"
    )
    gateway_max_body: int = Field(
        12 * MIB,
        ge=1024,
        le=15 * MIB,
        description="Bytes: attachments as base64, and texts; RabbitMQ 4 accepts 16 MiB a message",
    )
    gateway_max_bodies: int = Field(
        128 * MIB,
        ge=1024,
        description="Bytes of all bodies over 16 KiB in flight; half of it for one client",
    )
    gateway_max_requests: int = Field(
        2000,
        ge=1,
        description="Under way at a time; half of them may wait for outcomes; health is exempt",
    )
    gateway_max_connections: int = Field(
        4000, ge=1, description="Open at a time; fewer where the system leaves fewer descriptors"
    )
    gateway_max_connections_by_address: int = Field(
        500, ge=1, description="Of one IPv4 address or IPv6 /64; GATEWAY_PROXIES are exempt"
    )
    gateway_header_seconds: Seconds = Field(
        10.0, description="From the start of a connection until its first request is there"
    )
    gateway_idle_seconds: Seconds = Field(
        75.0,
        description="From an answer until the next request; longer than a proxy keeps idle ones",
    )
    gateway_body_seconds: Seconds = Field(30.0, description="For a request's body to arrive")
    gateway_answer_seconds: float = Field(
        5.0, gt=0, le=QUESTION_SECONDS, description="For another service to answer"
    )
    gateway_remember: Seconds = Field(
        86_400.0,
        le=MAX_REMEMBER_SECONDS,
        description="How long an Idempotency-Key stands for its request",
    )
    gateway_purge_seconds: Seconds = Field(
        600.0, description="Between two deletions of old Idempotency-Keys"
    )
    gateway_client_rate: float = Field(
        0.0,
        ge=0,
        le=1_000_000,
        description="Requests a second of each client, over all replicas; 0 for no limit",
    )
    gateway_proxies: tuple[Network, ...] = Field(
        (), description="Networks, as a JSON list, whose X-Forwarded-For is believed"
    )
    gateway_max_wait: int = Field(
        30, ge=0, le=300, description="Seconds; the maximum of Prefer: wait"
    )
    link_key: Annotated[str, AfterValidator(sealing.check_keys)] | None = Field(
        None,
        repr=False,
        description="Opens the links in mails, as the scheduler has it; no pages without it",
    )
    gateway_ses_topics: tuple[Annotated[str, AfterValidator(_check_topic)], ...] = Field(
        (), description="ARNs, as a JSON list, of the SNS topics that SES tells its events"
    )
    gateway_sendgrid_key: Annotated[str, AfterValidator(_checked_by(sendgrid.read_keys))] | None = (
        Field(None, description="Verifies SendGrid's events; several with commas between them")
    )
    gateway_postmark_login: Annotated[str, AfterValidator(_check_login)] | None = Field(
        None, repr=False, description="user:password, of 16 or more letters and digits, of Postmark"
    )
    gateway_mailgun_key: Annotated[str, Field(min_length=MIN_MAILGUN_CHARS)] | None = Field(
        None, repr=False, description="Verifies Mailgun's events; several with commas between them"
    )
    gateway_resend_secret: (
        Annotated[str, AfterValidator(_checked_by(resend.read_secrets))] | None
    ) = Field(
        None, repr=False, description="Verifies Resend's events; several with commas between them"
    )
    gateway_docs: bool = Field(default=True, description="Serve the page of the API at /docs")
