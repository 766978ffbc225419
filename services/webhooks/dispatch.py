"""The requests that are under way: what is due is taken, sent, and finished, fairly by endpoint."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Protocol

import structlog
from yarl import URL

from services.webhooks import attempts, metrics
from services.webhooks.requests import ReceiverAnswer
from services.webhooks.store.deliveries import Due, Try
from shared.batch import Batcher
from shared.errors import Retry
from shared.runtime import tracing
from shared.runtime.sealing import Sealer
from shared.runtime.tracing import Attributes, Span, SpanKind

# That an event may wait here for a connection: the endpoint may be deleted or changed meanwhile.
MAX_WAIT_SECONDS = 2.0
LOOK_SECONDS = 0.5  # between two looks for what is due, if nothing wakes earlier
MAX_TAKEN = 200  # at a time
FINISH_RETRY_SECONDS = 1.0  # while the database is away
FAILING_SHARE = 0.5  # of all connections, for endpoints that failed last

Send = Callable[[str, str, bytes, Sequence[bytes]], Awaitable[ReceiverAnswer]]

logger = structlog.get_logger(__name__)


class DueSource(Protocol):
    """The part of the store that a dispatcher uses."""

    async def take(
        self, limit: int, full: Collection[str] = (), *, failing: bool = True
    ) -> Sequence[Due]:
        """Claim what is due."""

    async def finish(self, done: Sequence[Try]) -> Sequence[bool]:
        """Write the results of tries."""

    async def give_back(self, taken: Sequence[Due]) -> None:
        """Free what was not sent."""


class Lane:
    """The requests to one endpoint: those under way, those that wait, and how many it may have.

    It begins with one connection, gets one more by each success that needed all it had, and has one
    again after a failure. So an endpoint that hangs holds one, and not all.
    """

    def __init__(self, max_connections: int) -> None:
        self.waiting: deque[tuple[Due, float]] = deque()  # with the time until which each may begin
        self.in_flight = 0
        self.allowance = 1
        self.is_failing = False
        self._max_connections = max_connections

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be taken for it."""
        return self.in_flight + len(self.waiting) >= self.allowance

    @property
    def is_idle(self) -> bool:
        """Whether nothing is known of it that another would not begin with."""
        return not self.in_flight and not self.waiting

    def begin(self) -> Due | None:
        """Return the next request if there may be one more."""
        if not self.waiting or self.in_flight >= self.allowance:
            return None
        self.in_flight += 1
        return self.waiting.popleft()[0]

    def clear(self, now: float | None = None) -> Sequence[Due]:
        """Return what waited, so that it is given back: all, or what waited too long at `now`."""
        stale = [due for due, until in self.waiting if now is None or now >= until]
        self.waiting = deque(
            (due, until) for due, until in self.waiting if now is not None and now < until
        )
        return stale

    def end(self, *, success: bool) -> None:
        """Count a request that is over."""
        if success and self.in_flight >= self.allowance:
            self.allowance = min(self.allowance + 1, self._max_connections)
        self.is_failing = not success
        self.in_flight -= 1

    def shrink(self) -> Sequence[Due]:
        """Reduce it to one connection; return what waited, so that it is given back."""
        self.allowance, self.is_failing = 1, True
        return self.clear()


