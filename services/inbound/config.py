"""The settings of inbound."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from services.inbound.reports.config import ReportSettings
from services.inbound.submission.config import SubmissionSettings
from shared.config import Seconds
from shared.contracts.fields import matching
from shared.topology import QUESTION_SECONDS

HostName = Annotated[
    str, matching(r"[0-9A-Za-z][0-9A-Za-z.-]*", "must be a host name"), Field(max_length=255)
]


class InboundSettings(SubmissionSettings, ReportSettings):
    """The settings of inbound."""

    service: ClassVar[str] = "inbound"

    inbound_hostname: HostName = Field(
        "localhost", description="Its name in the greeting, which the certificate should have"
    )
    inbound_answer_seconds: float = Field(
        5.0, gt=0, le=QUESTION_SECONDS, description="For another service to answer"
    )
    inbound_certificate_seconds: Seconds = Field(
        3600.0, description="Between two looks at the files of certificates, which may be renewed"
    )

    @model_validator(mode="after")
    def _has_both_files(self) -> Self:
        for door in ("inbound_submission", "inbound_report"):
            name = f"{door}_certificate"
            if (getattr(self, name) is None) != (getattr(self, f"{name}_key") is None):
                raise ValueError(f"{name.upper()} and {name.upper()}_KEY go together")
        return self
