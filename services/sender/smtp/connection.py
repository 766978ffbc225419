"""The transactions over one SMTP connection, and the true result of each when something goes wrong.

A connection on which anything unexpected happened is closed, never used again.
"""

import asyncio
import math
import re
from dataclasses import replace

from services.sender.mail.compose import OutgoingMail
from services.sender.smtp.relay import Extensions, Timeouts
from services.sender.smtp.stream import ProtocolViolation, RawReply, SmtpStream
from shared.contracts import Reply, Stage
from shared.contracts.address import domain_of
from shared.replies import reply as replies

PIECE_OCTETS = 262_144  # of a mail, written at once; each piece has a time limit of its own
RESET_SECONDS = 10.0  # for RSET and NOOP, which do no work
QUIT_SECONDS = 5.0  # a lost connection is no failure at QUIT (RFC 5321 4.1.1.10)
COMPLETED = 250  # the reply to RSET and NOOP (RFC 5321 4.3.2)

# Python 3.11 takes longer to look a member up than to compare it.
MAIL, RCPT, DATA, DOT = Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT
# For recipients beyond the server's limits, as if the server had sent it.
_TOO_MANY_RECIPIENTS = Reply(
    stage=Stage.RCPT, code=452, enhanced="4.5.3", text="too many recipients for this server"
)
_CONTROLS = re.compile(rb"[\x00-\x1f\x7f]")
_NOT_XTEXT = re.compile(r"[^!-*,-<>-~]")  # RFC 3461 4


class ConnectionLost(ConnectionError):
    """The connection cannot be used any more; `reply` has the stage and the cause.

    When it is `out_of_sync`, the replies before it may be those of other commands.
    """

    def __init__(self, reply: Reply, *, out_of_sync: bool = False) -> None:
        super().__init__(reply.text)
        self.reply = reply
        self.out_of_sync = out_of_sync


