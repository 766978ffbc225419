"""The decisions of the simulated server at each stage of a session, without I/O."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Final

from ops.simulator.behaviour import Behaviour, Extension, Fault, Stage, fault_at

REMEMBERED: Final = 10_000  # pairs; the oldest are dropped first
# RFC 3207 4: the commands before a required STARTTLS. HELO is one of them, so that a client without
# ESMTP is refused at MAIL with the reason.
# BDAT is refused without MAIL, once its octets are read.
_ALLOWED_BEFORE_TLS: Final = frozenset({"EHLO", "HELO", "NOOP", "QUIT", "RSET", "STARTTLS", "BDAT"})
_COMMAND_EXTENSIONS: Final[dict[str, Extension]] = {
    "STARTTLS": "STARTTLS",
    "AUTH": "AUTH",
    "BDAT": "CHUNKING",
}
_PARAMETER_EXTENSIONS: Final[dict[str, Extension]] = {
    "BODY": "8BITMIME",
    "SIZE": "SIZE",
    "SMTPUTF8": "SMTPUTF8",
}


class TokenBucket:
    """A bucket of at most `burst` tokens, full at first, with `per_second` new ones a second.

    `clock` returns monotonic seconds.
    """

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float]) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._tokens = float(burst)
        self._filled_at = clock()

    def take(self) -> bool:
        """Remove one token; return False if there is none."""
        now = self._clock()
        gained = (now - self._filled_at) * self._per_second
        self._tokens = min(self._burst, self._tokens + gained)
        self._filled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Greylist:
    """Refuses a sender and recipient until some time after their first attempt."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._first_try: dict[tuple[str, str], float] = {}

    def admits(self, sender: str, recipient: str, after: float) -> bool:
        """Return whether `after` seconds have passed since the first attempt of this pair."""
        now = self._clock()
        first = self._first_try.setdefault((sender.lower(), recipient.lower()), now)
        if len(self._first_try) > REMEMBERED:
            del self._first_try[next(iter(self._first_try))]
        return now - first >= after


class ServiceQueue:
    """Serves `places` mails at a time, each for `seconds`, in order of arrival."""

    def __init__(self, places: int | None, seconds: float) -> None:
        self._places = asyncio.Semaphore(places) if places else None
        self._seconds = seconds

    async def serve(self) -> None:
        """Wait until this mail is served."""
        async with self._places or nullcontext():
            if self._seconds:
                await asyncio.sleep(self._seconds)


class SmtpPolicy:
    """Combines the behaviour towards all clients with the faults that addresses ask for.

    A fault of an address takes precedence over the rate. A new behaviour starts with a full bucket
    and an empty queue, and applies to open sessions, too.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._greylist = Greylist(clock)
        self.behaviour = Behaviour()

    @property
    def behaviour(self) -> Behaviour:
        """The behaviour towards all clients."""
        return self._behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        rate = behaviour.rate
        self._behaviour = behaviour
        self._bucket = rate and TokenBucket(rate.per_second, rate.burst, self._clock)
        self.service_queue = ServiceQueue(behaviour.served_at_once, behaviour.service_ms / 1000)

    def offers(self, extension: Extension) -> bool:
        """Return whether EHLO lists this extension."""
        return extension in self._behaviour.extensions

    def on_connect(self, connections: int) -> str | None:
        """Return the refusal of a new connection, of which `connections` are open then."""
        if connections > self._behaviour.connections:
            return "421 4.3.2 Too many connections"
        return self._behaviour.refuse.connect

    def closes_after(self, reply: str | bytes) -> bool:
        """Return whether the connection is closed after a reply."""
        refuse = self._behaviour.refuse
        return refuse.closes and reply in (refuse.ehlo, refuse.helo, refuse.auth)

    def on_command(self, verb: str, *, encrypted: bool) -> str | None:
        """Return the refusal of a command, for any arguments."""
        extension = _COMMAND_EXTENSIONS.get(verb)
        if extension and not self.offers(extension):
            return f"502 5.5.1 {verb} is not offered"
        if self._behaviour.require_tls and not encrypted and verb not in _ALLOWED_BEFORE_TLS:
            return "530 5.7.0 Must issue a STARTTLS command first"
        return None

    def on_mail(self, sender: str, options: Sequence[str], mails: int) -> Fault:
        """Return the fault at MAIL, after `mails` on this connection."""
        fault = fault_at("mail", [sender])
        if fault.reply or fault.cut:
            return fault
        return replace(fault, reply=self._unknown_parameter(options) or self._limit(mails))

    def on_rcpt(self, sender: str, recipient: str, mails: int = 0, recipients: int = 0) -> Fault:
        """Return the fault at RCPT, after so many mails of this connection and recipients."""
        fault = fault_at("rcpt", [recipient])
        if over := self._session_over("rcpt", mails) or self._full(recipients):
            return replace(fault, reply=fault.reply or over)
        if fault.greylist is None or fault.reply or fault.cut:
            return fault
        if self._greylist.admits(sender, recipient, fault.greylist):
            return fault
        return replace(fault, reply="451 4.7.1 Greylisted, try again later")

    def on_data(self, recipients: Sequence[str], mails: int = 0) -> Fault:
        """Return the fault at DATA, before the body, after `mails` on this connection."""
        fault = fault_at("data", recipients)
        return replace(fault, reply=fault.reply or self._session_over("data", mails))

    def on_dot(self, recipients: Sequence[str]) -> Fault:
        """Return the fault at the final dot."""
        return fault_at("dot", recipients)

    def reset(self) -> None:
        """Return to the default behaviour, with an empty greylist."""
        self._greylist = Greylist(self._clock)
        self.behaviour = Behaviour()

    def _unknown_parameter(self, options: Sequence[str]) -> str | None:
        for option in options:
            extension = _PARAMETER_EXTENSIONS.get(option.partition("=")[0])
            if extension and not self.offers(extension):
                return f"555 5.5.4 {extension} is not offered"
        return None

    def _limit(self, mails: int) -> str | None:
        most = self._behaviour.mails_per_connection
        if most is not None and mails >= most:
            return "421 4.7.0 Too many mails on this connection"
        if over := self._session_over("mail", mails):
            return over
        if self._bucket and self._behaviour.rate and not self._bucket.take():
            return self._behaviour.rate.reply
        return None

    def _session_over(self, stage: Stage, mails: int) -> str | None:
        session = self._behaviour.session
        if session and session.stage == stage and mails >= session.mails:
            return session.reply
        return None

    def _full(self, recipients: int) -> str | None:
        limit = self._behaviour.transaction
        return limit.reply if limit and recipients >= limit.recipients else None
