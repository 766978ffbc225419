"""One connection of the submission door: AUTH, and the mails of a client that has logged in."""

# ruff: noqa: N802  # aiosmtpd looks the methods up by these names

import asyncio
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
from aiosmtpd.smtp import MISSING, syntax

from services.inbound import metrics
from services.inbound.envelope import Refused, read_address, too_big
from services.inbound.lines import unstuffed
from services.inbound.smtp import LimitedSmtp, OpenConnections, SmtpTerms
from services.inbound.submission.handover import AcceptanceRules, Handover, check_sender
from services.inbound.submission.limits import LeakyBuckets, MailBudget
from services.inbound.submission.logins import ClientLogin, Logins, TooManyGuesses
from shared import delivery
from shared.contracts import AuthenticatedClient
from shared.contracts.clients import Scope
from shared.contracts.fields import MAX_RECIPIENTS
from shared.delivery import Publishing
from shared.errors import NoAnswer, Unavailable
from shared.runtime.http_connections import Connections

MAX_INLINE_OCTETS = 32 * 1024  # of a mail that is read in the loop, in some 0.3 ms
MAX_STUFFING_OCTETS = 64 * 1024  # dots and the end of a mail, beyond its size
MAX_LOGINS = 3  # wrong ones of one connection
_MECHANISMS = ("PLAIN", "LOGIN")
_WRONG_KEY = "535 5.7.8 The client or its key is wrong"
_NO_ROOM = "452 4.3.1 Too many mails are being received, try again"
_NOT_ASKED = "454 4.7.0 The login cannot be checked now, try again"

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SubmissionDoor:
    """The parts that all connections of the door share.

    `publish` returns after the broker's confirm. `rates` bounds the mails of each client, if it is
    there.
    """

    logins: Logins
    acceptance: AcceptanceRules
    publish: Callable[[Publishing], Awaitable[None]]
    budget: MailBudget
    rates: LeakyBuckets | None
    opened: OpenConnections = field(default_factory=OpenConnections)