class SmtpConnection:
    """A connection that is open, encrypted and logged in.

    `mails` counts its transactions. `pipelining_failed` is set when the server could not cope with
    a group of commands although it offers PIPELINING. `exhausted` is set when the server has taken
    mails over this connection and takes no more for now.
    """

    def __init__(self, stream: SmtpStream, extensions: Extensions, timeouts: Timeouts) -> None:
        self._stream = stream
        self._timeouts = timeouts
        self._deadline = 0.0
        self._mail_seconds = math.inf
        self.extensions = extensions
        self._domains: set[str] = set()  # of all recipients so far, if the server limits them
        self.mails = 0
        self.idle_since = _now()
        self.pipelining_failed = False
        self.exhausted = False
        self._accepted_any = False

    @property
    def usable(self) -> bool:
        """Whether another transaction may be tried: it is open, and no reply is left over."""
        return self._stream.is_open and not self._stream.has_unread

    async def is_alive(self, seconds: float) -> bool:
        """Send NOOP and return whether the server replies; a half-open connection looks fine."""
        code = await self._code_of(b"NOOP", min(RESET_SECONDS, seconds))
        return code == COMPLETED and self.usable

    async def transact(
        self,
        mail: OutgoingMail,
        deadline: float,
        *,
        pipelined: bool = True,
        mail_seconds: float = math.inf,
    ) -> dict[str, Reply]:
        """Send one mail and return, for each recipient, the reply that settled it.

        `deadline`, in the loop's time, limits all that comes before the final dot, `mail_seconds`
        the reply to MAIL. The commands go out in one group if `pipelined` and the server offers it.
        Afterwards the connection may be closed: see `usable`. Raises what `mail.progress` raises.
        """
        mail.progress.begin()
        self._deadline, self._mail_seconds = deadline, mail_seconds
        part = self._part_for_now(mail)
        if self.extensions.domains is not None:
            self._domains.update(domain_of(each).lower() for each in part.recipients)
        refused: dict[str, Reply] = {}
        try:
            last = await self._run(part, refused, pipelined=pipelined)
        except ConnectionLost as lost:
            self.abort()
            last = lost.reply
        except BaseException:
            # A reply may still be under way, which the next mail would read as its own.
            self.abort()
            raise
        self.mails += 1
        self.idle_since = _now()
        settled = {each: refused.get(each, last) for each in part.recipients}
        if any(map(replies.accepted, settled.values())):
            self._accepted_any = True
        else:
            over = any(map(replies.session_over, settled.values()))
            self.exhausted = self._accepted_any and over
        if part is mail:
            return settled
        return {each: settled.get(each, _TOO_MANY_RECIPIENTS) for each in mail.recipients}

    def has_room(self, mail: OutgoingMail) -> bool:
        """Return whether the server takes any recipient of the mail over this connection."""
        return self.extensions.domains is None or bool(self._fitting(mail.recipients))

    def _part_for_now(self, mail: OutgoingMail) -> OutgoingMail:
        """Return the mail for the recipients that the server takes in this transaction."""
        fitting = self._fitting(self.extensions.reachable(mail))
        if fitting == mail.recipients:
            return mail
        needed = mail.needs_smtputf8 and self.extensions.smtputf8
        return replace(mail, recipients=fitting, needs_smtputf8=needed)

    def _fitting(self, recipients: tuple[str, ...]) -> tuple[str, ...]:
        """Return the recipients within the limits of a transaction (RFC 9422 4)."""
        first = recipients[: self.extensions.recipients]
        if (max_domains := self.extensions.domains) is None:
            return first
        fitting, domains = list[str](), set(self._domains)
        for each in first:
            domain = domain_of(each).lower()
            if domain in domains or len(domains) < max_domains:
                domains.add(domain)
                fitting.append(each)
        return tuple(fitting)

    async def _run(
        self, mail: OutgoingMail, refused: dict[str, Reply], *, pipelined: bool
    ) -> Reply:
        """Add the refused recipients to `refused`; return the reply to all others."""
        in_group = pipelined and self.extensions.pipelining
        no = await (self._in_group if in_group else self._one_by_one)(mail, refused)
        if no is None and len(refused) < len(mail.recipients):
            return await self._content(mail)
        if no is None:
            # The server waits for a mail without recipients (RFC 2920 3.1).
            no = _received(DOT, await self._command(DOT, b"."))
        if await self._reset() == replies.START_INPUT:
            # That is the reply to DATA: one reply was too many and all are shifted, so that no
            # refusal can be matched with its recipient (issue 10, S12).
            refused.clear()
            return replies.no_reply(DATA, "more replies than commands")
        return no

    async def _one_by_one(self, mail: OutgoingMail, refused: dict[str, Reply]) -> Reply | None:
        """Send MAIL, RCPT and, if a recipient is left, DATA; return the refusal of all, if any."""
        sender, *recipients, data = self._commands(mail)
        raw = await self._command(MAIL, sender)
        if no := _refusal(MAIL, raw):
            return no
        for recipient, command in zip(mail.recipients, recipients, strict=True):
            if no := _refusal(RCPT, await self._command(RCPT, command)):
                refused[recipient] = no
        if len(refused) == len(mail.recipients):
            return _received(MAIL, raw)
        return _refusal(DATA, await self._command(DATA, data))

    async def _in_group(self, mail: OutgoingMail, refused: dict[str, Reply]) -> Reply | None:
        """Send all commands at once, match the replies by count; return the refusal of DATA."""
        commands = self._commands(mail)
        self._write(b"\r\n".join(commands), MAIL)
        begun = False
        try:
            no = _refusal(MAIL, await self._reply(MAIL))
            begun = True
            if no is not None:
                refused.update(dict.fromkeys(mail.recipients, no))
            for recipient in mail.recipients:
                if no := _refusal(RCPT, await self._reply(RCPT)):
                    refused.setdefault(recipient, no)
            no = _refusal(DATA, await self._reply(DATA))
            # A refusal counts though the server then closes, unless there is one reply too many.
            extra = self._extra_reply(DATA)
            if extra is not None and (extra.out_of_sync or no is None):
                raise extra
        except ConnectionLost as lost:
            # Unless there are as many replies as commands, they cannot be matched. But a server
            # may well close after a refusal: the replies before that hold.
            if lost.out_of_sync:
                refused.clear()
            # Silence from the first command on is not about groups.
            no_reply = lost.reply.code == replies.NO_REPLY
            self.pipelining_failed = begun and (lost.out_of_sync or no_reply)
            raise
        return no

    def _commands(self, mail: OutgoingMail) -> list[bytes]:
        """Return the commands that come before the content. Raises ValueError."""
        size = b" SIZE=%d" % len(mail.content) if self.extensions.sized else b""
        utf8 = b" SMTPUTF8" if mail.needs_smtputf8 else b""
        body = b" BODY=8BITMIME" if mail.to_7bit is not None else b""
        reports = self.extensions.dsn and mail.envelope_id
        dsn = b" RET=HDRS ENVID=%b" % mail.envelope_id.encode() if reports else b""
        sender = b"MAIL FROM:<%b>" % mail.sender.encode() + size + body + utf8 + dsn
        recipients = [
            b"RCPT TO:<%b>" % each.encode() + (_original(each) if reports else b"")
            for each in mail.recipients
        ]
        commands = [sender, *recipients, b"DATA"]
        if _CONTROLS.search(b"".join(commands)):
            raise ValueError("a control character in an address")
        return commands

    async def _command(self, stage: Stage, command: bytes) -> RawReply:
        self._write(command, stage)
        return await self._reply(stage)

    def _write(self, command: bytes, stage: Stage) -> None:
        """Send a command. A reply that was received before it cannot be its reply."""
        if extra := self._extra_reply(stage):
            raise extra
        try:
            self._stream.write(command + b"\r\n")
        except ConnectionError as error:
            raise _lost(stage, error) from error

    async def _reply(self, stage: Stage) -> RawReply:
        """Return the reply to the command at `stage`. Raises ConnectionLost unless it is valid."""
        raw = self._stream.read_nowait()  # most replies to a group come together
        if raw is None:
            raw = await self._next_reply(stage)
        if not _is_valid(stage, raw):
            raise ConnectionLost(_received(stage, raw), out_of_sync=raw.code != replies.CLOSING)
        return raw

    async def _next_reply(self, stage: Stage) -> RawReply:
        seconds = self._timeouts.command
        if stage is MAIL:
            seconds = min(seconds, self._mail_seconds)
        try:
            return await self._stream.read(seconds, self._deadline)
        except OSError as error:
            raise _lost(stage, error) from error

    def _extra_reply(self, stage: Stage) -> ConnectionLost | None:
        """Return the meaning of a reply without a command, None if there is none.

        It would be read as the reply to the next command. A server that closes may send one
        (RFC 5321 3.8).
        """
        raw = self._stream.read_nowait()
        if raw is None:
            return None
        if raw.code == replies.CLOSING:
            return ConnectionLost(_received(stage, raw))
        return ConnectionLost(
            replies.no_reply(stage, "more replies than commands"), out_of_sync=True
        )

    async def _content(self, mail: OutgoingMail) -> Reply:
        """Send the content piece by piece and return the reply to the final dot."""
        if extra := self._extra_reply(DATA):
            raise extra
        octets = _stuffed(mail.content) + b".\r\n"
        for start in range(0, len(octets), PIECE_OCTETS):
            end = start + PIECE_OCTETS
            mail.progress.commit()
            mail.progress.content_begun = end >= len(octets)
            await self._write_piece(octets[start:end])
            if self._stream.unsent or (self._stream.has_unread and end < len(octets)):
                raise await self._early_reply()
        try:
            raw = await self._stream.read(self._timeouts.dot)
        except OSError as error:
            raise _lost(DOT, error) from error
        reply = _received(DOT, raw)
        if self._stream.has_unread or not _is_valid(DOT, raw):
            raise ConnectionLost(reply)
        return reply

    async def _write_piece(self, piece: bytes) -> None:
        """Send part of the content; while it has not left, the final dot has not left either."""
        try:
            self._stream.write(piece)
            await self._stream.drain(min(self._timeouts.write, self._deadline - _now()))
        except OSError as error:
            if self._stream.has_unread:
                raise await self._early_reply() from error
            raise _lost(DATA, error) from error

    async def _early_reply(self) -> ConnectionLost:
        """Return the meaning of a reply that came before the server had the whole mail."""
        raw = await self._stream.read(0)
        if raw.code == replies.CLOSING:
            return ConnectionLost(_received(DATA, raw))
        if not replies.is_negative(raw.code):
            return ConnectionLost(replies.no_reply(DATA, "a reply before the end of the mail"))
        return ConnectionLost(_received(DOT, raw))

    async def _reset(self) -> int:
        """Send RSET, and return the code of the reply."""
        code = await self._code_of(b"RSET", RESET_SECONDS)
        if code != COMPLETED or not self.usable:
            self.abort()
        return code

    async def _code_of(self, command: bytes, seconds: float) -> int:
        try:
            self._stream.write(command + b"\r\n")
            raw = await self._stream.read(seconds)
        except OSError:
            return replies.NO_REPLY
        return raw.code

    async def quit(self) -> None:
        """Send QUIT and close."""
        try:
            await self._code_of(b"QUIT", QUIT_SECONDS)
        finally:
            self.abort()

    def abort(self) -> None:
        """Close and discard unsent octets: they might be the final dot."""
        self._stream.abort()


