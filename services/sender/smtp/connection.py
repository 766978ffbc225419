"""The transactions over one SMTP connection, and the true result of each when something goes wrong.

A connection on which anything unexpected happened is closed, never used again.
"""

import asyncio
import math
from dataclasses import replace

from services.sender.mail.compose import OutgoingMail
from services.sender.outcome import Replies, Unsendable
from services.sender.smtp.relay import ContentMode, Extensions, Timeouts
from services.sender.smtp.stream import SmtpStream
from services.sender.smtp.transaction import (
    COMPLETED,
    RESET_SECONDS,
    ConnectionLost,
    Transaction,
    code_of,
)
from shared.contracts import Reply, Stage
from shared.contracts.address import domain_of
from shared.replies import reply as replies

QUIT_SECONDS = 5.0  # a lost connection is no failure at QUIT (RFC 5321 4.1.1.10)
# For recipients beyond the server's limits, as if the server had sent it.
_TOO_MANY_RECIPIENTS = Reply(
    stage=Stage.RCPT, code=452, enhanced="4.5.3", text="too many recipients for this server"
)


class SmtpConnection:
    """A connection that is open, encrypted and logged in.

    `mails` counts its transactions. `pipelining_failed` is set when the server could not cope with
    a group of commands although it offers PIPELINING, `chunking_failed` when it could not cope with
    BDAT. `exhausted` is set when the server has taken mails over this connection and takes no more
    for now.
    """

    def __init__(self, stream: SmtpStream, extensions: Extensions, timeouts: Timeouts) -> None:
        self._stream = stream
        self._timeouts = timeouts
        self.extensions = extensions
        self._domains: set[str] = set()  # of all recipients so far, if the server limits them
        self.mails = 0
        self.idle_since = _now()
        self.pipelining_failed = self.chunking_failed = False
        self.exhausted = False
        self._accepted_any = False

    @property
    def usable(self) -> bool:
        """Whether another transaction may be tried: it is open, and no reply is left over."""
        return self._stream.is_open and not self._stream.has_unread

    def is_full(self, ours: int) -> bool:
        """Return whether it has had as many mails as our limit or the server's allows."""
        theirs = self.extensions.mails
        return self.mails >= (ours if theirs is None else min(ours, theirs))

    def is_recent(self, seconds: float) -> bool:
        """Return whether it was in use less than so many seconds ago."""
        return _now() - self.idle_since < seconds

    def is_gone(self, result: Replies | Unsendable) -> bool:
        """Return whether it took nothing of a mail: it was closed, or is used up."""
        if isinstance(result, Unsendable):
            return self.exhausted
        return self.exhausted or replies.any_of(result, replies.closed_before)

    def may_repeat(self, result: Replies | Unsendable) -> bool:
        """Return whether a mail may go again by DATA: the server failed at BDAT, and took none."""
        if isinstance(result, Unsendable) or not self.chunking_failed:
            return False
        taken = replies.any_of(result, replies.accepted)
        return not (taken or replies.any_of(result, replies.lost_after_dot))

    async def is_alive(self, seconds: float) -> bool:
        """Send NOOP and return whether the server replies; a half-open connection looks fine."""
        code = await code_of(self._stream, b"NOOP", min(RESET_SECONDS, seconds))
        alive = code == COMPLETED and self.usable
        self.idle_since = _now() if alive else self.idle_since
        return alive

    async def transact(
        self,
        mail: OutgoingMail,
        deadline: float,
        *,
        pipelined: bool = True,
        mode: ContentMode = ContentMode.DATA,
        mail_seconds: float = math.inf,
    ) -> dict[str, Reply]:
        """Send one mail and return, for each recipient, the reply that settled it.

        `deadline`, in the loop's time, limits all that comes before the final dot, `mail_seconds`
        the reply to MAIL. The commands go out in one group if `pipelined` and the server offers it;
        `mode` is for such a group.
        Afterwards the connection may be closed: see `usable`. Raises what `mail.progress` raises.
        """
        mail.progress.begin()
        in_group = pipelined and self.extensions.pipelining
        mode = mode if in_group else ContentMode.DATA
        part = self._part_for_now(mail)
        if self.extensions.domains is not None:
            self._domains.update(domain_of(each).lower() for each in part.recipients)
        transaction = Transaction(
            self._stream,
            self.extensions,
            self._timeouts,
            part,
            deadline,
        )
        try:
            last = await transaction.run(mode, mail_seconds, in_group=in_group)
        except ConnectionLost as lost:
            self.abort()
            last = lost.reply
        except BaseException:
            # A reply may still be under way, which the next mail would read as its own.
            self.abort()
            raise
        self.mails += 1
        self.idle_since = _now()
        self.pipelining_failed |= transaction.pipelining_failed
        self.chunking_failed |= transaction.chunking_failed
        settled = {each: transaction.refused.get(each, last) for each in part.recipients}
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

    async def quit(self) -> None:
        """Send QUIT and close."""
        try:
            await code_of(self._stream, b"QUIT", QUIT_SECONDS)
        finally:
            self.abort()

    def abort(self) -> None:
        """Close and discard unsent octets: they might be the final dot."""
        self._stream.abort()


def _now() -> float:
    return asyncio.get_running_loop().time()