class SubmissionConnection(LimitedSmtp):
    """Accepts the mails of one client. Nothing is accepted before a login (RFC 6409 4.3)."""

    max_recipients = MAX_RECIPIENTS

    def __init__(self, terms: SmtpTerms, connections: Connections, door: SubmissionDoor) -> None:
        self._door = door
        self._login: ClientLogin | None = None
        self._client: AuthenticatedClient | None = None
        self._wrong_logins = 0
        super().__init__(terms, connections, door.opened)

    @property
    def extensions(self) -> list[str]:
        """The keywords of EHLO; AUTH only once the connection is encrypted."""
        auth = [f"AUTH {' '.join(_MECHANISMS)}"] if self.secured else []
        return [*super().extensions, *auth]

    async def check_auth_needed(self, caller_method: str) -> bool:
        """Refuse a command before a login."""
        if self._client is None:
            await self.push(f"530 5.7.0 Log in before {caller_method}")
        return self._client is None

    @syntax("AUTH <mechanism>")
    async def smtp_AUTH(self, arg: str | None) -> None:
        """Log a client in by its id and its key (RFC 4954)."""
        assert self.session is not None  # noqa: S101 -- the connection is made
        mechanism, _, initial = (arg or "").partition(" ")
        if not self.session.extended_smtp:
            await self.push("503 5.5.1 Send EHLO first")
        elif not self.secured:
            await self.push("538 5.7.11 Encryption required for a login")
        elif self._client is not None:
            await self.push("503 5.5.1 Already logged in")
        elif mechanism.upper() not in _MECHANISMS:
            await self.push(f"504 5.5.4 {' and '.join(_MECHANISMS)} are known")
        else:
            login = await self._read_login(mechanism.upper(), initial.strip())
            if login is not None:
                await self._log_in(login)

    async def _read_login(self, mechanism: str, initial: str) -> ClientLogin | None:
        """Return the login, None after a reply that refuses it."""
        first = await self._response("" if mechanism == "PLAIN" else "Username:", initial)
        if first is None:
            return None
        if mechanism == "LOGIN":
            second = await self._response("Password:", "")
            return None if second is None else ClientLogin(first, second, self.remote)
        authorized, _, rest = first.partition("\x00")
        client, separator, key = rest.partition("\x00")
        if not separator or authorized not in {"", client}:
            await self.push("501 5.5.2 Not the form of PLAIN (RFC 4616), or in another's name")
            return None
        return ClientLogin(client, key, self.remote)

    async def _response(self, challenge: str, initial: str) -> str | None:
        """Return the client's response as text, None after a reply that refuses it."""
        if not initial:
            octets = await self.challenge_auth(challenge)
            if octets is MISSING:
                return None
            assert isinstance(octets, bytes)  # noqa: S101 -- the other case
            return octets.decode(errors="replace")
        try:
            return b64decode("" if initial == "=" else initial, validate=True).decode()
        except ValueError:
            await self.push("501 5.5.2 Not base64")
            return None

    async def _log_in(self, login: ClientLogin) -> None:
        client, refusal = await self._checked(login)
        if client is None:
            metrics.LOGINS.labels(refusal[:3]).inc()
            logger.info("no login", remote=self.remote, reply=refusal)
            self._wrong_logins += 1
            if self._wrong_logins < MAX_LOGINS:
                await self.push(refusal)
            else:
                await self.refuse_bad(refusal)
            return
        metrics.LOGINS.labels("235").inc()
        self._login, self._client = login, client
        self.trust()
        await self.push("235 2.7.0 Logged in")

    async def _checked(self, login: ClientLogin) -> tuple[AuthenticatedClient | None, str]:
        """Return the client of a login that may send, or why there is none."""
        try:
            client = await self._door.logins.check(login)
        except TooManyGuesses:
            return None, "454 4.7.0 Too many wrong logins, try again later"
        except (Unavailable, NoAnswer) as error:
            logger.warning("a login was not checked", reason=str(error))
            return None, _NOT_ASKED
        if client is None:
            return None, _WRONG_KEY
        if Scope.SEND not in client.scopes:
            return None, "535 5.7.1 This client must not send"
        return client, ""

    async def accept_sender(self, path: str) -> str:
        """Return the address of MAIL, one of the client's senders. Raises Refused."""
        await self._renew()
        sender = read_address(path, "501 5.1.7") if path else ""
        assert self._client is not None  # noqa: S101 -- the client has logged in
        check_sender(self._client, sender)
        return sender

    def accept_recipient(self, path: str) -> str:
        """Return the address of RCPT. Raises Refused."""
        return read_address(path, "553 5.1.3")

    async def _renew(self) -> None:
        """Check the login again: its key may be revoked by now. Raises Refused."""
        assert self._login is not None  # noqa: S101 -- the client has logged in
        client, refusal = await self._checked(self._login)
        if client is None:
            if refusal.startswith("5"):
                self._client = None
                raise Refused("530 5.7.0 The login is no longer valid")
            raise Refused(refusal.replace("454", "451"))
        self._client = client
        rates, now = self._door.rates, self.loop.time()
        if rates is not None:
            if wait := rates.wait(client.id, now):
                raise Refused(f"451 4.7.0 Too many mails, try again in {wait:.0f} s")
            rates.add(client.id, now)

    async def receive(self) -> str:
        """Receive a mail, and return the reply to it."""
        with self._door.budget.taking(self.terms.max_octets + MAX_STUFFING_OCTETS) as part:
            await self.read_mail(part.add)
            begun = time.perf_counter()
            if part.octets is not None:
                reply = await self._reply(unstuffed(part.octets))
            else:
                reply = too_big(self.terms.max_octets) if part.is_full else _NO_ROOM
        metrics.ACCEPTING.observe(time.perf_counter() - begun)
        metrics.HANDED_OVER.labels(" ".join(reply.split(" ")[:2])).inc()
        return reply

    async def _reply(self, content: bytes) -> str:
        """Return the reply to a mail; a positive one after the broker's confirm."""
        if len(content) > self.terms.max_octets:
            return too_big(self.terms.max_octets)
        assert self._client is not None  # noqa: S101 -- the client has logged in
        mail = Handover(self._client, self.sender or "", tuple(self.recipients), content)
        try:
            id_, item = await self._read(mail)
        except Refused as refusal:
            logger.info("a mail was refused", client=self._client.id, reply=refusal.reply)
            return refusal.reply
        try:
            await self._door.publish(item)
        except Unavailable as error:
            logger.warning("a mail was not kept", reason=str(error))
            return "451 4.3.0 The mail cannot be kept now, try again"
        return f"250 2.0.0 Accepted as {id_}"

    async def _read(self, mail: Handover) -> tuple[str, Publishing]:
        """Return the id and the message of a mail. Raises Refused."""
        if len(mail.content) <= MAX_INLINE_OCTETS:
            return self._message(mail)
        return await asyncio.to_thread(self._message, mail)

    def _message(self, mail: Handover) -> tuple[str, Publishing]:
        command = self._door.acceptance.command(mail)
        return command.id, delivery.publishing(command)
