"""The newsletters that are due: taken from the store, made, published, and moved on."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import chain, islice
from typing import NamedTuple
from uuid import NAMESPACE_OID, uuid5

import structlog
from pydantic import ValidationError

from services.scheduler import metrics
from services.scheduler.content import Content
from services.scheduler.newsletters import Newsletter, NewsletterMaker
from services.scheduler.plan import Key, delay, due_at, plan, shares
from services.scheduler.rendering import Rendered, RenderMails
from services.scheduler.store.due import FAR, DueStore, DueSubscription, Step, Taken
from services.scheduler.store.later import DueMail, LaterStore
from shared.contracts import Category, Contract, EmailCancelled, SendEmail
from shared.errors import Unavailable
from shared.runtime.tracing import Trace
from shared.template import RenderedMail, VariableMistake
from shared.topology import shard_of, shard_queues

WORKERS = 2  # one waits for database or broker while the other makes mails
LOOK_SECONDS = 0.5  # between two looks for what is due
MAX_MAILS_TAKEN = 16  # for later, each with its attachments in memory
MAX_TAKEN = 500  # subscriptions at a time
MAX_MADE = 20  # mails that are asked for at once
MAX_MADE_CHARS = 8 << 20  # of the mails in memory

PublishAll = Callable[[Sequence[Contract]], Awaitable[Mapping[str, Unavailable]]]
# With the traces that messages continue, by their ids.
PublishTraced = Callable[
    [Sequence[Contract], Mapping[str, Trace]], Awaitable[Mapping[str, Unavailable]]
]
# Without those that are unknown.
FindContents = Callable[[set[Key]], Awaitable[Mapping[Key, Content]]]

# How many messages wait in a queue.
CountWaiting = Callable[[str], Awaitable[int]]

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Room:
    """The room for newsletters in the sender's queues, of which each client has one.

    A newsletter that finds no room stays due, and those of other clients go on.
    """

    count_waiting: CountWaiting
    limit: int  # mails in a queue

    async def without(self, clients: set[str]) -> set[str]:
        """Return the clients whose queue is full. Raises Unavailable."""
        queues = {each: shard_queues(Category.BULK)[shard_of(each)] for each in clients}
        waiting = {each: await self.count_waiting(each) for each in sorted({*queues.values()})}
        return {each for each, queue in queues.items() if waiting[queue] >= self.limit}


class _Made(NamedTuple):
    """The next step of a subscription, and its mail if it is sent one."""

    step: Step
    mail: SendEmail | None

    @property
    def size(self) -> int:
        """The characters of the mail."""
        return 0 if self.mail is None else len(self.mail.html or "") + len(self.mail.text or "")


class _Planned(NamedTuple):
    """The newsletter that a subscription is sent, if any, and the period that follows."""

    subscription: DueSubscription
    newsletter: Newsletter | None
    following: datetime


@dataclass(frozen=True, slots=True)
class Releaser:
    """Mails the due subscriptions, at most `rate` a second, those of all clients in turn.

    A subscription moves on only after the broker has confirmed its mail. Until then it is taken,
    and due again when its lease is over, as after a cancellation: then the mail is made again with
    the same id, and the sender mails it once.
    """

    store: DueStore
    find_contents: FindContents
    publish_all: PublishAll
    maker: NewsletterMaker
    render: RenderMails
    room: Room
    spread: timedelta
    rate: float
    draw: Callable[[], float]

    async def run(self) -> None:
        """Mail all that is due now; end at once when the broker fails.

        Raises Retry when the database is away.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(WORKERS):
                    group.create_task(self._work())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _work(self) -> None:
        """Mail what is due, a part of it at a time, until none is left or the broker fails."""
        clock, rate = asyncio.get_running_loop().time, self.rate / WORKERS
        limit = min(MAX_TAKEN, max(1, round(rate)))
        begun = clock()
        while due := await self._find_due():
            taken = await self.store.take(shares(due, limit, self.draw))
            if not taken.subscriptions or not await self._release(taken):
                return
            await asyncio.sleep(len(taken.subscriptions) / rate - (clock() - begun))
            begun = clock()

    async def _find_due(self) -> Sequence[Key]:
        """Return the content types that have due subscriptions, and room in the queues."""
        due = await self.store.find_due()
        try:
            full = await self.room.without({client for client, _ in due})
        except Unavailable as error:
            logger.warning("newsletters wait for the broker", reason=str(error))
            return ()
        return [key for key in due if key[0] not in full]

    async def set_back(self) -> None:
        """Set back what is due far after the next period, since the clock was ahead for a time.

        Such subscriptions would get no mail until then. Raises Retry.
        """
        found = await self.store.far_ahead()
        for recurrence, last in found.recurrences:
            following = recurrence.after(found.at)
            if last > following + FAR:
                due = partial(due_at, period=following, spread=self.spread)
                changed = await self.store.set_back(recurrence, following, due)
                logger.warning("set back: the clock was ahead", subscriptions=changed, to=following)

    async def _release(self, taken: Taken) -> bool:
        """Mail what was taken, in parts; return whether the broker has confirmed them all.

        What is left when it fails is due again at once.
        """
        contents = await self.find_contents({each.key for each in taken.subscriptions})
        left = iter(taken.subscriptions)
        while made := await self._make_part(left, contents, taken.at):
            if not await self._publish(taken.token, made):
                await self.store.move(taken.token, [self._stay(each) for each in left])
                return False
        return True

    async def _make_part(
        self,
        left: Iterator[DueSubscription],
        contents: Mapping[Key, Content],
        now: datetime,
    ) -> Sequence[_Made]:
        """Make mails until they are as many as may be in memory, or none is left."""
        made: list[_Made] = []
        size = 0
        while size <= MAX_MADE_CHARS and (part := [*islice(left, MAX_MADE)]):
            some = await self._make([(each, contents.get(each.key)) for each in part], now)
            made += some
            size += sum(each.size for each in some)
        return made

    async def _publish(self, token: str, made: Sequence[_Made]) -> bool:
        """Publish mails; return whether all were confirmed.

        The subscriptions move on whose mail was confirmed, or which have none. The others are due
        again at once.
        """
        mails = [each.mail for each in made if each.mail is not None]
        failures = await self.publish_all(mails) if mails else {}
        if failures:
            metrics.RELEASED.labels("unconfirmed").inc(len(failures))
            logger.warning("newsletters were not confirmed", count=len(failures))
        metrics.RELEASED.labels("published").inc(len(mails) - len(failures))
        failed = [each.mail is not None and each.mail.id in failures for each in made]
        await self.store.move(
            token,
            [
                self._stay(each.step.subscription) if fails else each.step
                for each, fails in zip(made, failed, strict=True)
            ],
        )
        return not failures

    async def _make(
        self, taken: Iterable[tuple[DueSubscription, Content | None]], now: datetime
    ) -> Sequence[_Made]:
        """Return what subscriptions are sent now, but for those that are tried after their lease.

        No subscription stops the others, whatever is wrong with it.
        """
        planned = [*filter(None, (self._plan(*each, now) for each in taken))]
        wanted = [each.newsletter.request for each in planned if each.newsletter]
        rendered = iter(await self.render(wanted) if wanted else ())
        made = (self._finish(each, next(rendered) if each.newsletter else None) for each in planned)
        return [*filter(None, made)]

    def _plan(
        self, due: DueSubscription, content: Content | None, now: datetime
    ) -> _Planned | None:
        """Return the newsletter of a subscription, if it is sent one now, and its next period."""
        if content is None or content.paused:  # since it was taken
            return _Planned(due, None, due.period)
        try:
            period, following = plan(
                due.recurrence, due.missed, due.period, now - delay(due.id, self.spread)
            )
        except Exception:
            metrics.RELEASED.labels("failed").inc()
            logger.exception("a newsletter could not be planned", subscription=due.id)
            return None
        if period is None:
            metrics.RELEASED.labels("skipped").inc()
            return _Planned(due, None, following)
        return _Planned(due, self.maker.begin(due, content, period, now), following)

    def _finish(self, planned: _Planned, rendered: Rendered | None) -> _Made | None:
        due, newsletter, following = planned
        if newsletter is None or rendered is None:
            return _Made(self._step(due, None, following), None)
        if isinstance(rendered, RenderedMail):
            mail = self.maker.finish(newsletter, rendered)
            return _Made(self._step(due, newsletter.period, following), mail)
        reason = str(rendered)
        if isinstance(rendered, VariableMistake):
            # The content type has a newer version than the variables: the next period may fit.
            metrics.RELEASED.labels("unfit").inc()
            logger.warning("variables do not fit", subscription=due.id, reason=reason)
            step = self._step(due, None, following)._replace(unfit=newsletter.period)
            return _Made(step, None)
        metrics.RELEASED.labels("failed").inc()
        logger.warning("a newsletter could not be made", subscription=due.id, reason=reason)
        return None

    def _stay(self, due: DueSubscription) -> Step:
        """Return the step of a subscription whose period is still to be mailed."""
        return self._step(due, None, due.period)

    def _step(self, due: DueSubscription, mailed: datetime | None, following: datetime) -> Step:
        return Step(due, mailed, following, due_at(due.id, following, self.spread))


