"""The transactions over one connection, and the truth about each when something goes wrong.

A connection on which anything unexpected happened is closed, never used again.
"""

import asyncio
import math
import re
from dataclasses import replace

from services.sender.mail.compose import OutgoingMail
from services.sender.replies import reply as replies
from services.sender.smtp.extensions import Extensions
from services.sender.smtp.relay import Timeouts
from services.sender.smtp.stream import ProtocolViolation, RawReply, SmtpStream
from shared.contracts import Reply, Stage
from shared.contracts.address import domain_of

PIECE_OCTETS = 262_144  # of a mail, written at once; each has a time limit of its own
RESET_SECONDS = 10.0  # for RSET and NOOP, which do no work
COMPLETED = 250  # the reply to both (RFC 5321 4.3.2)
QUIT_SECONDS = 5.0  # a courtesy: losing the connection instead is no failure (RFC 5321 4.1.1.10)

# Python 3.11 takes longer to look a member up than to compare it.
MAIL, RCPT, DATA, DOT = Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT
# What those get who are beyond what the server takes at once: as if it had said so itself.
_NEXT_TIME = Reply(
    stage=Stage.RCPT, code=452, enhanced="4.5.3", text="too many recipients for this server"
)
_CONTROLS = re.compile(rb"[\x00-\x1f\x7f]")
_NOT_XTEXT = re.compile(r"[^!-*,-<>-~]")  # RFC 3461 4


class ConnectionLost(ConnectionError):
    """The conversation cannot go on; `reply` tells at which stage it ended and how.

    After a `strange` end the replies before it may have been those of other commands.
    """

    def __init__(self, reply: Reply, *, strange: bool = False) -> None:
        super().__init__(reply.text)
        self.reply = reply
        self.strange = strange


