"""Pure: the time of a message for later."""

from datetime import datetime
from typing import Annotated

from services.gateway.api.body import RFC3339_TIME
from services.gateway.api.problem import Problem, invalid
from shared.contracts.fields import Moment
from shared.contracts.schedule import MAX_SCHEDULE

SCHEDULED_AT = (
    f"The message waits until then, for {MAX_SCHEDULE.days} days at most; one whose time is over "
    "is sent at once"
)

ScheduledAt = Annotated[Moment | None, RFC3339_TIME]


def schedule_refusal(scheduled_at: datetime | None, at: datetime) -> Problem | None:
    """Return the problem of a `scheduled_at` at the time of its request, None without one."""
    if scheduled_at is None or scheduled_at - at <= MAX_SCHEDULE:
        return None
    return invalid("#/scheduled_at", f"must be at most {MAX_SCHEDULE.days} days ahead")
