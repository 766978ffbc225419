"""The settings of inbound."""

from typing import Annotated, ClassVar

from pydantic import Field

from services.inbound.reports.config import ReportSettings
from services.inbound.submission.config import SubmissionSettings
from shared.topology import QUESTION_SECONDS

HostName = Annotated[str, Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.-]*$", max_length=255)]


class InboundSettings(SubmissionSettings, ReportSettings):
    """The settings of inbound."""

    service: ClassVar[str] = "inbound"

    inbound_hostname: HostName = Field(
        "localhost", description="Its name in the greeting, which the certificate should have"
    )
    inbound_answer_seconds: float = Field(
        5.0, gt=0, le=QUESTION_SECONDS, description="For another service to answer"
    )
