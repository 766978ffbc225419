"""How many mails are under way at a relay at a time: a limiter, and the limit that it adapts."""

import asyncio
from collections.abc import Hashable

from shared.backlog import FairQueue

START_LIMIT = 4  # until more is known
STEP = 0.25  # of the limit, up or down, when it is nearly right
MAX_STEP = 1.0  # of the limit, upwards; a step of full gain is followed by one twice as wide
FULL_GAIN = 0.75  # of the gain if throughput grew in proportion to the limit
MIN_GAIN = 0.5  # the same: a step with less is undone
MAX_MIN_GAIN = 0.08  # of the throughput, for a STEP: at small limits a step is a large part of them
HOLD_SAMPLES = 10  # between two steps that were undone
SAMPLE_MAILS = 6  # for each mail at a time, in a measurement of a STEP
SAMPLE_SECONDS = 0.25  # of a measurement of a STEP: a shorter one measures the machine's load
CALM_SECONDS = 5.0  # without steps, after a relay has asked for less


class AdaptiveLimit:
    """The number of mails at a time that a relay serves best, from 1 to `maximum`.

    A relay that serves N at a time delivers no more with more than N, it only lets them wait. So
    the limit is moved a step up or down, and the step is kept if the throughput gains enough. It
    begins by doubling, as TCP does, and goes over to careful steps when that was too much: the
    effect of a wide step shows at once, that of a narrow one takes time to tell from chance.

    Times are in seconds of one clock.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._settled = min(START_LIMIT, maximum)
        self._rate = 0.0  # mails a second at the settled limit
        self._trial: int | None = None
        self._step = MAX_STEP
        self._upwards = True
        self._hold = 0
        self._calm_until = 0.0
        self._begun = 0.0
        self._count = 0

    @property
    def limit(self) -> int:
        """The present limit."""
        return self._settled if self._trial is None else self._trial

    def pushed_back(self, now: float) -> None:
        """Halve the limit, once for all mails that were under way when the relay asked for less."""
        if now >= self._calm_until:
            self._settled, self._trial = max(1, self.limit // 2), None
            self._calm_until = now + CALM_SECONDS
            self._upwards, self._hold, self._step = True, 0, STEP
        self._begin(now)

    def completed(self, now: float, *, awaited: bool) -> None:
        """Count a mail. A measurement needs mails that wait: only then the relay is the limit."""
        if not awaited:
            self._begin(now)
            return
        self._count += 1
        if self._count == 0:
            self._begun = now
        seconds = now - self._begun
        share = STEP / self._step
        # A relay may serve in bursts, and a measurement must not begin in one and end in another.
        whole = self._count % self.limit == 0
        if (
            whole
            and self._count >= SAMPLE_MAILS * share * self.limit
            and seconds >= SAMPLE_SECONDS * share
        ):
            self._learn(self._count / seconds)
            self._begin(now)
            if now >= self._calm_until:
                self._try()

    def _begin(self, now: float) -> None:
        """Begin to measure; mails that are under way began under another limit."""
        self._begun = now
        self._count = -self.limit

    def _learn(self, rate: float) -> None:
        if self._trial is None:
            self._rate = rate
            return
        growth = self._trial / self._settled - 1
        bound = MAX_MIN_GAIN * self._step / STEP
        if rate >= self._rate * (1 + max(-bound, min(MIN_GAIN * growth, bound))):
            full = rate >= self._rate * (1 + FULL_GAIN * growth)
            self._step = min(2 * self._step, MAX_STEP) if self._upwards and full else STEP
            self._settled, self._rate = self._trial, rate
        else:
            self._turn_round()
        self._trial = None

    def _try(self) -> None:
        """Try a step in the direction that gained last, or hold between two turns."""
        if self._hold:
            self._hold -= 1
            return
        step = max(1, round(self._settled * self._step))
        trial = min(self._settled + (step if self._upwards else -step), self._maximum)
        if trial < 1 or trial == self._settled:
            self._turn_round()
        else:
            self._trial = trial

    def _turn_round(self) -> None:
        """Hold for a while, then try a careful step the other way."""
        self._upwards, self._hold, self._step = not self._upwards, HOLD_SAMPLES, STEP


class ConcurrencyLimiter:
    """A semaphore whose limit may change while mails are under way.

    Flows that wait, such as clients, are let in in turn, the mails of each in the order of arrival.
    """

    def __init__(self, limit: AdaptiveLimit) -> None:
        self._limit = limit
        self._active = 0
        self._waiting: FairQueue[asyncio.Future[bool]] = FairQueue()

    @property
    def has_capacity(self) -> bool:
        """Whether `acquire` would return at once."""
        return self._active < self._limit.limit

    @property
    def limit(self) -> int:
        """The present limit."""
        return self._limit.limit

    @property
    def active(self) -> int:
        """The mails that have a place."""
        return self._active

    async def acquire(self, seconds: float, flow: Hashable = None) -> bool:
        """Wait for a place; False after `seconds`. A place must be given back by `release`."""
        if self.has_capacity:
            self._active += 1
            return True
        return await self._wait(seconds, flow)

    def release(self) -> None:
        """Free a place for the next mail."""
        full = not self.has_capacity
        self._active -= 1
        self._limit.completed(asyncio.get_running_loop().time(), awaited=full)
        self._grant()

    def pushed_back(self) -> None:
        """Lower the limit, because the relay asks for less."""
        self._limit.pushed_back(asyncio.get_running_loop().time())

    async def _wait(self, seconds: float, flow: Hashable) -> bool:
        """Wait for `_grant`, which has counted the place already."""
        loop = asyncio.get_running_loop()
        granted: asyncio.Future[bool] = loop.create_future()
        self._waiting.push(flow, granted)
        # Most mails wait here, and `asyncio.timeout` costs ten times as much.
        timer = loop.call_later(seconds, _time_out, granted)
        try:
            return await granted
        except BaseException:
            if granted.done() and not granted.cancelled() and granted.result():
                # Granted and cancelled at once: the place goes to the next.
                self._active -= 1
                self._grant()
            raise
        finally:
            timer.cancel()

    def _grant(self) -> None:
        while self.has_capacity and (granted := self._waiting.pop()) is not None:
            if not granted.done():
                granted.set_result(True)
                self._active += 1


def _time_out(granted: asyncio.Future[bool]) -> None:
    if not granted.done():
        granted.set_result(False)