class Dispatcher:
    """Sends what is due until it is told to stop.

    An event is finished once its result is committed. Until then it is taken, and due again when
    its lease is over: the receiver then gets it a second time, with the same webhook-id.
    """

    def __init__(  # noqa: PLR0913 -- the parts of a service, each by its name
        self,
        store: DueSource,
        send: Send,
        sealer: Sealer,
        *,
        max_connections: int,
        endpoint_connections: int,
        jitter: Callable[[], float],
    ) -> None:
        self._store = store
        self._send = send
        self._sealer = sealer
        self._max_connections = max_connections
        self._endpoint_connections = endpoint_connections
        self._jitter = jitter
        self._lanes: dict[str, Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self._is_ending = False
        self._finishes = Batcher(store.finish)

    def wake(self) -> None:
        """Look for what is due at once."""
        self._wake.set()

    async def recall(self, endpoint_id: str) -> None:
        """Free what waits for an endpoint, since it was changed or deleted."""
        if (lane := self._lanes.get(endpoint_id)) is not None:
            await self._give_back(lane.clear())
        self.wake()

    @asynccontextmanager
    async def running(self, drain_seconds: float) -> AsyncIterator[None]:
        """Send what is due until the block is left, then finish what is under way.

        What lasts longer than `drain_seconds` is cut off. That, and what was not sent, is given
        back, so that another service sends it at once.
        """
        task = asyncio.create_task(self._run(), name="due webhooks")
        try:
            yield
        finally:
            self._is_ending = True
            self.wake()
            await task  # not cancelled: what it is about to take would wait for its lease
            await self._drain(drain_seconds)

    async def _run(self) -> None:
        while not self._is_ending:
            self._wake.clear()
            taken: Sequence[Due] = ()
            try:
                taken = await self._take()
            except Retry as error:
                logger.warning("webhooks wait", reason=str(error))
            except Exception:
                logger.exception("cannot look for webhooks that are due")
            self._start(taken)
            if len(taken) < MAX_TAKEN and not self._is_ending:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), LOOK_SECONDS)

    async def _drain(self, seconds: float) -> None:
        waiting = [due for lane in self._lanes.values() for due in lane.shrink()]
        await self._give_back(waiting)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self) -> Sequence[Due]:
        free = self._max_connections - len(self._tasks)
        if free <= 0:
            return ()
        full = [name for name, lane in self._lanes.items() if lane.is_full]
        limit = min(free, MAX_TAKEN)
        taken = [*await self._store.take(limit, full, failing=False)]
        failing = sum(lane.in_flight for lane in self._lanes.values() if lane.is_failing)
        room = max(1, round(self._max_connections * FAILING_SHARE)) - failing
        room = min(room, limit - len(taken))
        if room > 0:
            full += {each.endpoint_id for each in taken}
            taken += await self._store.take(room, full)
        return taken

    def _start(self, taken: Sequence[Due]) -> None:
        until = asyncio.get_running_loop().time() + MAX_WAIT_SECONDS
        for due in taken:
            lane = self._lanes.get(due.endpoint_id)
            if lane is None:
                lane = self._lanes[due.endpoint_id] = Lane(self._endpoint_connections)
                lane.is_failing = due.failures > 0
            lane.waiting.append((due, until))
        for name in {due.endpoint_id for due in taken}:
            self._start_lane(name)

    def _start_lane(self, name: str) -> None:
        lane = self._lanes[name]
        while (due := lane.begin()) is not None:
            task = asyncio.create_task(self._deliver(lane, due), name="webhook")
            self._tasks.add(task)
            metrics.IN_FLIGHT.inc()
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        metrics.IN_FLIGHT.dec()
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a webhook failed", exc_info=error)
        self.wake()

    async def _deliver(self, lane: Lane, due: Due) -> None:
        success = False
        try:
            success = await self._try(lane, due)
        except asyncio.CancelledError:
            await self._give_back([due])
            raise
        finally:
            lane.end(success=success)
            if lane.is_idle and lane.allowance == 1:
                self._lanes.pop(due.endpoint_id, None)
            elif lane.waiting:
                await self._give_back(lane.clear(asyncio.get_running_loop().time()))
                self._start_lane(due.endpoint_id)

    async def _try(self, lane: Lane, due: Due) -> bool:
        """Send one event and write the result; return whether the endpoint has it."""
        try:
            secrets = self._secrets(due)
        except ValueError as error:  # WEBHOOK_KEY was replaced, and not extended
            logger.error("a secret cannot be opened", endpoint=due.endpoint_id, reason=str(error))  # noqa: TRY400 -- the line says it all
            return False
        with _span(due) as span:
            answer = await self._send(due.url, due.message_id, due.body, secrets)
            _describe(span, answer)
        done = self._judged(due, answer)
        success = attempts.is_success(answer.status)
        if not success:
            # Before the result: then the store can park them.
            await self._give_back(lane.shrink())
        written = await self._finished(done)
        _count(done, answer, success=success, written=written)
        return success

    def _secrets(self, due: Due) -> Sequence[bytes]:
        sealed = [due.secret, *([due.old_secret] if due.old_secret else [])]
        return [self._sealer.open(each, due.endpoint_id) for each in sealed]

    def _judged(self, due: Due, answer: ReceiverAnswer) -> Try:
        following = attempts.after(
            answer.status,
            due.tries + 1,
            answer.at - (due.begun_at or answer.at),
            self._jitter(),
            once=due.once,
            retry_after=answer.retry_after,
        )
        return Try(
            due=due,
            following=following,
            at=answer.at,
            headers=answer.headers,
            status=answer.status,
            answer_headers=answer.answer_headers or {},
            answer=answer.body,
            error=answer.error,
            milliseconds=round(answer.seconds * 1000),
        )

    async def _finished(self, done: Try) -> bool:
        while True:
            try:
                return await self._finishes.add(done)
            except Retry as error:
                logger.warning("the result of a webhook waits", reason=str(error))
            await asyncio.sleep(FINISH_RETRY_SECONDS)

    async def _give_back(self, taken: Sequence[Due]) -> None:
        if taken:
            with suppress(Retry):  # due again after the lease
                await self._store.give_back(taken)


def _span(due: Due) -> Span:
    """Return the span of a request, without its path and query, which may hold a secret."""
    url = URL(due.url, encoded=True)
    attributes: Attributes = {
        "http.request.method": "POST",
        "http.request.resend_count": due.tries or None,
        "server.address": url.host,
        "server.port": url.port,
        "messaging.message.id": due.message_id,
    }
    parent = {tracing.PARENT: due.trace} if due.trace else {}
    return tracing.span("POST", SpanKind.CLIENT, attributes, parent)


def _describe(span: Span, answer: ReceiverAnswer) -> None:
    span.set({"http.response.status_code": answer.status})
    if not attempts.is_success(answer.status):
        span.fail("no_answer" if answer.status is None else str(answer.status))


def _count(done: Try, answer: ReceiverAnswer, *, success: bool, written: bool) -> None:
    metrics.SECONDS.observe(answer.seconds)
    if not written:
        end = "late"
    elif success:
        end = "delivered"
    elif answer.forbidden:
        end = "forbidden"
    else:
        end = "unreachable" if answer.status is None else "refused"
    metrics.TRIES.labels(end).inc()
    if success and done.due.tries == 0:
        lag = answer.at - done.due.at
        metrics.LAG_SECONDS.observe(max(0.0, lag.total_seconds() + answer.seconds))
