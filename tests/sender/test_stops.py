"""Mails that an entry of the suppression list stops, in both databases."""

import asyncio
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial
from itertools import permutations
from typing import Any

import pytest

from services.sender.claims import LEASE_SECONDS, RecipientsStopped, Stop
from services.sender.handlers import StopHandlers, ask_for_copy
from services.sender.mail.compose import OutgoingMail
from services.sender.outcome import Replies
from services.sender.service import MIGRATIONS
from services.sender.stops import REMEMBER_REMOVED_SECONDS, StopChanges, StopStore
from services.sender.store import LOOK_AGAIN_SECONDS, ClaimStore, steady
from shared.contracts import (
    AnnounceSuppressions,
    Category,
    Contract,
    EmailDelivered,
    EmailSuppressed,
    EmailUncertain,
    SendEmail,
    Stage,
    Suppression,
    SuppressionAdded,
    SuppressionOrigin,
    SuppressionRemoved,
    encode,
)
from shared.errors import Reject, Unavailable
from shared.replies import reply as replies
from shared.retry import Reschedule
from shared.storage.database import Database
from tests.clock import Clock, Watch
from tests.sender.commands import NOW, a_command
from tests.sender.replicas import Replicas
from tests.sender.senders import HASHER, Relay, a_sender, kinds, later
from tests.tap import publish_in_parts
from tests.waiting import until

ANNA, BEN, EVE = "anna@x.example", "ben@x.example", "eve@x.example"
BUSY = replies.received(Stage.RCPT, 451, "4.3.2 Busy")
EACH = tuple(Category)
# Mails that wait. STOP_MAILS=10000 is issue 12's number, which takes a minute longer.
THOUSANDS = int(os.environ.get("STOP_MAILS", "2000"))


def an_entry(email: str = ANNA, **more: Any) -> Suppression:  # noqa: ANN401 -- fields of the contract
    """Return an entry of a bounce, or another."""
    fields: Mapping[str, Any] = {
        "email": email,
        "address_key": HASHER.hash(email),
        "categories": EACH,
        "origin": SuppressionOrigin.BOUNCE,
        "reason": "no such user",
        "at": NOW,
    }
    return Suppression.model_validate({**fields, **more})


def added(entry: Suppression, version: int = 1) -> SuppressionAdded:
    """Return the event of an entry that was added."""
    return SuppressionAdded(id=f"a{version}", at=NOW, suppression=entry, version=version)


def removed(entry: Suppression, version: int, at: datetime = NOW) -> SuppressionRemoved:
    """Return the event of an entry that was removed."""
    return SuppressionRemoved(id=f"r{version}", at=at, suppression=entry, version=version)


async def stopped(store: ClaimStore, command: SendEmail) -> Mapping[str, Stop]:
    """Claim a mail, and return for whom it is stopped."""
    return (await store.claim(command)).stops


def contracts(returned: Sequence[Contract | Reschedule]) -> list[Contract]:
    """Return what a handler has returned to be published."""
    return [each for each in returned if isinstance(each, Contract)]


async def test_each_recipient_for_itself(store: ClaimStore, stops: StopStore) -> None:
    """An entry stops its address in to, cc and bcc alike, in any case, and no other recipient."""
    for each in (ANNA, BEN, EVE):
        await stops.apply(added(an_entry(each)))
    relay = Relay()
    command = a_command("Anna@x.example", "dan@x.example", cc=[BEN, "fay@x.example"], bcc=[EVE])

    returned = await a_sender(relay, store).on_send_email(command)

    outcome = {each.recipient: each for each in returned if isinstance(each, EmailSuppressed)}
    assert outcome.keys() == {"Anna@x.example", BEN, EVE}
    assert [mail.recipients for mail in relay.mails] == [("dan@x.example", "fay@x.example")]
    assert {(e.origin, e.reason) for e in outcome.values()} == {
        (SuppressionOrigin.BOUNCE, "no such user")
    }
    again = await a_sender(relay, store).on_send_email(command)
    assert sorted(map(encode, contracts(again))) == sorted(map(encode, contracts(returned)))


@pytest.mark.parametrize(
    ("entry", "sent"),
    [
        # (category, client, list) of the mails that are sent all the same
        ({}, ""),
        ({"categories": ("transactional", "bulk"), "client": "shop"}, "otp other-bulk"),
        ({"categories": ("bulk",), "client": "shop"}, "otp transactional other-bulk"),
        (
            {"categories": ("bulk",), "client": "shop", "list_id": "news"},
            "otp transactional bulk other-bulk",
        ),
        ({"categories": ("otp",)}, "transactional bulk list other-bulk"),
    ],
)
async def test_scope_and_class(
    store: ClaimStore, stops: StopStore, entry: Mapping[str, Any], sent: str
) -> None:
    """An entry stops the mails of its classes, its client and its list, and no others."""
    mails: Mapping[str, Mapping[str, Any]] = {
        "otp": {"category": Category.OTP, "client": "shop"},
        "transactional": {"category": Category.TRANSACTIONAL, "client": "shop"},
        "bulk": {"category": Category.BULK, "client": "shop"},
        "list": {"category": Category.BULK, "client": "shop", "list_id": "news"},
        "other-bulk": {"category": Category.BULK, "client": "other"},
    }
    await stops.apply(added(an_entry(**entry)))

    found = {name: await stopped(store, a_command(id=name, **more)) for name, more in mails.items()}

    assert {name for name, stop in found.items() if not stop} == {*sent.split()}


