"""The settings of one relay: where it is, and our account there."""

import ipaddress
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.sender.smtp.relay import Auth, Login, Tls
from shared.config import CertificateFile, Port, SecretFile

# A name of one label too: in a container network the relay may well be called `relay`.
Host = Annotated[
    str,
    Field(
        pattern=r"^([0-9A-Za-z_-]{1,63}(\.[0-9A-Za-z_-]{1,63})*\.?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)$",
        max_length=255,
    ),
]
ServerPort = Annotated[Port, Field(ge=1)]
# A domain or an address literal (RFC 5321 4.1.3); some relays know their clients by it.
HeloName = Annotated[
    str,
    Field(pattern=r"^(\[[0-9A-Za-z.:]+\]|[0-9A-Za-z][0-9A-Za-z.-]*)$", max_length=255),
]

Rate = Annotated[float, Field(gt=0, le=100_000)]


class Account(BaseModel):
    """A relay and how we log in there; `tls` has no default, so that clear text is a decision."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    host: Host
    port: ServerPort
    tls: Tls
    username: str | None = None
    password: str | None = Field(None, repr=False)
    token_file: SecretFile | None = Field(None, description="For XOAUTH2; read at each login")
    auth: Auth = Auth.AUTO
    ca_file: CertificateFile | None = Field(None, description="The system's if absent")
    helo_name: HeloName | None = Field(None, description="Our address if absent")
    rate: Rate | None = Field(None, description="Mails a second, over all senders")
    weight: float = Field(1.0, gt=0, le=1000, description="Its share of the mail")

    @model_validator(mode="after")
    def _logs_in_safely(self) -> Self:
        if problem := self.problem():
            raise ValueError(problem)
        return self

    def problem(self) -> str | None:
        """Return all that is wrong with the login, None if nothing is."""
        secrets = [each for each in (self.password, self.token_file) if each is not None]
        wrong = {
            "USERNAME and PASSWORD or TOKEN_FILE, one of them, go together": len(secrets)
            != (self.username is not None),
            "XOAUTH2 needs a TOKEN_FILE": self.auth is Auth.XOAUTH2 and self.token_file is None,
            "the PASSWORD would cross the network in clear text": secrets
            and self.tls is Tls.NONE
            and not _is_loopback(self.host),
        }
        return "; ".join(text for text, holds in wrong.items() if holds) or None

    @property
    def login(self) -> Login | None:
        """The account, if the relay asks for one."""
        if self.username is None:
            return None
        return Login(self.username, self.password or "", self.auth, self.token_file)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
