"""The settings of the console."""

from typing import Annotated, ClassVar, Self

from pydantic import AfterValidator, Field, model_validator

from shared.client_address import Network
from shared.config import KeyText, Port, Seconds, Secret, Settings
from shared.links import PublicUrl
from shared.runtime import sealing
from shared.topology import QUESTION_SECONDS

MAX_SESSION_SECONDS = 7 * 86_400.0


class ConsoleSettings(Settings):
    """The settings of the console; the two secrets have no defaults."""

    service: ClassVar[str] = "console"

    console_host: str = Field("127.0.0.1", description="The address of the page")
    console_port: Port = Field(8090, description="Its port; any that is free if 0")
    console_url: PublicUrl | None = Field(
        None,
        description="Where operators reach it, such as https://ops.example; "
        "with https its cookies are sent over TLS alone",
    )
    console_token: Secret = Field(description="The operator's token, to log in and to act")
    console_oidc_issuer: PublicUrl | None = Field(
        None, description="An OpenID provider by which operators log in, too"
    )
    console_oidc_client_id: str = Field("", description="Of the console at the provider")
    console_oidc_client_secret: Annotated[str, Field(min_length=16)] | None = Field(
        None, repr=False, description="The same; none for a public client, which has PKCE alone"
    )
    console_oidc_actors: tuple[str, ...] = Field(
        (), description="Verified addresses, or subjects, as a JSON list, that may see and act"
    )
    console_oidc_viewers: tuple[str, ...] = Field((), description="The same, that may only see")
    console_session_key: Annotated[KeyText, AfterValidator(sealing.check_keys)] = Field(
        description="Signs sessions; 32 bytes as hex, the newest first"
    )
    console_session_seconds: Seconds = Field(
        8 * 3600.0, le=MAX_SESSION_SECONDS, description="From a login to its end"
    )
    console_answer_seconds: float = Field(
        5.0, gt=0, le=QUESTION_SECONDS, description="For another service to answer"
    )
    console_proxies: tuple[Network, ...] = Field(
        (), description="Networks, as a JSON list, whose X-Forwarded-For is believed"
    )
    console_audit_days: int = Field(
        400, ge=1, le=3660, description="How long is kept what operators did"
    )

    @model_validator(mode="after")
    def _has_all_of_oidc(self) -> Self:
        if self.console_oidc_issuer and not (self.console_url and self.console_oidc_client_id):
            raise ValueError("CONSOLE_OIDC_ISSUER needs CONSOLE_OIDC_CLIENT_ID and CONSOLE_URL")
        return self
