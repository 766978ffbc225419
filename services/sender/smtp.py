"""The aiosmtplib edge: how a connection to the relay is opened, up to the login.

From then on it is a `Connection` of our own: the library waits for one reply at a time, and does
not tell at which stage a mail failed.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import cast

from aiosmtplib import SMTP, SMTPException, SMTPResponseException

from services.sender import reply as replies
from services.sender.connection import Connection, Lost
from services.sender.dial import dial, literal
from services.sender.dialogue import Dialogue
from services.sender.offers import Offers
from services.sender.relay import Auth, Login, Relay, Tls
from shared.contracts import Stage


async def connect(relay: Relay, deadline: float) -> Connection:
    """Connect, encrypt, log in; all until `deadline`, in the loop's time. Raises Lost."""
    async with _at(Stage.CONNECT, deadline - _now()):
        sock = await dial(relay.host, relay.port, relay.patience.connect)
    smtp = SMTP(
        hostname=relay.host,
        sock=sock,
        local_hostname=relay.helo_name or literal(sock),
        timeout=None,  # see `_at`
        use_tls=relay.tls is Tls.IMPLICIT,
        start_tls=False,  # the default upgrades if it can, else goes on in the clear
        tls_context=relay.context,
    )
    try:
        await _Opening(smtp, relay, deadline).run()
        return _taken_over(smtp, relay)
    except BaseException:
        if smtp.transport is not None:
            cast("asyncio.Transport", smtp.transport).abort()
        smtp.close()
        sock.close()
        raise


def _taken_over(smtp: SMTP, relay: Relay) -> Connection:
    """Take the transport from the library. Raises Lost."""
    if smtp.protocol is None or smtp.transport is None:
        raise Lost(replies.missing(Stage.EHLO, "connection lost"))
    if smtp.protocol._buffer:  # noqa: SLF001 -- told in no other way
        raise Lost(replies.missing(Stage.EHLO, "more replies than commands"))
    dialogue = Dialogue(cast("asyncio.Transport", smtp.transport))
    return Connection(dialogue, Offers.read(smtp.esmtp_extensions), relay.patience)


class _Opening:
    """The steps from a socket to a session, each with a limit of its own."""

    def __init__(self, smtp: SMTP, relay: Relay, deadline: float) -> None:
        self._smtp = smtp
        self._relay = relay
        self._deadline = deadline

    async def run(self) -> None:
        """Take all steps. Raises Lost."""
        async with self._at(Stage.CONNECT):
            await self._smtp.connect()
        await self._greet()
        if self._relay.tls is Tls.STARTTLS:
            async with self._at(Stage.TLS):
                await self._smtp.starttls()
            await self._greet()  # what was learned in the clear is forgotten (RFC 3207 4.2)
        if self._relay.login is not None:
            async with self._at(Stage.AUTH):
                await self._log_in(self._relay.login)

    async def _greet(self) -> None:
        try:
            async with self._at(Stage.EHLO):
                await self._smtp.ehlo()
        except Lost as lost:
            if not replies.refused(lost.reply) or not self._smtp.is_connected:
                raise
            async with self._at(Stage.EHLO):
                await self._smtp.helo()  # to a server that knows no EHLO (RFC 5321 3.2)

    async def _log_in(self, login: Login) -> None:
        """Log in by one method: each failure counts towards a lock-out, so none follows."""
        smtp, password = self._smtp, login.password
        match login.method(smtp.server_auth_methods):
            case Auth.PLAIN:
                await smtp.auth_plain(login.username, password)
            case Auth.LOGIN:
                await smtp.auth_login(login.username, password)
            case Auth.CRAM_MD5:
                await smtp.auth_crammd5(login.username, password)
            case Auth.XOAUTH2:
                await smtp.auth_xoauth2(login.username, _token(login))
            case _:
                raise SMTPException("the server does not offer the login that is asked for")

    def _at(self, stage: Stage) -> AbstractAsyncContextManager[None]:
        """Limit one exchange at `stage`."""
        return _at(stage, min(self._relay.patience.command, self._deadline - _now()))


def _token(login: Login) -> str:
    """Read the token anew: whoever renews it writes the file."""
    if login.token_file is None:
        return login.password
    try:
        return login.token_file.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SMTPException("the file of the token cannot be read") from error


@asynccontextmanager
async def _at(stage: Stage, seconds: float) -> AsyncIterator[None]:
    """Give all that can go wrong at `stage`, the time running out too, the form of `Lost`.

    The library's own limits are not used: they rest on `wait_for`, which before Python 3.12 may
    swallow a cancellation.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except SMTPResponseException as error:
        if error.code > 0:
            raise Lost(replies.heard(stage, error.code, error.message)) from error
        raise Lost(replies.missing(stage, "a reply that cannot be read")) from error
    except (SMTPException, OSError) as error:
        where = Stage.TLS if isinstance(error.__cause__ or error, ssl.SSLError) else stage
        raise Lost(replies.missing(where, str(error) or "no reply in time")) from error


def _now() -> float:
    return asyncio.get_running_loop().time()
