"""One SMTP transaction: the commands, the content and the replies to them, matched by count."""

import asyncio
import math

from services.sender.mail.compose import OutgoingMail
from services.sender.smtp import commands
from services.sender.smtp.relay import ContentMode, Extensions, Timeouts
from services.sender.smtp.stream import ProtocolViolation, RawReply, SmtpStream
from shared.contracts import Reply, Stage
from shared.replies import reply as replies

PIECE_OCTETS = 262_144  # of a mail, written at once; each piece has a time limit of its own
RESET_SECONDS = 10.0  # for RSET and NOOP, which do no work
COMPLETED = 250  # the reply to RSET and NOOP (RFC 5321 4.3.2)
# For the reply to the first line, with which a server does no work. The mail then goes by DATA.
_TRIAL_SECONDS = 30.0
_BDAT_UNKNOWN = frozenset((500, 502, 503))  # RFC 5321 4.2.2, though a recipient was taken

# Python 3.11 takes longer to look a member up than to compare it.
MAIL, RCPT, DATA, DOT = Stage.MAIL, Stage.RCPT, Stage.DATA, Stage.DOT


class ConnectionLost(ConnectionError):
    """The connection cannot be used any more; `reply` has the stage and the cause.

    When it is `out_of_sync`, the replies before it may be those of other commands.
    """

    def __init__(self, reply: Reply, *, out_of_sync: bool = False) -> None:
        super().__init__(reply.text)
        self.reply = reply
        self.out_of_sync = out_of_sync

    @property
    def about_group(self) -> bool:
        """Whether a group of commands may be the cause: silence from the first on has another."""
        silent = self.out_of_sync or self.reply.code == replies.NO_REPLY
        return silent and self.reply.stage is not MAIL


