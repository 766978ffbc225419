"""Pure: how many mails at a time a relay serves best, found by trying.

A relay that serves N at a time delivers no more with more than N, it only makes them wait. So the
number is moved a stride up or down, and the move is kept if the throughput is worth it. It begins
with doubling, as TCP does, and goes over to careful steps when that was too much: what a wide
stride changes shows at once, what a narrow one changes takes time to tell from chance.
"""

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


def asks_for_less(reply: Reply) -> bool:
    """Return whether a relay may ask for fewer connections or mails.

    Before MAIL the reply is about us. At MAIL it may still be about one sender (see `Senders`), and
    452 about SIZE (RFC 1870 6.1). From RCPT on no reply counts: a mail's recipients or its content
    can bring about any, as greylisting and full mailboxes do.
    """
    if reply.stage in replies.BEFORE_MAIL:
        return _is_push_back(reply) or reply.code == 452  # noqa: PLR2004 -- RFC 5321 4.2.3
    return reply.stage is Stage.MAIL and _is_push_back(reply)


def _is_push_back(reply: Reply) -> bool:
    rate = reply.code == 450 and (reply.enhanced or "").startswith("4.7.")  # noqa: PLR2004 -- RFC 5321 4.2.2
    return rate or reply.code in {replies.CLOSING, 454}


class Width:
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
