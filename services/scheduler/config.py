"""The settings of the scheduler."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from shared.config import KeyText, Seconds, Settings
from shared.contracts.fields import Mailbox
from shared.links import LINK_DAYS, PublicUrl
from shared.runtime import sealing

MAX_SPREAD_SECONDS = 86_400.0


class SchedulerSettings(Settings):
    """The settings of the scheduler."""

    service: ClassVar[str] = "scheduler"

    scheduler_public_url: PublicUrl = Field(
        description="Where readers of mails reach the gateway, such as https://mail.example;"
        " links to unsubscribe and to confirm begin with it"
    )
    link_key: Annotated[KeyText, AfterValidator(sealing.check_keys)] = Field(
        description="Seals the links, as the gateway opens them; 32 bytes as hex, the newest first"
    )
    scheduler_from: Mailbox | None = Field(
        None, description="The sender of newsletters; the sender's default if absent"
    )
    scheduler_spread_seconds: float = Field(
        60.0,
        ge=0,
        le=MAX_SPREAD_SECONDS,
        description="The time over which runs due at once are spread",
    )
    scheduler_rate: float = Field(
        500.0, gt=0, le=100_000, description="Newsletters a second, of each scheduler"
    )
    scheduler_max_waiting: int = Field(
        20_000, ge=1, description="Newsletters in a client's queue, beyond which others stay due"
    )
    scheduler_lease_seconds: Seconds = Field(
        60.0, ge=1, description="After which the work of a scheduler that died is done by another"
    )
    scheduler_stop_share: float = Field(
        0.1,
        gt=0,
        le=1,
        description="The share of unknown mailboxes that pauses a content type",
    )
    scheduler_stop_complaints: float = Field(
        0.01, gt=0, le=1, description="The share of complaints that does"
    )
    scheduler_stop_count: int = Field(
        100, ge=1, description="Mails of a run, or of a day, before these shares count"
    )
    scheduler_pending_days: int = Field(
        30,
        ge=1,
        le=LINK_DAYS,
        description="How long a subscription waits for its confirmation, and the link for it works",
    )
    scheduler_run_days: int = Field(
        90, ge=1, le=3660, description="How long a run is listed after its mails were due"
    )
