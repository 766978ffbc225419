"""The settings of the ledger."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from services.ledger.mails import DAY_MILLISECONDS, Retention
from shared.config import KeyText, Seconds, Settings
from shared.runtime import sealing

MAX_DAYS = 3660  # ten years
_Days = Annotated[int, Field(ge=1, le=MAX_DAYS)]


class LedgerSettings(Settings):
    """The settings of the ledger."""

    service: ClassVar[str] = "ledger"

    ledger_message_days: _Days = Field(
        90, description="How long a mail is kept, with the state of each of its recipients"
    )
    ledger_history_days: _Days = Field(
        90, description="How long the earlier outcomes of a recipient are kept, at most as its mail"
    )
    ledger_total_days: _Days = Field(90, description="How long the sums of an hour are kept")
    ledger_bounce_days: int = Field(
        7,
        ge=0,
        le=MAX_DAYS,
        description="How long the first bounce of an address suppresses it; one that comes after"
        " that does for good. 0: the first one does",
    )
    suppression_key: Annotated[KeyText, AfterValidator(sealing.check_one_key)] = Field(
        description="Hashes suppressed addresses as the sender does; 32 bytes as hex, for good"
    )
    ledger_purge_seconds: Seconds = Field(
        3600.0, description="Between two purges of what is older than that"
    )

    @property
    def bounce_counts_for(self) -> int | None:
        """The milliseconds for which a first bounce counts, None for good."""
        return self.ledger_bounce_days * DAY_MILLISECONDS or None

    @property
    def retention(self) -> Retention:
        """The days for which rows are kept."""
        return Retention(self.ledger_message_days, self.ledger_history_days, self.ledger_total_days)