async def test_the_end_of_an_entry(store: ClaimStore, stops: StopStore, clock: Clock) -> None:
    """An entry has no effect from its end on."""
    ends = datetime.fromtimestamp(clock.seconds + 60, NOW.tzinfo)
    await stops.apply(added(an_entry(expires_at=ends)))
    before = await stopped(store, a_command(id="1"))
    clock.seconds += 60

    assert before.keys() == {ANNA}
    assert not await stopped(store, a_command(id="2"))


@pytest.mark.parametrize("order", [*permutations(range(4))])
async def test_any_order(store: ClaimStore, stops: StopStore, order: tuple[int, ...]) -> None:
    """The highest version of an entry counts, in whatever order its events come, and twice."""
    entry = an_entry()
    events: list[SuppressionAdded | SuppressionRemoved] = [
        added(entry, 1),
        removed(entry, 2),
        added(an_entry(reason="again"), 3),
        added(an_entry(EVE, origin="manual"), 1),
    ]
    await asyncio.gather(*(stops.apply(events[place]) for place in order))
    await stops.apply(events[order[0]])

    assert await stopped(store, a_command(ANNA, EVE)) == {
        ANNA: Stop(SuppressionOrigin.BOUNCE, "again"),
        EVE: Stop(SuppressionOrigin.MANUAL, "no such user"),
    }


async def test_removed(
    store: ClaimStore, stops: StopStore, other_stops: StopStore, clock: Clock
) -> None:
    """A removed entry is remembered, so that its old event does not bring it back."""
    await stops.apply(added(an_entry(), 1))
    await stops.apply(removed(an_entry(), 2, datetime.fromtimestamp(clock.seconds, NOW.tzinfo)))
    clock.seconds += REMEMBER_REMOVED_SECONDS - 1
    early = await stops.purge(LEASE_SECONDS)
    await other_stops.apply(added(an_entry(), 1))
    found = await stopped(store, a_command())
    clock.seconds += 2

    assert (early, found, await stops.purge(LEASE_SECONDS)) == (0, {}, 1)
    assert await stops.is_empty()


async def test_another_key(handlers: StopHandlers) -> None:
    """An entry that was hashed with another key is a dead letter: it would stop nothing."""
    entry = an_entry(address_key="0" * 64)

    with pytest.raises(Reject, match="SUPPRESSION_KEY is not the same"):
        await handlers.on_suppression(added(entry))


async def test_a_forgotten_address(store: ClaimStore, handlers: StopHandlers) -> None:
    """An entry without its address, as of a forgotten person, stops mail all the same."""
    entry = an_entry().model_copy(update={"email": None})
    await handlers.on_suppression(added(entry))

    assert (await stopped(store, a_command())).keys() == {ANNA}


async def test_a_later_attempt(store: ClaimStore, stops: StopStore) -> None:
    """A deferred mail is stopped at its next attempt."""
    sender = a_sender(Relay(BUSY), store)
    deferred = await sender.on_send_email(a_command(ANNA, BEN))
    [(_, _, pending)] = later(deferred)
    await stops.apply(added(an_entry()))
    second = a_command(ANNA, BEN, attempt=2, pending=pending)

    returned = await a_sender(relay := Relay(), store).on_send_email(second)

    assert {*kinds(returned)} == {EmailDelivered, EmailSuppressed}
    assert [mail.recipients for mail in relay.mails] == [(BEN,)]


class LongWait(Relay):
    """A relay whose connection becomes free after a long time, in which something happens."""

    def __init__(self, watch: Watch, stops: StopStore, events: list[SuppressionAdded]) -> None:
        super().__init__()
        self.watch, self.stops, self.events = watch, stops, events

    async def send(self, mail: OutgoingMail) -> Replies:
        """Return the reply for each recipient, once there is a connection."""
        if self.events:
            await self.stops.apply(self.events.pop())
        self.watch.now += LOOK_AGAIN_SECONDS + 0.01
        await mail.progress.check(mail.recipients)
        result = await super().send(mail)
        assert isinstance(result, dict)
        return result


@pytest.fixture
def waiting(each_database: Database, clock: Clock, watch: Watch) -> ClaimStore:
    """Return the claims of a sender whose mails wait for a connection."""
    return ClaimStore(each_database, HASHER, clock=clock, steady=watch)


async def test_stopped_while_it_waits(waiting: ClaimStore, stops: StopStore, watch: Watch) -> None:
    """A claimed mail is stopped while it waits for a connection, and goes to the others."""
    relay = LongWait(watch, stops, [added(an_entry(EVE)), added(an_entry())])

    returned = await a_sender(relay, waiting).on_send_email(a_command(ANNA, BEN, EVE))

    assert [mail.recipients for mail in relay.mails] == [(BEN,)]
    assert sorted(each.recipient for each in returned if isinstance(each, EmailSuppressed)) == [
        ANNA,
        EVE,
    ]
    assert kinds(returned).count(EmailDelivered) == 1
    assert len(returned) == 3


