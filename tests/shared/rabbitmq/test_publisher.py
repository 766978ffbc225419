"""A publisher: what it publishes is confirmed or refused within its limit."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import aio_pika
import pytest
from pamqp import commands

from shared.delivery import Publishing
from shared.errors import NoQueue, Unavailable
from shared.rabbitmq import Connection, Publisher, declare
from shared.rabbitmq import publisher as publishers
from shared.topology import Queue
from tests.proxy import Proxy
from tests.shared.rabbitmq.messages import item, waiting
from tests.shared.rabbitmq.scripted import Peer, Script
from tests.waiting import PATIENCE_SECONDS, until


async def test_a_published_message_has_its_user_and_time(
    vhost: str, connection: Connection
) -> None:
    """A reader in any language finds its type, its sender, its time and where to answer."""
    begun = int(time.time())
    headers = {"traceparent": "00-1", "x-attempt": 2}
    message = item("m1", reply_to="answers", headers=headers, persistent=False)
    await Publisher(connection, "gateway").publish(message)

    async with await aio_pika.connect(vhost) as theirs, theirs.channel() as other:
        read = await (await other.get_queue("q")).get(no_ack=True)
    assert (read.body, read.type, read.app_id) == (b"{}", "email.send.bulk", "gateway")
    assert read.user_id == connection.user
    assert (read.message_id, read.correlation_id, read.reply_to) == ("m1", "c-m1", "answers")
    assert (read.content_type, dict(read.headers) | headers) == ("application/json", read.headers)
    assert read.delivery_mode is aio_pika.DeliveryMode.NOT_PERSISTENT
    assert read.timestamp is not None
    assert begun <= read.timestamp.timestamp() <= time.time()


async def test_thousands_at_once_are_confirmed(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than MAX_UNCONFIRMED are under way; the others wait."""
    monkeypatch.setattr(publishers, "PUBLISH_SECONDS", PATIENCE_SECONDS)
    publisher = Publisher(connection, "tests")
    most = 0

    async def publish(number: int) -> None:
        nonlocal most
        await publisher.publish(item(f"m{number}"))
        most = max(most, len(publisher._under_way))

    async with asyncio.timeout(PATIENCE_SECONDS):
        await asyncio.gather(*(publish(number) for number in range(3_000)))

    assert await waiting(connection) == 3_000
    assert 0 < most <= publishers.MAX_UNCONFIRMED
    assert not publisher._under_way


async def test_two_returned_messages_of_one_id_both_fail(connection: Connection) -> None:
    """No queue takes either: counting one as kept would be a false 202."""
    publisher = Publisher(connection, "tests")

    ends = await asyncio.gather(
        *(publisher.publish(item("same", "nowhere")) for _ in range(5)),
        publisher.publish(item("same", "q")),
        return_exceptions=True,
    )

    assert [type(end) for end in ends] == [NoQueue] * 5 + [type(None)]


async def test_many_are_confirmed_or_refused_one_by_one(connection: Connection) -> None:
    """Each of many messages has its own end, and more than have room at once are published."""
    publisher = Publisher(connection, "tests")
    items = [item(f"m{each}", "nowhere" if each % 3 == 0 else "q") for each in range(1_200)]

    ends = await publisher.publish_all(items)

    failed = [name for name, end in ends.items() if end is not None]
    assert len(ends) == 1_200
    assert failed == [f"m{each}" for each in range(0, 1_200, 3)]
    assert await waiting(connection) == 800
    assert not publisher._under_way


async def test_a_missing_queue_fails_its_own_messages_alone(connection: Connection) -> None:
    """Messages whose sending queue does not exist fail; the others of the group are kept."""
    publisher = Publisher(connection, "tests")
    needed = {f"m{each}": "gone" if each % 2 else "q" for each in range(10)}

    ends = await publisher.publish_all(
        [replace(item(name), queue=queue) for name, queue in needed.items()]
    )

    failed = {name for name, end in ends.items() if end is not None}
    assert failed == {name for name, queue in needed.items() if queue == "gone"}
    assert await waiting(connection) == 5


async def test_many_and_one_of_the_same_id_take_turns(connection: Connection) -> None:
    """A message of a group waits for another publish of its id, and no end is mistaken."""
    publisher = Publisher(connection, "tests")

    single, group, again = await asyncio.gather(
        publisher.publish(item("same", "nowhere")),
        publisher.publish_all([item("same"), item("other")]),
        publisher.publish_all([item("same", "nowhere")]),
        return_exceptions=True,
    )

    assert isinstance(single, Unavailable)
    assert group == {"same": None, "other": None}
    assert isinstance(again, dict)
    assert isinstance(again["same"], Unavailable)


