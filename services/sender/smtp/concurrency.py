"""Where mails wait for their turn at a relay: so many at a time as its width says."""

import asyncio
from collections import deque

from services.sender.replies import reply as replies
from shared.contracts import Reply, Stage

START = 4  # at a time, until more is known
STEP = 0.25  # of the number, to either side, when it is not far from right
WIDEST = 1.0  # of the number, upwards: a step after one of full worth is twice as wide as that
FULL = 0.75  # of what the throughput would gain if it grew as the number does
WORTH = 0.5  # of what the throughput would gain if it grew as the number does, and
WORTH_AT_MOST = 0.08  # of the throughput for a STEP: at small numbers it is a large part of them
HOLD = 10  # measurements between two trials that were not worth it
SAMPLE_MAILS = 6  # of a measurement of a STEP for each at a time
SAMPLE_SECONDS = 0.25  # the same: shorter ones measure the machine's moods
CALM_SECONDS = 5.0  # after a relay has asked for less


def is_pushback(reply: Reply) -> bool:
    """Return whether a relay may ask for fewer connections or mails.

    Before MAIL the reply is about this client. At MAIL it may be about one sender (see
    `SenderRefusals`), and 452 about SIZE (RFC 1870 6.1). From RCPT on no reply counts: a mail's
    recipients or its content can cause any reply, as greylisting and full mailboxes do.
    """
    if reply.stage in replies.BEFORE_MAIL:
        return _is_push_back(reply) or reply.code == 452  # noqa: PLR2004 -- RFC 5321 4.2.3
    return reply.stage is Stage.MAIL and _is_push_back(reply)


def _is_push_back(reply: Reply) -> bool:
    rate = reply.code == 450 and (reply.enhanced or "").startswith("4.7.")  # noqa: PLR2004 -- RFC 5321 4.2.2
    return rate or reply.code in {replies.CLOSING, 454}


class AdaptiveLimit:
    """The number for one relay, from 1 to `most`; all times in seconds of one clock."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._settled = min(START, most)
        self._rate = 0.0  # mails a second at the settled number
        self._trial: int | None = None
        self._stride = WIDEST
        self._upwards = True
        self._hold = 0
        self._calm_until = 0.0
        self._begun = 0.0
        self._count = 0

    @property
    def limit(self) -> int:
        """How many at a time now."""
        return self._settled if self._trial is None else self._trial

    def pushed_back(self, now: float) -> None:
        """Halve, once for all that were under way when the relay asked for less."""
        if now >= self._calm_until:
            self._settled, self._trial = max(1, self.limit // 2), None
            self._calm_until = now + CALM_SECONDS
            self._upwards, self._hold, self._stride = True, 0, STEP
        self._begin(now)

    def served(self, now: float, *, awaited: bool) -> None:
        """Count a mail. Only what somebody else was waiting for tells what the relay can do."""
        if not awaited:
            self._begin(now)
            return
        self._count += 1
        if self._count == 0:
            self._begun = now
        seconds = now - self._begun
        enough = STEP / self._stride
        # A relay may serve in bursts, and a measurement must not begin in one and end in another.
        whole = self._count % self.limit == 0
        if (
            whole
            and self._count >= SAMPLE_MAILS * enough * self.limit
            and seconds >= SAMPLE_SECONDS * enough
        ):
            self._learn(self._count / seconds)
            self._begin(now)
            if now >= self._calm_until:
                self._try()

    def _begin(self, now: float) -> None:
        """Begin to measure; those that are under way began under another number."""
        self._begun = now
        self._count = -self.limit

    def _learn(self, rate: float) -> None:
        if self._trial is None:
            self._rate = rate
            return
        gain = WORTH * (self._trial / self._settled - 1)
        most = WORTH_AT_MOST * self._stride / STEP
        if rate >= self._rate * (1 + max(-most, min(gain, most))):
            full = rate >= self._rate * (1 + FULL * (self._trial / self._settled - 1))
            self._stride = min(2 * self._stride, WIDEST) if self._upwards and full else STEP
            self._settled, self._rate = self._trial, rate
        else:
            self._turn_round()
        self._trial = None

    def _try(self) -> None:
        """Go a step on in the direction that was worth it last, or rest between two turns."""
        if self._hold:
            self._hold -= 1
            return
        step = max(1, round(self._settled * self._stride))
        trial = min(self._settled + (step if self._upwards else -step), self._most)
        if trial < 1 or trial == self._settled:
            self._turn_round()
        else:
            self._trial = trial

    def _turn_round(self) -> None:
        """Be content for a while, then try a careful step the other way."""
        self._upwards, self._hold, self._stride = not self._upwards, HOLD, STEP


class ConcurrencyLimiter:
    """Lets in and counts; the width may change while mails are under way."""

    def __init__(self, width: AdaptiveLimit) -> None:
        self._width = width
        self._inside = 0
        self._waiting: deque[asyncio.Future[bool]] = deque()

    @property
    def free(self) -> bool:
        """Whether one would be let in at once."""
        return self._inside < self._width.limit

    async def enter(self, seconds: float) -> bool:
        """Wait to be let in; False if that takes too long. Whoever is let in must leave."""
        if self.free:
            self._inside += 1
            return True
        return await self._turn(seconds)

    def leave(self) -> None:
        """Make room for the next."""
        full = not self.free
        self._inside -= 1
        self._width.served(asyncio.get_running_loop().time(), awaited=full)
        self._call()

    def pushed_back(self) -> None:
        """Let fewer in, for the relay asks for it."""
        self._width.pushed_back(asyncio.get_running_loop().time())

    async def _turn(self, seconds: float) -> bool:
        """Wait to be called; the place is then taken already."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._waiting.append(turn)
        # Most mails wait here, and `asyncio.timeout` costs ten times as much.
        late = loop.call_later(seconds, _call_late, turn)
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.result():
                # Called and cancelled at once: somebody else has the place then.
                self._inside -= 1
                self._call()
            raise
        finally:
            late.cancel()

    def _call(self) -> None:
        """Call as many as there is room for."""
        while self.free and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(True)
                self._inside += 1


def _call_late(turn: asyncio.Future[bool]) -> None:
    """Tell who waits that it takes too long."""
    if not turn.done():
        turn.set_result(False)
