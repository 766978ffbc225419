"""Tests of two clients of one class at a real RabbitMQ, before a relay that is slower than both."""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import aio_pika
import aiohttp
import pytest

from ops import ports
from ops.simulator.behaviour import Behaviour, StageRefusals
from ops.simulator.simulator import Simulator
from services.sender import service
from services.sender.config import SenderSettings
from shared import retry, topology
from shared.broker import Broker
from shared.contracts import Category, EmailDelivered, SendEmail, decode, encode
from shared.rabbitmq import declare
from shared.topology import SHARDED, shard_of
from tests.sender.commands import a_command
from tests.sender.patient import patient
from tests.sender.senders import environment
from tests.serving import serving
from tests.tap import Tap, depth, publish_raw, tapped
from tests.waiting import until

pytestmark = pytest.mark.rabbit

DELAY_SCALE = 0.01
SLOW = Behaviour(service_ms=20, served_at_once=2)
# Mails of the other client that may go first: a sender with two connections handles eight at a
# time, and as many of each queue wait in it.
MAX_AHEAD = 40
WAITING = 200
BIG, SMALL = "big", "small"

running = partial(serving, service.run)


def mails(client: str | None, count: int, category: Category = Category.BULK) -> list[SendEmail]:
    """Return commands of a client, each to a recipient of its own."""
    return [
        a_command(
            f"{client}-{number}@x.example",
            id=f"{client}-{number}",
            client=client,
            category=category,
        )
        for number in range(count)
    ]


@dataclass(frozen=True)
class World:
    """A vhost of its own, its events, and a slow relay."""

    url: str
    data_dir: Path
    broker: Broker
    events: Tap
    simulator: Simulator
    delivered: list[str] = field(default_factory=list)

    def settings(self, port: int | None = None) -> SenderSettings:
        """Return the settings of a sender, two connections a class, to the simulator or a port."""
        two = {f"SENDER_CONNECTIONS_{each.upper()}": "2" for each in SHARDED}
        relay = self.simulator.smtp_port if port is None else port
        return SenderSettings.load(environment(self.url, self.data_dir, relay, **two))

    async def publish(self, commands: Sequence[SendEmail]) -> None:
        """Publish commands in their order, which publishes at the same time do not keep."""
        for start in range(0, len(commands), 100):
            assert not await self.broker.publish_all(commands[start : start + 100])

    async def deliver(self, count: int) -> list[str]:
        """Wait for so many further mails; return the ids of all that were delivered, in order."""
        while count:
            message = await self.events.next()
            event = decode(message.type or "", message.body)
            if isinstance(event, EmailDelivered):
                self.delivered.append(event.email_id)
                count -= 1
        return self.delivered


@pytest.fixture
async def world(vhost: str, tmp_path: Path, simulator: Simulator) -> AsyncIterator[World]:
    """Open a world with short delays."""
    await declare(vhost, topology.EXCHANGES, topology.queues(scale=DELAY_SCALE))
    simulator.behaviour = SLOW
    async with (
        tapped(vhost, topology.EVENTS) as tap,
        Broker.connect(vhost, "test") as broker,
    ):
        yield World(vhost, tmp_path, broker, tap, simulator)


def test_the_clients_of_these_tests_have_different_shards() -> None:
    """Clients that share a shard have one backlog together."""
    assert shard_of(BIG) != shard_of(SMALL)


@pytest.mark.parametrize(
    ("category", "other"),
    [(Category.BULK, SMALL), (Category.TRANSACTIONAL, SMALL), (Category.BULK, None)],
)
async def test_a_backlog_does_not_hold_up_another_client(
    world: World, category: Category, other: str | None
) -> None:
    """The first mail of another client, or of none, passes those that wait; all are sent once."""
    shard = "" if other is None else f".{shard_of(other)}"
    queue = f"{topology.sending_queue(category)}{shard}"

    async def has_come() -> bool:
        return not await depth(world.url, queue)

    await world.publish(mails(BIG, WAITING, category))
    async with patient() as relay, running(world.settings(relay.port)):
        await world.deliver(20)
        relay.slow = {"DOT"}
        await world.publish(mails(other, 1, category))
        await until(has_come)
        while relay.heard["DOT"] > len(world.delivered) + 2:
            await world.deliver(1)
        before = len(world.delivered)
        relay.answer()
        order = await world.deliver(WAITING + 1 - before)

    assert order.index(f"{other}-0") - before <= MAX_AHEAD
    assert Counter(order) == dict.fromkeys(
        [f"{BIG}-{number}" for number in range(WAITING)] + [f"{other}-0"], 1
    )


