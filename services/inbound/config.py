"""The settings of inbound."""

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from services.inbound.reports.config import ReportSettings
from services.inbound.submission.config import SubmissionSettings
from shared.config import Seconds
from shared.config.url import check_pair
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
        for name in ("inbound_submission_certificate", "inbound_report_certificate"):
            certificate, key = getattr(self, name), getattr(self, f"{name}_key")
            both = f"{name.upper()} and {name.upper()}_KEY"
            if (certificate is None) != (key is None):
                raise ValueError(f"{both} go together")
            try:
                if certificate is not None:
                    check_pair(certificate, key)
            except (OSError, ValueError) as error:
                raise ValueError(f"{both}: {error}") from None
        return self
