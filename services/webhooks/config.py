"""The settings of the webhooks service."""

from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field

from shared.client_address import Network
from shared.config import CertificateFile, KeyText, Seconds, Settings
from shared.runtime import sealing

MIN_DAYS = 4  # an event is tried for three days


class WebhookSettings(Settings):
    """The settings of the webhooks service."""

    service: ClassVar[str] = "webhooks"

    webhook_key: Annotated[KeyText, AfterValidator(sealing.check_keys)] = Field(
        description="Seals the secrets of endpoints; 32 bytes as hex, the newest first"
    )
    webhooks_try_seconds: Seconds = Field(
        15.0, le=60, description="For a receiver to answer, from the look-up of its name on"
    )
    webhooks_max_connections: int = Field(
        1000, ge=1, le=20_000, description="Requests at a time, of each replica"
    )
    webhooks_endpoint_connections: int = Field(
        10, ge=1, le=1000, description="Of these to one endpoint, once it needs and bears so many"
    )
    webhooks_days: int = Field(
        14, ge=MIN_DAYS, le=366, description="How long events and tries are kept"
    )
    webhooks_max_endpoints: int = Field(50, ge=1, le=10_000, description="Of one client")
    webhooks_allow_networks: tuple[Network, ...] = Field(
        (), description="Networks, as a JSON list, that may be called though they are not public"
    )
    webhooks_allow_http: bool = Field(
        default=False, description="Endpoints may be http URLs, as on a machine of one's own"
    )
    webhooks_ca_file: CertificateFile | None = Field(
        None, description="Certificates of further authorities, in PEM"
    )