@dataclass(frozen=True, slots=True)
class LaterReleaser:
    """Publishes the mails for later whose time has come, and reports those that were cancelled.

    A mail is done only after the broker has confirmed it. If the scheduler dies before, another
    one publishes it again when its lease is over, under the same id. One that the broker refuses is
    due again at once.
    """

    store: LaterStore
    publish_all: PublishTraced
    now: Callable[[], datetime]

    async def run(self) -> None:
        """Publish all that is due now. Raises Retry when the database is away."""
        while True:
            token, taken = await self.store.take(MAX_MAILS_TAKEN)
            if not taken:
                return
            messages = [self._messages(each) for each in taken]
            failures = await self.publish_all(
                [*chain.from_iterable(filter(None, messages))],
                {
                    message.id: {"traceparent": each.trace}
                    for each, own in zip(taken, messages, strict=True)
                    for message in own or ()
                    if each.trace is not None
                },
            )
            done, failed = list[DueMail](), list[DueMail]()
            for each, own in zip(taken, messages, strict=True):
                if own is not None:
                    fails = any(message.id in failures for message in own)
                    (failed if fails else done).append(each)
            metrics.LATER.labels("published").inc(len(done))
            metrics.LATER.labels("unconfirmed").inc(len(taken) - len(done))
            await self.store.finish(token, done)
            if failed:
                await self.store.put_back(token, failed)
            if failed and not done:
                return  # the broker refuses: the next look tries again

    def _messages(self, due: DueMail) -> Sequence[Contract] | None:
        """Return what is to be published of a mail; None if its command cannot be read.

        A newer version may have stricter rules. The mail waits, and no other one for it.
        """
        if due.command is None:
            return ()
        try:
            command = SendEmail.read(due.command)
        except ValidationError as error:
            wrong = [each["loc"] for each in error.errors(include_input=False)]
            logger.warning("a mail for later cannot be read", id=due.email_id, wrong=wrong)
            return None
        at = self.now()
        if not due.cancelled:
            # Its age counts from now: a sender gives up what is too old.
            times = {"scheduled_at": None, "created_at": at, "accepted_at": command.created_at}
            return [command.model_copy(update=times)]
        return [
            EmailCancelled(
                id=str(uuid5(NAMESPACE_OID, f"cancelled {command.client} {command.id} {each}")),
                at=at,
                email_id=command.id,
                category=command.category,
                client=command.client,
                recipient=each,
                attempt=1,
                tags=command.tags,
                metadata=command.metadata,
            )
            for each in command.recipients
        ]
