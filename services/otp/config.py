"""The settings of the otp service."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from shared.config import Seconds, Settings
from shared.fields import Mailbox
from shared.sealing import read_keys

MAX_LIFETIME = 86_400.0  # seconds; NIST SP 800-63A lets a mailed confirmation code live a day
# Rows leave within a day of their death: challenges are kept 20 hours, see `store`.
MAX_PURGE_SECONDS = 4 * 3600.0


def _check_keys(text: str) -> str:
    read_keys(text)
    return text


Keys = Annotated[
    str,
    Field(repr=False, description="Of 32 bytes as hex, newest first, separated by commas"),
    AfterValidator(_check_keys),
]


class OtpSettings(Settings):
    """What the otp service is told."""

    service: ClassVar[str] = "otp"

    otp_key: Keys
    sealing_key: Keys
    otp_lifetime: Seconds = Field(600.0, le=MAX_LIFETIME, description="Of a code")
    otp_tries: int = Field(5, ge=1, le=100, description="Guesses a code allows")
    otp_digits: int = Field(6, ge=4, le=8)
    otp_sender: Mailbox | None = Field(None, description="From; the sender's default if absent")
    otp_purge_seconds: Seconds = Field(
        3600.0, le=MAX_PURGE_SECONDS, description="Between two clearings of dead challenges"
    )