class SmtpConnection:
    """A connection that is open, encrypted and logged in.

    `mails` counts its transactions. It `stumbled` if the server could not cope with a group of
    commands although it offers PIPELINING. It is `used_up` when the server has taken mails over it
    and takes no more for now.
    """

    def __init__(self, dialogue: SmtpStream, offers: Extensions, patience: Timeouts) -> None:
        self._dialogue = dialogue
        self._patience = patience
        self._deadline = 0.0
        self._mail_seconds = math.inf
        self.offers = offers
        self._domains: set[str] = set()  # of all recipients so far, if there is a limit to them
        self.mails = 0
        self.idle_since = _now()
        self.stumbled = False
        self.used_up = False
        self._served = False

    @property
    def usable(self) -> bool:
        """Whether another transaction may be tried: nothing was said that nobody asked for."""
        return self._dialogue.open and not self._dialogue.unread

    async def answers(self, seconds: float) -> bool:
        """Ask the server whether it is still there; a half-open connection looks fine."""
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
        the reply to MAIL. Commands go out in one group if the server offers that and it is wanted.
        Afterwards `usable` tells whether the connection has come out of it well. Raises what
        `mail.progress` raises.
        """
        mail.progress.begin()
        self._deadline, self._mail_seconds = deadline, mail_seconds
        now = self._now_of(mail)
        if self.offers.domains is not None:
            self._domains.update(domain_of(each).lower() for each in now.recipients)
        settled: dict[str, Reply] = {}
        try:
            last = await self._converse(now, settled, pipelined=pipelined)
        except ConnectionLost as lost:
            self.abort()
            last = lost.reply
        except BaseException:
            # A reply may still be under way, which the next mail would take for its own.
            self.abort()
            raise
        self.mails += 1
        self.idle_since = _now()
        told = {each: settled.get(each, last) for each in now.recipients}
        if any(map(replies.accepted, told.values())):
            self._served = True
        else:
            self.used_up = self._served and any(map(replies.session_over, told.values()))
        if now is mail:
            return told
        return {each: told.get(each, _NEXT_TIME) for each in mail.recipients}

    def has_room(self, mail: OutgoingMail) -> bool:
        """Return whether the server has any room for the mail over this connection."""
        return self.offers.domains is None or bool(self._fitting(mail.recipients))

    def _now_of(self, mail: OutgoingMail) -> OutgoingMail:
        """Return the part of the mail that the server takes now; the rest has its turn later."""
        fitting = self._fitting(self.offers.reaches(mail))
        if fitting == mail.recipients:
            return mail
        needed = mail.needs_smtputf8 and self.offers.smtputf8
        return replace(mail, recipients=fitting, needs_smtputf8=needed)

    def _fitting(self, recipients: tuple[str, ...]) -> tuple[str, ...]:
        """Return the recipients for which there is room in a transaction (RFC 9422 4)."""
        first = recipients[: self.offers.recipients]
        if (most := self.offers.domains) is None:
            return first
        fitting, domains = list[str](), set(self._domains)
        for each in first:
            domain = domain_of(each).lower()
            if domain in domains or len(domains) < most:
                domains.add(domain)
                fitting.append(each)
        return tuple(fitting)

    async def _converse(
        self, mail: OutgoingMail, settled: dict[str, Reply], *, pipelined: bool
    ) -> Reply:
        """Put the recipients that are refused into `settled`; give the reply to all others."""
        in_group = pipelined and self.offers.pipelining
        no = await (self._group if in_group else self._lock_step)(mail, settled)
        if no is None and len(settled) < len(mail.recipients):
            return await self._content(mail)
        if no is None:
            # The server waits for a mail that is for nobody (RFC 2920 3.1).
            no = _heard(DOT, await self._say(DOT, b"."))
        if await self._reset() == replies.START_INPUT:
            # That is the reply to DATA: one reply was too many and all are shifted, so that no
            # refusal can be matched with its recipient (issue 10, S12).
            settled.clear()
            return replies.no_reply(DATA, "more replies than commands")
        return no

    async def _lock_step(self, mail: OutgoingMail, settled: dict[str, Reply]) -> Reply | None:
        """Say MAIL, RCPT and, if anybody is left, DATA; give the no to all, if it is one."""
        sender, *recipients, data = self._commands(mail)
        answer = await self._say(MAIL, sender)
        if no := _no(MAIL, answer):
            return no
        for recipient, command in zip(mail.recipients, recipients, strict=True):
            if refusal := _no(RCPT, await self._say(RCPT, command)):
                settled[recipient] = refusal
        if len(settled) == len(mail.recipients):
            return _heard(MAIL, answer)
        return _no(DATA, await self._say(DATA, data))

    async def _group(self, mail: OutgoingMail, settled: dict[str, Reply]) -> Reply | None:
        """Say them all at once, then match the replies by count; give the no to DATA, if any."""
        commands = self._commands(mail)
        self._write(b"\r\n".join(commands), MAIL)
        begun = False
        try:
            no = _no(MAIL, await self._hear(MAIL))
            begun = True
            if no is not None:
                settled.update(dict.fromkeys(mail.recipients, no))
            for recipient in mail.recipients:
                if refusal := _no(RCPT, await self._hear(RCPT)):
                    settled.setdefault(recipient, refusal)
            no = _no(DATA, await self._hear(DATA))
            # A no counts though the server then closes, unless there is one reply too many.
            extra = self._left_over(DATA)
            if extra is not None and (extra.strange or no is None):
                raise extra
        except ConnectionLost as lost:
            # Without all replies, as many as there were commands, nobody knows which is whose.
            # But a server may well close after a refusal: what it had said then holds.
            if lost.strange:
                settled.clear()
            # Silence from the first command on says nothing of groups.
            self.stumbled = begun and (lost.strange or lost.reply.code == replies.NO_REPLY)
            raise
        return no

    def _commands(self, mail: OutgoingMail) -> list[bytes]:
        """Return the commands that come before the content. Raises ValueError."""
        size = b" SIZE=%d" % len(mail.content) if self.offers.sized else b""
        utf8 = b" SMTPUTF8" if mail.needs_smtputf8 else b""
        reports = self.offers.dsn and mail.envelope_id
        dsn = b" RET=HDRS ENVID=%b" % mail.envelope_id.encode() if reports else b""
        sender = b"MAIL FROM:<%b>" % mail.sender.encode() + size + utf8 + dsn
        recipients = [
            b"RCPT TO:<%b>" % each.encode() + (_original(each) if reports else b"")
            for each in mail.recipients
        ]
        commands = [sender, *recipients, b"DATA"]
        if _CONTROLS.search(b"".join(commands)):
            raise ValueError("a control character in an address")
        return commands

    async def _say(self, stage: Stage, command: bytes) -> RawReply:
        self._write(command, stage)
        return await self._hear(stage)

    def _write(self, command: bytes, stage: Stage) -> None:
        """Send a command. A reply that is there already is none to it."""
        self._expect_silence(stage)
        try:
            self._dialogue.write(command + b"\r\n")
        except ConnectionError as error:
            raise _lost(stage, error) from error

    async def _hear(self, stage: Stage) -> RawReply:
        """Return the reply to the command at `stage`. Raises Lost unless it is a yes or a no."""
        answer = self._dialogue.take()  # most replies to a group come together
        if answer is None:
            answer = await self._awaited(stage)
        if not _is_answer(stage, answer):
            raise ConnectionLost(_heard(stage, answer), strange=answer.code != replies.CLOSING)
        return answer

    async def _awaited(self, stage: Stage) -> RawReply:
        seconds = self._patience.command
        if stage is MAIL:
            seconds = min(seconds, self._mail_seconds)
        try:
            return await self._dialogue.answer(seconds, self._deadline)
        except OSError as error:
            raise _lost(stage, error) from error

    def _expect_silence(self, stage: Stage) -> None:
        """See that there is no reply left over, which would become that of the next command."""
        if extra := self._left_over(stage):
            raise extra

    def _left_over(self, stage: Stage) -> ConnectionLost | None:
        """Return the meaning of an unasked reply, None if there is none.

        A server that closes may say so unasked (RFC 5321 3.8).
        """
        answer = self._dialogue.take()
        if answer is None:
            return None
        if answer.code == replies.CLOSING:
            return ConnectionLost(_heard(stage, answer))
        return ConnectionLost(replies.no_reply(stage, "more replies than commands"), strange=True)

    async def _content(self, mail: OutgoingMail) -> Reply:
        self._expect_silence(DATA)
        octets = _stuffed(mail.content) + b".\r\n"
        for start in range(0, len(octets), PIECE_OCTETS):
            end = start + PIECE_OCTETS
            mail.progress.commit()
            mail.progress.content_begun = end >= len(octets)
            await self._put(octets[start:end])
            if self._dialogue.unsent or (self._dialogue.unread and end < len(octets)):
                raise await self._interrupted()
        try:
            answer = await self._dialogue.answer(self._patience.dot)
        except OSError as error:
            raise _lost(DOT, error) from error
        reply = _heard(DOT, answer)
        if self._dialogue.unread or not _is_answer(DOT, answer):
            raise ConnectionLost(reply)
        return reply

    async def _put(self, piece: bytes) -> None:
        """Send part of the content; as long as it is not gone, the final dot is not either."""
        try:
            self._dialogue.write(piece)
            await self._dialogue.drained(min(self._patience.write, self._left))
        except OSError as error:
            if self._dialogue.unread:
                raise await self._interrupted() from error
            raise _lost(DATA, error) from error

    async def _interrupted(self) -> ConnectionLost:
        """Return the meaning of a reply that came before the server had the whole mail."""
        answer = await self._dialogue.answer(0)
        if answer.code == replies.CLOSING:
            return ConnectionLost(_heard(DATA, answer))
        if not replies.is_negative(answer.code):
            return ConnectionLost(replies.no_reply(DATA, "a reply before the end of the mail"))
        return ConnectionLost(_heard(DOT, answer))

    async def _reset(self) -> int:
        """Forget the transaction, and return the code of the reply."""
        code = await self._code_of(b"RSET", RESET_SECONDS)
        if code != COMPLETED or not self.usable:
            self.abort()
        return code

    async def _code_of(self, command: bytes, seconds: float) -> int:
        """Return the code of the reply to a command that does no work."""
        try:
            self._dialogue.write(command + b"\r\n")
            answer = await self._dialogue.answer(seconds)
        except OSError:
            return replies.NO_REPLY
        return answer.code

    async def quit(self) -> None:
        """Send QUIT and close."""
        try:
            self._dialogue.write(b"QUIT\r\n")
            await self._dialogue.answer(QUIT_SECONDS)
        except OSError:
            pass  # it is closed anyway
        finally:
            self.abort()

    def abort(self) -> None:
        """Close without sending what is still waiting to be sent: it might be the final dot."""
        self._dialogue.abort()

    @property
    def _left(self) -> float:
        return self._deadline - _now()


def _lost(stage: Stage, error: OSError) -> ConnectionLost:
    """Return the end that a missing reply means."""
    if isinstance(error, TimeoutError):
        return ConnectionLost(replies.no_reply(stage, "no reply in time"), strange=True)
    return ConnectionLost(
        replies.no_reply(stage, str(error)), strange=isinstance(error, ProtocolViolation)
    )


def _is_answer(stage: Stage, answer: RawReply) -> bool:
    return replies.is_positive(stage, answer.code) or replies.is_negative(answer.code)


def _no(stage: Stage, answer: RawReply) -> Reply | None:
    """Return the reply if it is not a yes; to make one that nobody reads costs more than a mail."""
    return None if replies.is_positive(stage, answer.code) else _heard(stage, answer)


def _heard(stage: Stage, answer: RawReply) -> Reply:
    return replies.received(stage, answer.code, answer.text)


def _original(recipient: str) -> bytes:
    """Return the parameter by which a report names the recipient as we did (RFC 3461 4.2)."""
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
