"""The aiosmtplib edge: one connection to the relay and the transactions over it.

The library is used command by command, since its `sendmail` does not tell at which stage it
failed. A connection on which anything unexpected happened is closed, never used again.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Self, cast

from aiosmtplib import SMTP, SMTPException, SMTPResponseException
from aiosmtplib.protocol import SMTPProtocol

from services.sender import reply as replies
from services.sender.compose import Mail
from services.sender.dial import dial, literal
from services.sender.outcome import Reason, Unsendable
from services.sender.relay import Login, Relay, Tls
from shared.contracts import Reply, Stage

RESET_SECONDS = 10.0  # for RSET and NOOP, which do no work
QUIT_SECONDS = 5.0  # a courtesy: losing the connection instead is no failure (RFC 5321 4.1.1.10)

# One that fails is not followed by the next: each failure counts towards a lock-out.
_LOGINS = {"plain": SMTP.auth_plain, "login": SMTP.auth_login, "cram-md5": SMTP.auth_crammd5}


class Lost(ConnectionError):
    """The conversation cannot go on; `reply` tells at which stage it ended and how."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply


class Connection:
    """One connection, encrypted and logged in; made by `Connection.open`.

    `deadline`, in the loop's time, limits all that comes before the final dot.
    """

    def __init__(self, smtp: SMTP, relay: Relay, deadline: float) -> None:
        self._smtp = smtp
        self._patience = relay.patience
        self._deadline = deadline
        self.mails = 0
        self.idle_since = 0.0

    @classmethod
    async def open(cls, relay: Relay, deadline: float) -> Self:
        """Connect, encrypt, log in. Raises Lost."""
        async with _at(Stage.CONNECT, _left(deadline)):
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
        connection = cls(smtp, relay, deadline)
        try:
            await connection._begin(relay)
        except BaseException:
            connection.abort()
            sock.close()
            raise
        return connection

    async def _begin(self, relay: Relay) -> None:
        async with self._at(Stage.CONNECT):
            await self._smtp.connect()
        await self._greet()
        if relay.tls is Tls.STARTTLS:
            async with self._at(Stage.TLS):
                await self._smtp.starttls()
            await self._greet()  # what was learned in the clear is forgotten (RFC 3207 4.2)
        if relay.login is not None:
            async with self._at(Stage.AUTH):
                await self._log_in(relay.login)
        # The protocol is then told of anything that the kernel has not taken, see `_unsent`. At 0
        # asyncio's TLS would pause when there is nothing to send.
        cast("asyncio.Transport", self._smtp.transport).set_write_buffer_limits(high=1)
        self.idle_since = _now()

    async def _greet(self) -> None:
        try:
            async with self._at(Stage.EHLO):
                await self._smtp.ehlo()
        except Lost as lost:
            if not replies.refused(lost.reply) or not self.usable:
                raise
            async with self._at(Stage.EHLO):
                await self._smtp.helo()  # to a server that knows no EHLO (RFC 5321 3.2)

    async def _log_in(self, login: Login) -> None:
        smtp = self._smtp
        offered = [log_in for name, log_in in _LOGINS.items() if name in smtp.server_auth_methods]
        if not offered:
            raise SMTPException("the server offers no login that is known here")
        await offered[0](smtp, login.username, login.password)

    def _at(self, stage: Stage) -> AbstractAsyncContextManager[None]:
        """Limit one exchange at `stage`."""
        return _at(stage, min(self._patience.command, _left(self._deadline)))

    @property
    def usable(self) -> bool:
        """Whether another transaction may be tried over it."""
        return self._smtp.is_connected

    async def answers(self) -> bool:
        """Ask the server whether it is still there; a half-open connection looks fine."""
        return await self._confirms(b"NOOP")

    def objection(self, mail: Mail) -> Unsendable | None:
        """Tell what the server lacks for this mail (RFC 6531 3.5, RFC 1870 5)."""
        offered = self._smtp.esmtp_extensions
        if mail.needs_smtputf8 and "smtputf8" not in offered:
            return Unsendable(Reason.SMTPUTF8_NOT_OFFERED)
        limit = offered.get("size", "")
        if limit.isdecimal() and 0 < int(limit) < len(mail.content):
            return Unsendable(Reason.TOO_BIG)
        return None

    async def transact(self, mail: Mail, deadline: float) -> dict[str, Reply]:
        """Send one mail and give, for each recipient, the reply that settled it.

        Afterwards `usable` tells whether the connection has come out of it well.
        """
        self._deadline = deadline
        settled: dict[str, Reply] = {}
        try:
            last = await self._converse(mail, settled)
        except Lost as lost:
            self.abort()
            last = lost.reply
        except BaseException:
            # A reply may still be under way, which the next mail would take for its own.
            self.abort()
            raise
        self.mails += 1
        self.idle_since = _now()
        return {each: settled.get(each, last) for each in mail.recipients}

    async def _converse(self, mail: Mail, settled: dict[str, Reply]) -> Reply:
        """Put the recipients that are refused into `settled`; give the reply to all others."""
        last = await self._envelope(mail, settled)
        if last.stage is Stage.DATA and replies.accepted(last):
            mail.progress.content_begun = True
            return await self._content(mail.content)
        await self._reset()
        return last

    async def _envelope(self, mail: Mail, settled: dict[str, Reply]) -> Reply:
        """Say MAIL, RCPT and, if anybody is left, DATA; give the last reply that is about all."""
        last = await self._say(
            Stage.MAIL, b"MAIL", b"FROM:" + _path(mail.sender), *self._with(mail)
        )
        if not replies.accepted(last):
            return last
        for recipient in mail.recipients:
            reply = await self._say(Stage.RCPT, b"RCPT", b"TO:" + _path(recipient))
            if not replies.accepted(reply):
                settled[recipient] = reply
        if len(settled) == len(mail.recipients):
            return last
        return await self._say(Stage.DATA, b"DATA")

    def _with(self, mail: Mail) -> list[bytes]:
        """Give the parameters of MAIL."""
        sized = "size" in self._smtp.esmtp_extensions
        size = [b"SIZE=%d" % len(mail.content)] if sized else []
        return [*size, b"SMTPUTF8"] if mail.needs_smtputf8 else size

    async def _say(self, stage: Stage, *words: bytes) -> Reply:
        async with self._at(stage):
            response = await self._smtp.execute_command(*words)
        reply = replies.heard(stage, response.code, response.message)
        if self._surplus:
            raise Lost(replies.missing(stage, "more replies than commands"))
        if not _is_answer(reply):
            raise Lost(reply)
        return reply

    async def _content(self, content: bytes) -> Reply:
        protocol = self._smtp.protocol
        if protocol is None:
            raise Lost(replies.missing(Stage.DATA, "connection lost"))
        async with self._at(Stage.DATA):
            protocol.write(_stuffed(content) + b".\r\n")
        try:
            async with _at(Stage.DOT, self._patience.dot):
                response = await protocol.read_response()
        except Lost as lost:
            if _unsent(protocol):
                raise Lost(replies.missing(Stage.DATA, lost.reply.text)) from lost
            raise
        reply = replies.heard(Stage.DOT, response.code, response.message)
        if self._surplus or _unsent(protocol) or not _is_answer(reply):
            raise Lost(reply)
        return reply

    @property
    def _surplus(self) -> bool:
        """Whether there is more than the reply, which would become that of the next command."""
        protocol = self._smtp.protocol
        return protocol is not None and bool(protocol._buffer)  # noqa: SLF001 -- told in no other way

    async def _reset(self) -> None:
        if not await self._confirms(b"RSET"):
            self.abort()

    async def _confirms(self, command: bytes) -> bool:
        try:
            async with asyncio.timeout(RESET_SECONDS):
                response = await self._smtp.execute_command(command)
        except (SMTPException, OSError):
            return False
        return response.code == 250 and not self._surplus  # noqa: PLR2004 -- RFC 5321 4.2.3

    async def quit(self) -> None:
        """Take leave and close."""
        try:
            with suppress(SMTPException, OSError):
                async with asyncio.timeout(QUIT_SECONDS):
                    await self._smtp.quit()
        finally:
            self.abort()

    def abort(self) -> None:
        """Close without sending what is still waiting to be sent: it might be the final dot."""
        if self._smtp.transport is not None:
            cast("asyncio.Transport", self._smtp.transport).abort()
        self._smtp.close()


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


def _is_answer(reply: Reply) -> bool:
    return replies.accepted(reply) or replies.refused(reply)


def _unsent(protocol: SMTPProtocol) -> bool:
    """Tell whether part of the content, so the final dot, has not left this process.

    Behind TLS some of it may wait where this does not see it; then the mail counts as sent.
    """
    return protocol._paused  # noqa: SLF001 -- told in no other way


def _path(address: str) -> bytes:
    return b"<" + address.encode() + b">"


def _stuffed(content: bytes) -> bytes:
    """Double the dots that begin a line (RFC 5321 4.5.2)."""
    first = b"." if content.startswith(b".") else b""
    return first + content.replace(b"\r\n.", b"\r\n..")


def _left(deadline: float) -> float:
    return deadline - _now()


def _now() -> float:
    return asyncio.get_running_loop().time()
