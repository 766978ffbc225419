"""The settings of the ledger."""

from typing import Annotated, ClassVar

from pydantic import Field

from services.ledger.mails import Retention
from shared.config import Seconds, Settings

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
    ledger_purge_seconds: Seconds = Field(
        3600.0, description="Between two purges of what is older than that"
    )

    @property
    def retention(self) -> Retention:
        """The days for which rows are kept."""
        return Retention(self.ledger_message_days, self.ledger_history_days, self.ledger_total_days)
