"""What SMTP connections need to know of the place they come to."""

import hmac
import ssl
from dataclasses import dataclass, field
from typing import Final

HOSTNAME: Final = "simulator.invalid"  # RFC 2606: a name that is nobody's


@dataclass(frozen=True, slots=True)
class Credentials:
    """The one user that may log in."""

    user: str
    password: str = field(repr=False)

    def admit(self, user: bytes, password: bytes) -> bool:
        """Whether these are the user and the password."""
        right_user = hmac.compare_digest(user, self.user.encode())
        return hmac.compare_digest(password, self.password.encode()) and right_user


@dataclass(frozen=True, slots=True)
class Door:
    """One listening port: its TLS, and who may log in (anybody without credentials)."""

    tls: ssl.SSLContext | None = None
    implicit_tls: bool = False
    credentials: Credentials | None = None

    @property
    def starttls(self) -> ssl.SSLContext | None:
        """The context for an upgrade, where one is possible."""
        return None if self.implicit_tls else self.tls

    def admit(self, user: bytes, password: bytes) -> bool:
        """Whether this user may log in."""
        return self.credentials is None or self.credentials.admit(user, password)