def _lost(stage: Stage, error: OSError) -> ConnectionLost:
    """Return the end of the connection that a missing reply means."""
    if isinstance(error, TimeoutError):
        return ConnectionLost(replies.no_reply(stage, "no reply in time"), out_of_sync=True)
    violated = isinstance(error, ProtocolViolation)
    return ConnectionLost(replies.no_reply(stage, str(error)), out_of_sync=violated)


def _is_valid(stage: Stage, raw: RawReply) -> bool:
    return replies.is_positive(stage, raw.code) or replies.is_negative(raw.code)


def _refusal(stage: Stage, raw: RawReply) -> Reply | None:
    """Return the reply unless it is positive; building an unused one costs more than a mail."""
    return None if replies.is_positive(stage, raw.code) else _received(stage, raw)


def _received(stage: Stage, raw: RawReply) -> Reply:
    return replies.received(stage, raw.code, raw.text)


def _original(recipient: str) -> bytes:
    """Return the parameter that makes a report name the recipient as we did (RFC 3461 4.2)."""
    if not recipient.isascii():
        return b""  # RFC 6533 has a form of its own for these, which few servers know
    address = _NOT_XTEXT.sub(lambda found: f"+{ord(found[0]):02X}", recipient)
    return b" ORCPT=rfc822;%b" % address.encode()


def _stuffed(content: bytes) -> bytes:
    """Double the dots that begin a line (RFC 5321 4.5.2)."""
    first = b"." if content.startswith(b".") else b""
    return first + content.replace(b"\r\n.", b"\r\n..")


def _now() -> float:
    return asyncio.get_running_loop().time()