async def test_all_stopped_while_it_waits(
    waiting: ClaimStore, stops: StopStore, watch: Watch
) -> None:
    """A mail that is stopped for all its recipients while it waits is not begun."""
    relay = LongWait(watch, stops, [added(an_entry())])

    returned = await a_sender(relay, waiting).on_send_email(a_command())

    assert (kinds(returned), relay.mails) == ([EmailSuppressed], [])


async def test_a_change_of_this_sender(store: ClaimStore, stops: StopStore) -> None:
    """A sender that keeps an entry itself begins no mail that it claimed before, however lately."""
    claim = await store.claim(a_command())
    await stops.apply(added(an_entry()))

    with pytest.raises(RecipientsStopped):
        await store.check_stops(claim, a_command(), claim.ours)


async def test_a_change_under_way(store: ClaimStore, other_stops: StopStore) -> None:
    """A mail is looked at again while this sender does not know yet that it has committed."""
    claim = await store.claim(a_command())
    with store.changes.one():
        await other_stops.apply(added(an_entry()))

        with pytest.raises(RecipientsStopped):
            await store.check_stops(claim, a_command(), claim.ours)


async def test_a_change_of_another_sender(
    store: ClaimStore, watch: Watch, other_stops: StopStore
) -> None:
    """An entry of another sender stops all mails but those that were claimed a moment ago."""
    claim = await store.claim(a_command())
    await other_stops.apply(added(an_entry()))
    await store.check_stops(claim, a_command(), claim.ours)  # raises nothing
    watch.now += LOOK_AGAIN_SECONDS + 0.01

    with pytest.raises(RecipientsStopped):
        await store.check_stops(claim, a_command(), claim.ours)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("senders", [1, 2])
async def test_while_thousands_wait(world: Replicas, senders: int) -> None:
    """Of thousands of mails behind a slow relay, no more go than are in a transaction.

    Each sender has two connections. Only one of the senders keeps the entry; the others look for
    themselves at the mails that they claimed more than LOOK_AGAIN_SECONDS before.
    """
    names = [f"mail-{number}" for number in range(THOUSANDS)]
    commands = [a_command(id=name, category=Category.BULK) for name in names]
    world.relay.slow = {"DOT"}
    async with AsyncExitStack() as opened:
        for number in range(senders):
            sender = world.sender(f"slow-{number}", SENDER_CONNECTIONS_BULK="2")
            await opened.enter_async_context(sender)
        database = await opened.enter_async_context(
            Database.open("sender", None, world.directory, MIGRATIONS)
        )
        await publish_in_parts(world.broker, commands)
        await world.heard("DOT", 2 * senders)  # all connections are in a transaction
        await world.broker.publish(added(an_entry()))
        await until(partial(has_entry, StopStore(database, HASHER, StopChanges())))
        if senders > 1:
            await until(older_than(LOOK_AGAIN_SECONDS))
        world.relay.answer()
        final = await world.final(*names)

    counts = Counter(type(each) for each in final.values())
    assert counts == {EmailDelivered: 2 * senders, EmailSuppressed: THOUSANDS - 2 * senders}
    assert world.relay.kept.total() == 2 * senders


async def has_entry(copy: StopStore) -> bool:
    """Return whether there is any entry."""
    return not await copy.is_empty()


def older_than(seconds: float) -> Callable[[], Awaitable[bool]]:
    """Return a condition that becomes true after so many seconds: what is there is older then."""
    begun = steady()

    async def is_old() -> bool:
        return steady() - begun > seconds

    return is_old


async def test_an_orphan(
    store: ClaimStore, replica: ClaimStore, stops: StopStore, clock: Clock
) -> None:
    """A mail that a sender may have sent before it died is uncertain, and not sent again."""
    await replica.claim(a_command(ANNA, BEN))
    clock.seconds += LEASE_SECONDS
    await stops.apply(added(an_entry()))
    relay = Relay()

    returned = await a_sender(relay, store).on_send_email(a_command(ANNA, BEN))

    assert {type(e): e.recipient for e in returned if isinstance(e, EmailUncertain)} == {
        EmailUncertain: ANNA
    }
    assert [mail.recipients for mail in relay.mails] == [(BEN,)]


async def test_a_new_database_asks_for_a_copy(stops: StopStore) -> None:
    """A sender without any entry asks the ledger for all; it does not ask again later."""
    asked: list[Contract] = []

    async def publish(message: Contract) -> None:
        asked.append(message)

    await ask_for_copy(stops, publish)
    await stops.apply(added(an_entry()))
    await ask_for_copy(stops, publish)

    assert [type(each) for each in asked] == [AnnounceSuppressions]


async def test_no_ledger(stops: StopStore) -> None:
    """A sender works without a ledger."""

    async def publish(message: Contract) -> None:
        raise Unavailable(message.routing_key)

    await ask_for_copy(stops, publish)
