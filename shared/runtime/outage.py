"""A server that is away: log lines while a service waits for it, with advice."""

import socket
import ssl
import time
from collections.abc import Callable
from typing import Final

import structlog

FIRST_PAUSE_SECONDS: Final = 2.0  # between two lines; each pause doubles
LONGEST_PAUSE_SECONDS: Final = 60.0

logger = structlog.get_logger(__name__)


class Outage:
    """Logs that a server is away: at once, then with growing pauses between two lines.

    `server` is its name, `address` has no password, `setting` is the variable of the address.
    """

    def __init__(
        self,
        server: str,
        address: str,
        setting: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.address = address
        self._event = f"waiting for {server}"
        self._setting = setting
        self._clock = clock
        self.end()

    def end(self) -> None:
        """End the outage: the server is there. The next one is logged at once."""
        self._due = float("-inf")
        self._pause = FIRST_PAUSE_SECONDS

    def log(self, error: Exception, advice: str = "") -> None:
        """Log the error of a try, unless the pause since the last line is not over.

        `advice` replaces the advice for that kind of error.
        """
        now = self._clock()
        if now < self._due:
            return
        self._due, self._pause = now + self._pause, min(2 * self._pause, LONGEST_PAUSE_SECONDS)
        logger.warning(
            self._event,
            address=self.address,
            reason=described(error),
            advice=advice or self.advice(error),
        )

    def failure(self, error: Exception) -> str:
        """Return one line about an error that ends the waiting."""
        what = "has no valid TLS" if is_refused_by_tls(error) else "does not answer"
        return f"{self.address} {what}: {described(error)}; {self.advice(error)}"

    def advice(self, error: Exception) -> str:
        """Return advice for the operator about an error."""
        match error:
            case ssl.SSLCertVerificationError():
                return f"check the host in {self._setting}, and the authority that it trusts"
            case ssl.SSLError():
                return f"check in {self._setting} whether the port is one with TLS"
            case socket.gaierror():
                return f"check the host in {self._setting}"
            case ConnectionRefusedError():
                return f"start it there, or set {self._setting} to where it listens"
            case TimeoutError():
                return f"check host and port in {self._setting}, and firewalls on the way"
            case _:
                return f"look at its log, and check host, port and scheme in {self._setting}"


def is_refused_by_tls(error: Exception) -> bool:
    """Return whether another try would fail too: a certificate that is not valid, or no TLS there.

    An end during the handshake, which has classes of its own, may be a server that is starting.
    """
    return type(error) in (ssl.SSLError, ssl.SSLCertVerificationError)


def described(error: Exception) -> str:
    """Return the text of an error, or its class: a TimeoutError has no text."""
    return str(error) or type(error).__name__
