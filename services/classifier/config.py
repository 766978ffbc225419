"""The settings of the classifier."""

from typing import ClassVar

from pydantic import Field

from shared.config import Seconds, Settings

DAY = 86_400.0  # seconds


class ClassifierSettings(Settings):
    """What the classifier is told."""

    service: ClassVar[str] = "classifier"

    classifier_threshold: int = Field(
        1000, ge=0, description="A domain with more deliveries and no bounce is catch-all"
    )
    classifier_remember: Seconds = Field(
        30 * DAY,
        ge=DAY,  # a message that fails comes back for some 14 hours, see shared.retry
        description="How long an event id is known, so that its copies do not count",
    )
    classifier_purge_seconds: Seconds = Field(
        3600.0, description="Between two clearings of old event ids"
    )
