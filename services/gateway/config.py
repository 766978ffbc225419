"""What the gateway is told by its environment."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from shared.config import Port, Seconds, Settings
from shared.topology import QUESTION_SECONDS

MIB = 1024 * 1024
MIN_KEY_BYTES = 32  # RFC 7518 3.2: as long as the hash of HS256


def _key(text: str) -> str:
    try:
        key = bytes.fromhex(text)
    except ValueError:
        raise ValueError("must be hex") from None
    if len(key) < MIN_KEY_BYTES or len(set(key)) == 1:
        raise ValueError(f"must be {MIN_KEY_BYTES} random bytes or more as hex")
    return text


class GatewaySettings(Settings):
    """The gateway's own settings. Both secrets must be set; there are no defaults for them."""

    service: ClassVar[str] = "gateway"

    gateway_host: str = "127.0.0.1"
    gateway_port: Port = 8080
    gateway_admin_token: Annotated[
        str, Field(min_length=32, repr=False, description="Registers and revokes clients")
    ]
    gateway_key_secret: Annotated[str, AfterValidator(_key)] = Field(
        repr=False, description="Signs the clients' keys; hex of 32 random bytes or more"
    )
    gateway_key_days: int = Field(365, ge=1, le=3650, description="How long a client's key is good")
    gateway_max_body: int = Field(
        12 * MIB,
        ge=1024,
        le=15 * MIB,
        description="Bytes: attachments as base64, and texts; RabbitMQ 4 takes 16 MiB of command",
    )
    gateway_body_seconds: Seconds = Field(30.0, description="For a request's body to come in")
    gateway_answer_seconds: float = Field(
        5.0, gt=0, le=QUESTION_SECONDS, description="For another service to answer"
    )
    gateway_max_wait: int = Field(30, ge=0, le=300, description="Seconds; the most of Prefer: wait")
