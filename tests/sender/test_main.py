"""Tests of the real process, killed at the worst moments: no loss, no copy but the known one."""

import asyncio
import json
import os
import sqlite3
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import pytest

from ops.broker import RabbitServer as Node
from ops.simulator.simulator import Simulator
from shared import delivery, topology
from shared.broker import Broker
from shared.contracts import (
    Category,
    EmailDelivered,
    EmailUncertain,
    Outcome,
    SendEmail,
    decode,
)
from shared.rabbitmq import declare
from tests.processes import started
from tests.proxy import Proxy
from tests.sender.commands import a_command
from tests.sender.replicas import DELAY_SCALE
from tests.sender.senders import environment
from tests.tap import Tap, depth, publish_raw, tapped
from tests.waiting import PATIENCE_SECONDS, until

pytestmark = [pytest.mark.journey, pytest.mark.rabbit]

MANY = 40  # mails: more than a sender holds


@dataclass(frozen=True)
class World:
    """The broker, the relay and the directory that stay when a sender is killed."""

    url: str
    data_dir: Path
    proxy: Proxy
    broker: Broker
    events: Tap
    simulator: Simulator

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables of a sender, which reaches the broker through the proxy."""
        port = urlsplit(self.url).port
        return environment(
            self.url.replace(f":{port}", f":{self.proxy.port}"),
            self.data_dir,
            self.simulator.smtp_port,
            PATH=os.environ["PATH"],
            SENDER_CLAIM_SECONDS="3",
        )

    def sender(self) -> AbstractAsyncContextManager[Process]:
        """Run a sender for the length of the block; then kill it, if it still runs."""
        return started("-m", "services.sender", env=self.environment, stdout=DEVNULL)

    async def heard(self, verb: str) -> None:
        """Wait until the relay has heard a verb."""
        traffic = self.simulator.traffic
        await traffic.wait_until(lambda: traffic.commands[verb] > 0)

    async def outcome(self) -> Outcome:
        """Wait for the next outcome."""
        message = await self.events.next()
        event = decode(message.type or "", message.body)
        assert isinstance(event, Outcome)
        return event

    async def settled(self) -> bool:
        """Return whether a sender has kept a final outcome."""
        uri = f"file:{self.data_dir / 'sender.sqlite'}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            (count,) = database.execute("SELECT count(*) FROM claims WHERE final").fetchone()
        return bool(count)

    async def is_done(self) -> bool:
        """Return whether no command waits any more."""
        queues = [topology.sending_queue(category) for category in Category]
        return not any([await depth(self.url, queue) for queue in queues])


@pytest.fixture
async def world(vhost: str, tmp_path: Path, simulator: Simulator) -> AsyncIterator[World]:
    """Open a world with short delays."""
    await declare(vhost, topology.EXCHANGES, topology.queues(scale=DELAY_SCALE))
    async with (
        Proxy.to(urlsplit(vhost).port or 0) as proxy,
        tapped(vhost, topology.EVENTS) as tap,
        Broker.connect(vhost, "test") as broker,
    ):
        yield World(vhost, tmp_path, proxy, broker, tap, simulator)


async def killed_after(world: World, verb: str, command: SendEmail) -> None:
    """Kill a sender that has sent a command of a mail and waits for the reply."""
    await world.broker.publish(command)
    async with world.sender() as sender:
        await world.heard(verb)
        sender.kill()


async def test_killed_at_mail(world: World) -> None:
    """A mail whose sender is killed before its content is sent once, by the next sender."""
    await killed_after(world, "MAIL", a_command(from_="slow-500-mail@our.example"))

    async with world.sender():
        event = await world.outcome()

    assert isinstance(event, EmailDelivered)
    assert len(world.simulator.mailbox) == 1


async def test_killed_at_the_dot(world: World) -> None:
    """A mail whose sender is killed between dot and reply is sent again, under one Message-ID."""
    await killed_after(world, "DATA", a_command("slow-500-dot@x.example"))

    async with world.sender():
        event = await world.outcome()

    mails = world.simulator.mailbox.find()
    assert isinstance(event, EmailDelivered)
    assert 1 <= len(mails) <= 2
    assert {mail.headers["Message-ID"] for mail in mails} == {"<mail-1@our.example>"}


async def test_killed_at_the_dot_of_bulk(world: World) -> None:
    """A newsletter whose sender is killed between dot and reply is uncertain and not repeated."""
    command = a_command("slow-500-dot@x.example", category=Category.BULK)
    await killed_after(world, "DATA", command)

    async with world.sender():
        event = await world.outcome()

    assert isinstance(event, EmailUncertain)
    assert event.final
    assert world.simulator.traffic.commands["DATA"] == 1


async def test_killed_before_telling(world: World) -> None:
    """An outcome that a killed sender kept but did not publish is published by the next sender."""
    await world.broker.publish(a_command("slow-500-dot@x.example"))
    async with world.sender() as sender:
        await world.heard("DATA")
        world.proxy.hold()
        await until(world.settled)
        sender.kill()
    untold = world.events.empty()
    world.proxy.cut()
    world.proxy.let_go()

    async with world.sender():
        event = await world.outcome()

    assert untold
    assert isinstance(event, EmailDelivered)
    assert len(world.simulator.mailbox) == 1


async def test_cut_off_from_the_broker(world: World) -> None:
    """Mails in flight at a loss of the broker are redelivered, and not sent again."""
    ids = {f"mail-{number}" for number in range(4)}
    for each in ids:
        await world.broker.publish(a_command("slow-1000-dot@x.example", id=each))

    async with world.sender():
        traffic = world.simulator.traffic
        await traffic.wait_until(lambda: traffic.commands["DATA"] == len(ids))
        world.proxy.cut()
        mail_ids: set[str] = set()
        while mail_ids != ids:
            event = await world.outcome()
            assert isinstance(event, EmailDelivered)
            mail_ids.add(event.email_id)
        await until(world.is_done)

    assert len(world.simulator.mailbox) == len(ids)


async def test_poison_takes_no_neighbour_with_it(world: World) -> None:
    """Commands that no sender can handle are dead-lettered; commands beside them are sent.

    Issue 10, A2, A3, A7 and S6. One with a wrong time is sent: a clock was wrong, not the mail.
    """
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    misdated = {"zero": "0001-01-01T00:00:00Z", "ahead": tomorrow.isoformat()}
    poisons: Mapping[str, dict[str, object]] = {
        "attempt: ": {"attempt": 1 << 63},
        "pending: ": {"pending": [f"a{number}@x.example" for number in range(500)]},
        "must have no pending recipients": {"pending": ["eve@x.example"]},
        "at most 50000 values": {"attachments": [{}] * 1_000_000},
    }
    kind, queue = "email.send.transactional", topology.sending_queue(Category.TRANSACTIONAL)
    smallest: dict[str, object] = {
        "id": "poison",
        "to": "ben@x.example",
        "subject": "s",
        "text": "t",
    }
    async with tapped(world.url, topology.DEAD) as dead:
        for number, changes in enumerate(poisons.values()):
            await publish_raw(world.url, queue, json.dumps(smallest | changes).encode(), kind)
            await world.broker.publish(a_command(id=f"good-{number}"))
        for name, at in misdated.items():
            body = smallest | {"id": name, "created_at": at}
            await publish_raw(world.url, queue, json.dumps(body).encode(), kind)
        async with world.sender():
            count = len(poisons) + len(misdated)
            mail_ids = {(await world.outcome()).email_id for _ in range(count)}
            letters = [await dead.next() for _ in poisons]
            await until(world.is_done)

    assert mail_ids == {*misdated, *(f"good-{number}" for number in range(len(poisons)))}
    reasons = [str(each.headers[delivery.REASON]) for each in letters]
    assert all(any(expected in reason for reason in reasons) for expected in poisons)
    assert all(" 0001 " not in str(mail.headers) for mail in world.simulator.mailbox.find())


@pytest.mark.restarts
async def test_the_broker_restarts(rabbit: Node, world: World) -> None:
    """Mails in flight at a restart of the broker are all reported, and each is sent once."""
    ids = {f"mail-{number}" for number in range(MANY)}
    for each in ids:
        await world.broker.publish(a_command("slow-200-dot@x.example", id=each))

    async with world.sender():
        await world.heard("DATA")
        await asyncio.to_thread(rabbit.stop)
        await asyncio.to_thread(rabbit.start)
        reports = await evidence(world.url, ids)

    # An event that was published and not confirmed is published again, unchanged.
    assert len({event.id for event in reports}) == MANY
    assert len(world.simulator.mailbox) == MANY


async def evidence(url: str, ids: set[str]) -> list[Outcome]:
    """Return the events for the classifier, up to those about all mails of `ids`."""
    outcomes: list[Outcome] = []
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        queue = await channel.get_queue(topology.EVIDENCE)
        async with asyncio.timeout(PATIENCE_SECONDS), queue.iterator(no_ack=True) as messages:
            async for message in messages:
                event = decode(message.type or "", message.body)
                assert isinstance(event, Outcome)
                outcomes.append(event)
                if {each.email_id for each in outcomes} == ids:
                    break
    return outcomes
