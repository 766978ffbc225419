"""The settings of the classifier."""

from typing import ClassVar

from pydantic import Field

from services.classifier.rule import Mode, Requirements, VerdictRule
from shared.config import Seconds, Settings

DAY_SECONDS = 86_400.0


class ClassifierSettings(Settings):
    """The settings of the classifier."""

    service: ClassVar[str] = "classifier"

    classifier_threshold: int = Field(
        1000, ge=0, description="A domain with more deliveries and no bounce is catch-all"
    )
    classifier_mode: Mode = Field(
        Mode.COUNTS, description="`evidence` also asks for recipients, and takes deliveries back"
    )
    classifier_recipients: int = Field(
        100,
        ge=1,
        le=1_000_000,
        description="In the mode `evidence`: distinct recipients, estimated, of a catch-all domain",
    )
    classifier_undetermined: float = Field(
        0.01,
        ge=0,
        le=1,
        description="In the mode `evidence`: undetermined refusals, as a share of the deliveries,"
        " past which no domain is catch-all",
    )
    classifier_cache_seconds: float = Field(
        0, ge=0, le=DAY_SECONDS, description="Largest age of an answer about a domain; 0 keeps none"
    )
    classifier_remember: Seconds = Field(
        30 * DAY_SECONDS,
        ge=DAY_SECONDS,  # a message that fails comes back for some 14 hours, see shared.retry
        description="How long an event id is known, so that its copies do not count",
    )
    classifier_purge_seconds: Seconds = Field(
        3600.0, description="Between two purges of old event ids"
    )

    @property
    def rule(self) -> VerdictRule:
        """The rule of these settings."""
        if self.classifier_mode is Mode.COUNTS:
            return VerdictRule(self.classifier_threshold)
        requirements = Requirements(self.classifier_recipients, self.classifier_undetermined)
        return VerdictRule(self.classifier_threshold, requirements)
