"""The newsletters that are due: taken from the store, made, published, and moved on."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import chain
from typing import NamedTuple
from uuid import NAMESPACE_OID, uuid5

import structlog
from pydantic import ValidationError

from services.scheduler import metrics
from services.scheduler.content import Content
from services.scheduler.newsletters import NewsletterMaker
from services.scheduler.plan import Plan, delay, due_at, plan
from services.scheduler.store.due import FAR, DueStore, DueSubscription, Step, Taken
from services.scheduler.store.later import DueMail, LaterStore
from shared.contracts import Category, Contract, EmailCancelled, SendEmail
from shared.errors import Unavailable
from shared.template import VariableMistake
from shared.topology import shard_of, shard_queues

LOOK_SECONDS = 0.5  # between two looks for what is due
MAX_MAILS_TAKEN = 16  # for later, each with its attachments in memory
MAX_TAKEN = 500  # subscriptions at a time
MAX_MADE = 50  # mails between two turns of the event loop
MAX_MADE_CHARS = 8 << 20  # of the mails in memory

PublishAll = Callable[[Sequence[Contract]], Awaitable[Mapping[str, Unavailable]]]
# By client and name; without those that are unknown.
FindContents = Callable[[set[tuple[str, str]]], Awaitable[Mapping[tuple[str, str], Content]]]

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


@dataclass(frozen=True, slots=True)
class Releaser:
    """Mails the due subscriptions, at most `rate` a second.

    A subscription moves on only after the broker has confirmed its mail. Until then it is taken,
    and due again when its lease is over: then the mail is made again with the same id, and the
    sender mails it once.
    """

    store: DueStore
    find_contents: FindContents
    publish_all: PublishAll
    maker: NewsletterMaker
    room: Room
    spread: timedelta
    rate: float

    async def run(self) -> None:
        """Mail all that is due now. Raises Retry when the database is away."""
        clock = asyncio.get_running_loop().time
        limit = min(MAX_TAKEN, max(1, round(self.rate)))
        while True:
            begun = clock()
            taken = await self.store.take(limit)
            if not taken.subscriptions:
                return
            await self._release(taken)
            await asyncio.sleep(len(taken.subscriptions) / self.rate - (clock() - begun))

    async def set_back(self) -> None:
        """Set back what is due far after the next period, since the clock was ahead for a time.

        Such subscriptions would get no mail until then. Raises Retry.
        """
        found = await self.store.far_ahead()
        for recurrence, last in found.recurrences:
            following = recurrence.after(found.at)
            if last > following + FAR:
                due = partial(due_at, period=following, spread=self.spread)
                count = await self.store.set_back(recurrence, following, due)
                logger.warning("set back: the clock was ahead", subscriptions=count, to=following)

    async def _release(self, taken: Taken) -> None:
        names = {(each.client, each.content_type) for each in taken.subscriptions}
        full = await self.room.without({client for client, _ in names})
        contents = await self.find_contents(names)
        halted: list[DueSubscription] = []
        made: list[_Made] = []
        size = 0
        for number, each in enumerate(taken.subscriptions, 1):
            if number % MAX_MADE == 0:
                await asyncio.sleep(0)
            if each.client in full:
                continue  # due again after its lease
            content = contents.get((each.client, each.content_type))
            if content is None or content.paused:
                halted.append(each)
                continue
            one = self._make(each, content, taken.at)
            if one is None:
                continue
            made.append(one)
            size += one.size
            if size > MAX_MADE_CHARS:
                await self._publish(taken.token, made)
                made, size = [], 0
        await self._publish(taken.token, made)
        if halted:
            await self.store.halt(taken.token, halted)

    async def _publish(self, token: str, made: Sequence[_Made]) -> None:
        """Publish mails; move on the subscriptions whose mail was confirmed, or which have none."""
        mails = [each.mail for each in made if each.mail is not None]
        failures = await self.publish_all(mails) if mails else {}
        if failures:
            metrics.RELEASED.labels("unconfirmed").inc(len(failures))
            logger.warning("newsletters were not confirmed", count=len(failures))
        metrics.RELEASED.labels("published").inc(len(mails) - len(failures))
        kept = [each.step for each in made if each.mail is None or each.mail.id not in failures]
        if kept:
            await self.store.move(token, kept)

    def _make(self, due: DueSubscription, content: Content, now: datetime) -> _Made | None:
        """Return what a subscription is sent now; None for one that is tried again after its lease.

        No subscription stops the others of its batch, whatever is wrong with it.
        """
        try:
            wait = delay(due.id, self.spread)
            planned = plan(due.recurrence, due.missed, due.period, now - wait)
            mail = self._mail(due, content, planned, now)
        except Exception:
            metrics.RELEASED.labels("failed").inc()
            logger.exception("a newsletter could not be made", subscription=due.id)
            return None
        mailed = planned.mailed if mail else None
        return _Made(Step(due, mailed, planned.following, planned.following + wait), mail)

    def _mail(
        self, due: DueSubscription, content: Content, planned: Plan, now: datetime
    ) -> SendEmail | None:
        if planned.mailed is None:
            metrics.RELEASED.labels("skipped").inc()
            return None
        try:
            return self.maker.make(due, content, planned.mailed, now)
        except VariableMistake as error:
            # The content type has a newer version than the variables: the next period may fit.
            metrics.RELEASED.labels("unfit").inc()
            logger.warning("variables do not fit", subscription=due.id, reason=str(error))
            return None


@dataclass(frozen=True, slots=True)
class LaterReleaser:
    """Publishes the mails for later whose time has come, and reports those that were cancelled.

    A mail is done only after the broker has confirmed it. If the scheduler dies before, another
    one publishes it again when its lease is over, under the same id.
    """

    store: LaterStore
    publish_all: PublishAll
    now: Callable[[], datetime]

    async def run(self) -> None:
        """Publish all that is due now. Raises Retry when the database is away."""
        while True:
            token, taken = await self.store.take(MAX_MAILS_TAKEN)
            if not taken:
                return
            messages = [self._messages(each) for each in taken]
            failures = await self.publish_all([*chain.from_iterable(filter(None, messages))])
            done = [
                each
                for each, own in zip(taken, messages, strict=True)
                if own is not None and not any(message.id in failures for message in own)
            ]
            metrics.LATER.labels("published").inc(len(done))
            metrics.LATER.labels("unconfirmed").inc(len(taken) - len(done))
            await self.store.finish(token, done)
            if len(done) < len(taken):
                return  # the broker refuses: those that are left are due again after their lease

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