async def test_two_backlogs_share_the_connections(world: World) -> None:
    """A client that comes later with a backlog of its own gets half, and the first the other."""
    await world.publish(mails(BIG, WAITING))
    await world.publish(mails(SMALL, WAITING))
    async with running(world.settings()):
        order = await world.deliver(WAITING)

    begun = order.index(f"{SMALL}-0")
    shares = Counter(each.partition("-")[0] for each in order[begun:][:80])
    assert 30 <= shares[SMALL] <= 50


async def test_a_client_keeps_its_order(world: World) -> None:
    """A client alone keeps its order as far as connections at the same time allow."""
    await world.publish(mails(BIG, WAITING))
    async with running(world.settings()):
        order = await world.deliver(WAITING)

    places = [int(each.rpartition("-")[2]) for each in order]
    assert max(abs(place - came) for came, place in enumerate(places)) < MAX_AHEAD


async def test_a_deferred_mail_comes_back_to_its_shard(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delays know only queues, and return each mail to the one that it came from."""
    monkeypatch.setattr(retry, "SPREAD", 0)  # it may choose a neighbour of the delay
    world.simulator.behaviour = Behaviour(refuse=StageRefusals(connect="421 4.3.2 Busy"))
    async with (
        running(world.settings()),
        tapped(world.url, "delay.5m") as delayed,
    ):
        await world.publish(mails(SMALL, 1))
        message = await delayed.next()
        world.simulator.behaviour = Behaviour()
        await world.deliver(1)

    assert message.routing_key == f"sender.bulk.{shard_of(SMALL)}"


async def test_dead_letters_of_all_shards_are_in_one_queue(world: World) -> None:
    """A message that cannot be read is a dead letter of its class, which names its shard."""
    async with running(world.settings()):
        await publish_raw(world.url, "sender.bulk.7", b"{}", "email.send.bulk")
        async with tapped(world.url, topology.DEAD) as dead:
            await publish_raw(world.url, "sender.bulk.3", b"not json", "email.send.bulk")
            letter = await dead.next()

    assert letter.headers["x-origin"] in {"sender.bulk.3", "sender.bulk.7"}
    assert await depth(world.url, "sender.bulk.dead") == 2


async def test_a_missing_shard(world: World) -> None:
    """A sender is not ready while one of its queues is missing.

    The ledger's copy alone makes a mail routed, so that the broker returns it to no program.
    """
    [port] = ports.unused(1)

    async def answers(status: int) -> bool:
        try:
            async with (
                aiohttp.ClientSession() as http,
                http.get(f"http://127.0.0.1:{port}/readyz") as ready,
            ):
                return ready.status == status
        except aiohttp.ClientConnectionError:
            return False  # it has just been started

    async with running(world.settings().model_copy(update={"health_port": port})):
        await until(partial(answers, 200))
        async with await aio_pika.connect(world.url) as theirs, theirs.channel() as channel:
            await channel.queue_delete("sender.bulk.7")
        await until(partial(answers, 503))
        await declare(world.url, topology.EXCHANGES, topology.queues(scale=DELAY_SCALE))
        await until(partial(answers, 200))


async def test_a_message_without_a_type_is_read_by_its_key(world: World) -> None:
    """A program may leave the type out, also with the key of its shard."""
    command, key = mails(SMALL, 1)[0], f"email.send.bulk.{shard_of(SMALL)}"
    async with running(world.settings()):
        await publish_without_type(world.url, key, command)
        await world.deliver(1)

    assert world.delivered == ["small-0"]


async def publish_without_type(url: str, key: str, command: SendEmail) -> None:
    """Publish a command as a program that sets no type."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        exchange = await channel.get_exchange(topology.COMMANDS)
        await exchange.publish(aio_pika.Message(encode(command)), key)
