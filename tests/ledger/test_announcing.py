"""Announcing the changes of the suppression list, from both databases."""

import asyncio

from services.ledger.announcing import SuppressionAnnouncer
from services.ledger.store.suppressing import PREFIXES, SuppressionStore
from shared.contracts import Contract, SuppressionAdded, SuppressionRemoved
from shared.errors import Unavailable
from tests.clock import Clock
from tests.ledger.books import ADA
from tests.ledger.store.test_suppressing import MANY, by_hand
from tests.sender.senders import HASHER
from tests.waiting import until


class Broker:
    """Publishes to a list, unless it is away."""

    def __init__(self) -> None:
        self.events: list[Contract] = []
        self.is_away = False
        self.heard = asyncio.Event()

    async def publish(self, message: Contract) -> None:
        """Keep a message."""
        self.heard.set()
        if self.is_away:
            raise Unavailable("away")
        self.events.append(message)


async def told(entries: SuppressionStore, broker: Broker) -> None:
    """Announce what is not announced, once."""
    announcer = SuppressionAnnouncer(broker.publish)
    task = asyncio.create_task(announcer.run(entries))

    async def is_done() -> bool:
        refused = broker.is_away and broker.heard.is_set()
        return refused or not await entries.unannounced()

    await until(is_done)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_announced(entries: SuppressionStore) -> None:
    """Each change is published once the broker takes it, with the same id when it is repeated."""
    broker = Broker()
    broker.is_away = True
    await entries.add([by_hand(f"p{number}@one.example") for number in range(MANY)])
    await told(entries, broker)
    left = await entries.unannounced()
    broker.is_away = False
    await told(entries, broker)
    first = [*broker.events]
    await entries.announce_again()
    await told(entries, broker)

    assert left
    assert len({each.id for each in first}) == MANY
    assert {each.id for each in broker.events[MANY:]} == {each.id for each in first}


async def test_a_removal_is_announced(entries: SuppressionStore) -> None:
    """The event of a removal has the address; afterwards the list has only its hash."""
    broker = Broker()
    await entries.add([by_hand()])
    await told(entries, broker)
    await entries.remove([ADA], "shop")
    await told(entries, broker)
    await entries.announce_again([HASHER.hash(ADA)[:2]])

    added, removed = broker.events
    assert isinstance(added, SuppressionAdded)
    assert isinstance(removed, SuppressionRemoved)
    assert removed.suppression.email == ADA
    assert removed.version > added.version
    assert [each.email for each in await entries.unannounced()] == [None]


async def test_changed_while_it_is_announced(entries: SuppressionStore) -> None:
    """A change that comes between the event of the version before and its confirm is published."""
    await entries.add([by_hand(reason="a")])
    old = await entries.unannounced()
    await entries.add([by_hand(reason="b")])
    await entries.announced(old)

    assert [each.reason for each in await entries.unannounced()] == ["b"]


async def test_announced_in_turn(entries: SuppressionStore, clock: Clock) -> None:
    """Each entry is announced again once a day, a part of them each hour."""
    names = [f"p{number}@one.example" for number in range(300)]
    await entries.add([by_hand(each) for each in names])
    seen: list[str | None] = []
    for _ in range(24):
        await entries.announced(await entries.unannounced())
        await entries.announce_in_turn()
        seen += [each.email for each in await entries.unannounced()]
        clock.seconds += 3600

    assert sorted(each for each in seen if each) == sorted(names)
    assert len(PREFIXES) == 256