class Transaction:
    """The transaction of one mail over a connection.

    `deadline`, in the loop's time, limits all that comes before the end of the content. `refused`
    has the recipients that were refused, by `run`. `pipelining_failed` and `chunking_failed` are
    those of `SmtpConnection`.
    """

    def __init__(
        self,
        stream: SmtpStream,
        extensions: Extensions,
        timeouts: Timeouts,
        mail: OutgoingMail,
        deadline: float,
    ) -> None:
        self._stream = stream
        self._extensions = extensions
        self._timeouts = timeouts
        self._mail = mail
        self._deadline, self._mail_seconds = deadline, math.inf
        self.refused: dict[str, Reply] = {}
        self.pipelining_failed = self.chunking_failed = False

    @property
    def _is_wanted(self) -> bool:
        """Whether a recipient is left, so that the server wants the content."""
        return len(self.refused) < len(self._mail.recipients)

    async def run(self, mode: ContentMode, mail_seconds: float, *, in_group: bool) -> Reply:
        """Add the refused recipients to `refused`; return the reply to all others.

        `mail_seconds` limits the reply to MAIL. Raises ConnectionLost, with the same meaning.
        """
        self._mail_seconds = mail_seconds
        try:
            return await self._run(mode, in_group=in_group)
        except ConnectionLost as lost:
            # A server may well close after it has refused all.
            closed_after = not self._is_wanted and not lost.out_of_sync
            by_bdat = mode is not ContentMode.DATA
            self.chunking_failed = by_bdat and lost.about_group and not closed_after
            raise

    async def _run(self, mode: ContentMode, *, in_group: bool) -> Reply:
        if mode is ContentMode.JOINED:
            return await self._at_once()
        if in_group:
            no = await self._in_group(mode)
        else:
            no = await self._one_by_one()
        if no is None and self._is_wanted:
            reply = await self._content(mode)
            if mode is ContentMode.TRIAL and not replies.accepted(reply):
                self._mail.progress.content_begun = False
                await self._reset()  # RFC 3030 2: the state after a refused BDAT is not defined
            return reply
        if no is None:
            # The server waits for a mail without recipients (RFC 2920 3.1).
            no = _received(DOT, await self._command(DOT, b"."))
        if await self._reset() == replies.START_INPUT:
            # That is the reply to DATA: one reply was too many and all are shifted, so that no
            # refusal can be matched with its recipient (issue 10, S12).
            self.refused.clear()
            return replies.no_reply(DATA, "more replies than commands")
        return no

    async def _one_by_one(self) -> Reply | None:
        """Send MAIL, RCPT and, if a recipient is left, DATA; return the refusal of all, if any."""
        sender, *recipients = commands.envelope(self._mail, self._extensions)
        raw = await self._command(MAIL, sender)
        if no := _refusal(MAIL, raw):
            return no
        for recipient, command in zip(self._mail.recipients, recipients, strict=True):
            if no := _refusal(RCPT, await self._command(RCPT, command)):
                self.refused[recipient] = no
        if not self._is_wanted:
            return _received(MAIL, raw)
        return _refusal(DATA, await self._command(DATA, b"DATA"))

    async def _in_group(self, mode: ContentMode) -> Reply | None:
        """Send all commands at once, match the replies by count; return the refusal of the last."""
        in_chunks = mode is ContentMode.TRIAL
        last = commands.first_chunk(self._mail.content) if in_chunks else b"DATA\r\n"
        like = DOT if in_chunks else DATA
        self._write(self._group(last), MAIL)
        try:
            await self._envelope_replies()
            limit = min(self._timeouts.command, _TRIAL_SECONDS) if in_chunks else None
            raw = await self._reply(DATA, like=like, seconds=limit)
            no = None if replies.is_positive(like, raw.code) else _received(DATA, raw)
            # A refusal counts though the server then closes, unless there is one reply too many.
            extra = self._extra_reply(DATA)
            if extra is not None and (extra.out_of_sync or no is None):
                raise extra
            if in_chunks:
                self._check_chunk(raw)
        except ConnectionLost as lost:
            # Unless there are as many replies as commands, they cannot be matched. But a server
            # may well close after a refusal: the replies before that hold.
            if lost.out_of_sync:
                self.refused.clear()
            self.pipelining_failed = lost.about_group and not in_chunks
            raise
        return no

    async def _at_once(self) -> Reply:
        """Send the commands and the content in one write, and return the reply to the content.

        From then on the server may accept the mail, until its replies show that it has not. A
        connection that is lost in between leaves it uncertain, as after the dot.
        """
        self._mail.progress.commit()
        self._write(self._group(commands.whole_chunk(self._mail.content)), MAIL)
        self._mail.progress.content_begun = True
        try:
            # A server may send all its replies when it has the content, and has worked on it.
            await self._envelope_replies(self._timeouts.dot)
            self._mail.progress.content_begun = self._is_wanted
            raw, extra = await self._chunk_reply()
        except ConnectionLost as lost:
            raise self._unsettled(lost) from lost
        reply = _received(DOT, raw)
        if replies.accepted(reply):
            if extra is not None:
                raise ConnectionLost(reply)  # 421: it closes
            return reply
        self._mail.progress.content_begun = False
        self._check_chunk(raw)
        # RFC 3030 2: the state after a refused BDAT is not defined. Another reply to RSET is one to
        # octets of the content, which the server has read as commands.
        code = await self._reset()
        self.chunking_failed = code not in {COMPLETED, replies.CLOSING, replies.NO_REPLY}
        return reply

    async def _chunk_reply(self) -> tuple[RawReply, ConnectionLost | None]:
        """Return the reply to BDAT, and the 421 after it. Raises ConnectionLost.

        A content that no recipient wants, or that has not left yet, cannot be accepted: that reply
        is one to another command, and so are the others. More replies than one may follow when the
        server does not know BDAT, and reads the content as commands.
        """
        seconds = self._timeouts.dot if self._is_wanted else self._timeouts.command
        raw = await self._reply(DOT, seconds=seconds)
        extra = self._extra_reply(DOT)
        too_many = extra is not None and extra.out_of_sync and not self._is_unknown(raw)
        impossible = not self._is_wanted or self._stream.unsent
        if too_many or (replies.is_positive(DOT, raw.code) and impossible):
            self.refused.clear()
            shifted = replies.no_reply(DOT, "more replies than commands")
            raise ConnectionLost(shifted, out_of_sync=True)
        return raw, extra

    def _check_chunk(self, raw: RawReply) -> None:
        """Raise ConnectionLost for a reply to BDAT by which the server does not know it.

        Then it has accepted nothing.
        """
        positive = replies.is_positive(DOT, raw.code)
        if self._is_unknown(raw) or (positive and not self._is_wanted):
            why = f"BDAT is not understood: {raw.code} {raw.text}"
            raise ConnectionLost(replies.no_reply(DATA, why), out_of_sync=True)

    def _is_unknown(self, raw: RawReply) -> bool:
        return self._is_wanted and raw.code in _BDAT_UNKNOWN

    def _unsettled(self, lost: ConnectionLost) -> ConnectionLost:
        """Return the end of a connection after the whole mail was written to it.

        The mail is uncertain unless replies refused it, or part of it is still here.
        """
        reply = lost.reply
        refused = not self._is_wanted and reply.code == replies.NO_REPLY
        settled = refused or reply.code == replies.CLOSING
        uncertain = not (settled or self._stream.unsent)
        self._mail.progress.content_begun = uncertain
        if settled:
            return lost
        if lost.out_of_sync and reply.stage is not DOT:
            self.refused.clear()  # they cannot be matched
        stage = DATA if reply.stage is DOT else reply.stage
        where = DOT if uncertain else stage
        return ConnectionLost(replies.no_reply(where, reply.text), out_of_sync=lost.out_of_sync)

    async def _envelope_replies(self, seconds: float | None = None) -> None:
        """Read the replies to MAIL and to each RCPT, each within `seconds`."""
        no = _refusal(MAIL, await self._reply(MAIL, seconds=seconds))
        if no is not None:
            self.refused.update(dict.fromkeys(self._mail.recipients, no))
        for recipient in self._mail.recipients:
            if no := _refusal(RCPT, await self._reply(RCPT, seconds=seconds)):
                self.refused.setdefault(recipient, no)

    def _group(self, last: bytes) -> bytes:
        """Return the octets of MAIL, each RCPT and `last`."""
        return b"\r\n".join([*commands.envelope(self._mail, self._extensions), last])

    async def _command(self, stage: Stage, command: bytes) -> RawReply:
        self._write(command + b"\r\n", stage)
        return await self._reply(stage)

    def _write(self, octets: bytes, stage: Stage) -> None:
        """Send commands. A reply that was received before them cannot be theirs."""
        if extra := self._extra_reply(stage):
            raise extra
        try:
            self._stream.write(octets)
        except ConnectionError as error:
            raise _lost(stage, error) from error

    async def _reply(
        self, stage: Stage, *, like: Stage | None = None, seconds: float | None = None
    ) -> RawReply:
        """Return the reply to the command at `stage`, which has the codes of the stage `like`.

        Raises ConnectionLost unless it is valid.
        """
        raw = self._stream.read_nowait()  # most replies to a group come together
        if raw is None:
            raw = await self._next_reply(stage, seconds)
        if not _is_valid(like or stage, raw):
            raise ConnectionLost(_received(stage, raw), out_of_sync=raw.code != replies.CLOSING)
        return raw

    async def _next_reply(self, stage: Stage, seconds: float | None) -> RawReply:
        if seconds is None:
            seconds = self._timeouts.command
            seconds = min(seconds, self._mail_seconds) if stage is MAIL else seconds
        try:
            return await self._stream.read(seconds, math.inf if stage is DOT else self._deadline)
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

    async def _content(self, mode: ContentMode) -> Reply:
        """Send the content piece by piece and return the reply to its end."""
        if extra := self._extra_reply(DATA):
            raise extra
        in_chunks = mode is ContentMode.TRIAL
        octets = (commands.last_chunk if in_chunks else commands.stuffed)(self._mail.content)
        for start in range(0, len(octets), PIECE_OCTETS):
            end = start + PIECE_OCTETS
            self._mail.progress.commit()
            self._mail.progress.content_begun = end >= len(octets)
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
        code = await code_of(self._stream, b"RSET", RESET_SECONDS)
        if code != COMPLETED or self._stream.has_unread:
            self._stream.abort()
        return code


async def code_of(stream: SmtpStream, command: bytes, seconds: float) -> int:
    """Send a command that is no part of a transaction; return the code of the reply."""
    try:
        stream.write(command + b"\r\n")
        raw = await stream.read(seconds)
    except OSError:
        return replies.NO_REPLY
    return raw.code


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


def _now() -> float:
    return asyncio.get_running_loop().time()