async def test_many_without_a_confirm_fail_in_time(
    connection: Connection, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the broker falls silent each message of a group fails, and its place is free again."""
    publisher = Publisher(connection, "tests")
    await publisher.publish(item())
    monkeypatch.setattr(publishers, "PUBLISH_SECONDS", 0.2)
    proxy.hold()

    small = await publisher.publish_all(item(f"m{each}") for each in range(100))
    large = await publisher.publish_all(item(f"x{n}", body=b"x" * 200_000) for n in range(100))
    monkeypatch.setattr(publishers, "PUBLISH_SECONDS", PATIENCE_SECONDS)
    proxy.let_go()
    later = await publisher.publish_all([item("later")])

    assert len(small) == 100
    assert 0 < len(large) < 100  # the others were not begun
    assert {type(end) for end in (*small.values(), *large.values())} == {Unavailable}
    assert later == {"later": None}
    assert not publisher._under_way


async def test_one_of_hundreds_comes_back(connection: Connection) -> None:
    """A returned message fails its own publisher alone."""
    publisher = Publisher(connection, "tests")

    ends = await asyncio.gather(
        *(publisher.publish(item(f"m{n}", "nowhere" if n == 77 else "q")) for n in range(300)),
        return_exceptions=True,
    )

    assert isinstance(ends[77], Unavailable)
    assert ends.count(None) == 299
    assert await waiting(connection) == 299


async def test_a_full_queue_is_an_error(vhost: str, connection: Connection) -> None:
    """The broker's refusal is not a confirm."""
    full: dict[str, str | int] = {"x-max-length": 2, "x-overflow": "reject-publish"}
    await declare(vhost, [], [Queue("full", None, (), full)])
    publisher = Publisher(connection, "tests")
    for number in range(2):
        await publisher.publish(item(f"m{number}", "full"))

    with pytest.raises(Unavailable):
        await publisher.publish(item("m3", "full"))


async def test_a_channel_that_the_broker_closes_is_opened_again(connection: Connection) -> None:
    """Publishes without a confirm fail; the next message goes out over a new channel."""
    publisher = Publisher(connection, "tests")
    await publisher.publish(item())

    with pytest.raises(Unavailable, match="missing"):
        await publisher.publish(Publishing("missing", "k", "t", b"", "m1", "c"))
    await publisher.publish(item("m2"))


async def test_a_cancelled_publisher_leaves_a_slot(connection: Connection) -> None:
    """Before or after its message was sent."""
    publisher = Publisher(connection, "tests")
    await publisher.publish(item())
    for _ in range(3):
        gone = [
            asyncio.create_task(publisher.publish(item(f"m{n}")))
            for n in range(publishers.MAX_UNCONFIRMED + 5)
        ]
        await asyncio.sleep(0)
        for each in gone:
            each.cancel()
        await asyncio.wait(gone)
        assert all(each.cancelled() for each in gone)

    async with asyncio.timeout(PATIENCE_SECONDS):
        await publisher.publish(item())


@pytest.mark.parametrize("name", ["id", "key"])
async def test_a_message_that_no_frame_holds_is_an_error(connection: Connection, name: str) -> None:
    """It leaves the channel as it was."""
    publisher = Publisher(connection, "tests")
    await publisher.publish(item())
    channel = publisher._current

    with pytest.raises(Unavailable, match="not published"):
        await publisher.publish(item("m" * 256) if name == "id" else item("m", "k" * 256))
    await publisher.publish(item())

    assert publisher._current is channel


async def test_a_broker_that_reads_nothing_holds_no_publisher_for_long(
    connection: Connection, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an alarm of memory: each publish fails within its time limit; later ones succeed."""
    publisher = Publisher(connection, "tests")
    await publisher.publish(item())
    monkeypatch.setattr(publishers, "PUBLISH_SECONDS", 0.2)
    proxy.hold()
    late = [publisher.publish(item(f"m{n}", body=b"x" * 200_000)) for n in range(100)]
    try:
        ends = await asyncio.gather(*late, return_exceptions=True)
        written = connection._connection.socket.writer.transport.get_write_buffer_size()
    finally:
        proxy.let_go()  # or the connection would never close

    assert [type(end) for end in ends] == [Unavailable] * 100
    # Of 20 MB the kernel has taken some, and the others have not been written.
    assert written < 1_000_000
    monkeypatch.setattr(publishers, "PUBLISH_SECONDS", PATIENCE_SECONDS)
    await publisher.publish(item("after"))


async def test_publishes_that_come_together_open_one_channel(connection: Connection) -> None:
    """Each publisher has a channel of its own."""
    two = [Publisher(connection, "tests") for _ in range(2)]

    await asyncio.gather(*(each.publish(item(f"m{n}")) for each in two for n in range(20)))

    assert await waiting(connection) == 40
    channels = {each._current.channel.number for each in two if each._current}
    assert len(channels) == 2
    assert len(connection._connection.under.channels) == 2


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[tuple[Peer, Connection, Publisher]]:
    """Connect a publisher that has a channel to a scripted broker."""

    async def welcome() -> Peer:
        peer = await script.peer()
        await peer.welcome()
        return peer

    welcoming = asyncio.create_task(welcome())
    async with Connection.open([script.url], "tests", 0) as connection:
        peer = await welcoming
        publisher = Publisher(connection, "tests")
        publishing = asyncio.create_task(publisher.publish(item("first")))
        await peer.open_publisher()
        await peer.published()
        peer.say(commands.Basic.Ack(1), channel=1)
        await publishing
        yield peer, connection, publisher
        peer.hang_up()


async def test_each_confirm_is_its_own(script: Script) -> None:
    """In whatever order the broker confirms and refuses, one by one or all up to one."""
    async with scripted(script) as (peer, _, publisher):
        tasks = [asyncio.create_task(publisher.publish(item(f"m{n}"))) for n in range(2, 7)]
        for _ in tasks:
            await peer.published()

        peer.say(commands.Basic.Nack(3), commands.Basic.Ack(2), channel=1)
        peer.say(commands.Basic.Ack(5, multiple=True), commands.Basic.Nack(6), channel=1)
        ends = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(end) for end in ends] == [
        type(None),
        Unavailable,
        type(None),
        type(None),
        Unavailable,
    ]


async def test_a_late_confirm_moves_no_number(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that was given up is confirmed late: the next message waits for its own."""
    async with scripted(script) as (peer, _, publisher):
        monkeypatch.setattr(publishers, "PUBLISH_SECONDS", 0.05)
        with pytest.raises(Unavailable, match="TimeoutError"):
            await publisher.publish(item("late"))
        monkeypatch.setattr(publishers, "PUBLISH_SECONDS", PATIENCE_SECONDS)
        following = asyncio.create_task(publisher.publish(item("following")))
        await peer.published()
        await peer.published()

        peer.say(commands.Basic.Ack(2), channel=1)
        peer.say(commands.Basic.Nack(3), channel=1)

        with pytest.raises(Unavailable, match="does not keep"):
            await following


async def test_confirms_that_never_come_fill_no_memory(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A channel with too many of them is given up for a new one."""
    monkeypatch.setattr(publishers, "MAX_LATE_CONFIRMS", 3)
    async with scripted(script) as (peer, _, publisher):
        monkeypatch.setattr(publishers, "PUBLISH_SECONDS", 0.05)
        for number in range(3):
            with pytest.raises(Unavailable):
                await publisher.publish(item(f"m{number}"))
            await peer.published()
        monkeypatch.setattr(publishers, "PUBLISH_SECONDS", PATIENCE_SECONDS)
        publishing = asyncio.create_task(publisher.publish(item("next")))
        await peer.answer(commands.Channel.Close, commands.Channel.CloseOk())
        await peer.open_publisher()
        await peer.published()
        peer.say(commands.Basic.Ack(1), channel=1)

        await publishing


async def test_a_broker_short_of_memory_holds_publishers(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait no longer than their limit and send nothing; then they go on."""
    async with scripted(script) as (peer, connection, publisher):
        peer.say(commands.Connection.Blocked("low on memory"))
        await until_blocked(connection)
        monkeypatch.setattr(publishers, "PUBLISH_SECONDS", 0.05)
        with pytest.raises(Unavailable, match="TimeoutError"):
            await publisher.publish(item("too early"))
        monkeypatch.setattr(publishers, "PUBLISH_SECONDS", PATIENCE_SECONDS)
        publishing = asyncio.create_task(publisher.publish(item("in time")))

        peer.say(commands.Connection.Unblocked())

        assert (await peer.published()).properties.message_id == "in time"
        peer.say(commands.Basic.Ack(2), channel=1)
        await publishing


async def until_blocked(connection: Connection) -> None:
    """Wait until the broker's word has come."""

    async def is_blocked() -> bool:
        try:
            async with asyncio.timeout(0.01):
                await connection._connection.under.ready()
        except TimeoutError:
            return True
        return False

    await until(is_blocked)


async def test_a_broker_that_opens_nothing_holds_no_publisher_for_long(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait for a channel is within the limit of a publish."""
    async with scripted(script) as (_, connection, _):
        monkeypatch.setattr(publishers, "PUBLISH_SECONDS", 0.05)
        publisher = Publisher(connection, "tests")
        ends = await asyncio.gather(
            *(publisher.publish(item(f"m{n}")) for n in range(3)), return_exceptions=True
        )

    assert [type(end) for end in ends] == [Unavailable] * 3


async def test_nothing_is_sent_on_a_channel_that_the_broker_closes(script: Script) -> None:
    """Not even before aiormq counts it as closed: the broker would end the connection."""
    async with scripted(script) as (peer, _, publisher):
        current = publisher._current
        assert current is not None
        peer.say(commands.Channel.Close(404, "NOT_FOUND", 60, 40), channel=1)

        async def send_on() -> None:
            while True:
                current.send(item("too late"))
                await asyncio.sleep(0)

        sending = asyncio.create_task(send_on())
        while not isinstance(await peer.next(), commands.Channel.CloseOk):
            pass
        with pytest.raises(Unavailable, match="closed"):
            await sending
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await peer.next()
