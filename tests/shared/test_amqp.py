"""The client against a real broker, beside the one that everybody uses."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aio_pika
import pytest
import trustme
from pamqp import commands
from yarl import URL

from shared.amqp import declaration
from shared.amqp.channel import Channel, Incoming
from shared.amqp.connection import Connection
from shared.amqp.errors import Closed, LoginRefused, Nacked, Returned, VhostRefused
from shared.amqp.properties import Properties
from tests.proxy import Proxy
from tests.waiting import until

MEGABYTES = 5_000_000  # bytes: some forty frames
SECONDS = 20.0  # that a test waits for anything


@asynccontextmanager
async def connected(url: str | URL) -> AsyncIterator[Connection]:
    """Open a connection for the length of a block."""
    connection = await Connection.open(URL(url), "tests", 10)
    try:
        yield connection
    finally:
        await connection.close()


@pytest.fixture
async def connection(vhost: str) -> AsyncIterator[Connection]:
    """Open a connection to a vhost of its own."""
    async with connected(vhost) as opened:
        yield opened


async def confirmed(channel: Channel, body: bytes, queue: str, **properties: Any) -> None:  # noqa: ANN401 -- of any type
    """Put a message into a queue, or fail."""
    async with asyncio.timeout(SECONDS):
        await channel.publish(body, Properties(**properties), "", queue, mandatory=True)


async def test_large_bodies_go_both_ways(connection: Connection) -> None:
    """Cut into frames and put together again, with small ones between them."""
    channel = await connection.channel(confirms=True)
    await declaration.queue(channel, "q", {})
    large = bytes(range(256)) * (MEGABYTES // 256)
    came: asyncio.Queue[Incoming] = asyncio.Queue()
    await channel.consume("q", came.put_nowait)

    await asyncio.gather(*(confirmed(channel, each, "q") for each in (b"a", large, b"", large)))

    async with asyncio.timeout(SECONDS):
        assert [(await came.get()).body for _ in range(4)] == [b"a", large, b"", large]


async def test_the_broker_waits_while_bodies_are_read(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It sends faster than frames are put together: what waits for that has a bound."""
    limit, largest = 1 << 17, 0
    monkeypatch.setattr("shared.amqp.connection.MAX_INCOMING_BYTES", limit)
    channel = await connection.channel(confirms=True)
    await declaration.queue(channel, "q", {})
    large = bytes(MEGABYTES)
    for _ in range(4):
        await confirmed(channel, large, "q")
    came: asyncio.Queue[Incoming] = asyncio.Queue()

    await channel.consume("q", came.put_nowait)
    async with asyncio.timeout(SECONDS):
        while came.qsize() < 4:
            largest = max(largest, len(connection._incoming))
            await asyncio.sleep(0)

    assert all(came.get_nowait().body == large for _ in range(4))
    assert limit < largest < MEGABYTES


async def test_a_channel_that_the_broker_closes_leaves_its_neighbours(
    connection: Connection,
) -> None:
    """A missing queue, a declaration that differs, an acknowledgement of nothing."""
    neighbour = await connection.channel(confirms=True)
    await declaration.queue(neighbour, "q", {})
    for code, method in (
        (404, commands.Queue.Declare(queue="missing", passive=True)),
        (406, commands.Queue.Declare(queue="q", durable=True, arguments={"x-max-length": 1})),
    ):
        channel = await connection.channel()
        with pytest.raises(Closed) as caught:
            await channel.call(method)
        assert caught.value.code == code
    channel = await connection.channel()
    channel.ack(77)
    with pytest.raises(Closed, match="unknown delivery tag"):
        await channel.get("q")

    await confirmed(neighbour, b"x", "q")
    assert await declaration.count(neighbour, "q") == 1


async def test_numbers_of_channels_are_used_again(connection: Connection) -> None:
    """However often they close, by whom and in whatever state: there are 2047 of them."""

    async def fail(_: int) -> None:
        with pytest.raises(Closed, match="NOT_FOUND"):
            await declaration.count(await connection.channel(), "missing")

    async def close(_: int) -> None:
        await (await connection.channel()).close()

    async def cut_off(_: int) -> None:
        channel = await connection.channel()
        asking = asyncio.create_task(declaration.queue(channel, "q", {}))
        await asyncio.sleep(0)
        asking.cancel()
        await asyncio.wait([asking])

    for act in (fail, close, cut_off):
        for begun in range(0, 800, 40):
            await asyncio.gather(*(act(begun) for _ in range(40)))

    async def all_are_free() -> bool:
        return not connection._channels

    await until(all_are_free)  # the broker agrees to what was cut off, in its own time


async def test_a_question_that_is_cut_off_leaves_the_connection(connection: Connection) -> None:
    """Nobody else gets its answer."""
    neighbour = await connection.channel()
    channel = await connection.channel()
    asking = asyncio.create_task(declaration.queue(channel, "q", {}))
    await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    for name in ("a", "b"):
        await declaration.queue(neighbour, name, {})
        assert await declaration.count(neighbour, name) == 0


async def test_one_of_hundreds_comes_back(connection: Connection) -> None:
    """And no other, whatever is confirmed together with it."""
    channel = await connection.channel(confirms=True)
    await declaration.queue(channel, "q", {})
    ids = [f"m{number}" for number in range(400)]

    ends = await asyncio.gather(
        *(
            confirmed(channel, b"x", "nowhere" if name == "m123" else "q", message_id=name)
            for name in ids
        ),
        return_exceptions=True,
    )

    assert isinstance(ends[123], Returned)
    assert [name for name, end in zip(ids, ends, strict=True) if end is not None] == ["m123"]
    assert await declaration.count(channel, "q") == 399


async def test_what_a_full_queue_refuses_is_told(connection: Connection) -> None:
    """Each its own word, although the broker confirms many together."""
    channel = await connection.channel(confirms=True)
    await declaration.queue(channel, "q", {"x-max-length": 5, "x-overflow": "reject-publish"})

    for _ in range(5):
        await confirmed(channel, b"x", "q")

    for _ in range(3):
        with pytest.raises(Nacked):
            await confirmed(channel, b"x", "q")


async def test_exchanges_queues_and_bindings_are_made(connection: Connection) -> None:
    """Durable; once more is harmless; an exchange hands on what it cannot route."""
    channel = await connection.channel(confirms=True)
    for _ in range(2):
        await declaration.exchange(channel, "rest", "fanout", None)
        await declaration.exchange(channel, "work", "topic", "rest")
        for name, source, key in (("q", "work", "a.*"), ("others", "rest", "")):
            await declaration.queue(channel, name, {"x-max-length": 10})
            await declaration.bind(channel, name, source, key)

    for key in ("a.b", "c"):
        await channel.publish(b"", Properties(), "work", key, mandatory=True)

    assert [await declaration.count(channel, name) for name in ("q", "others")] == [1, 1]


async def test_prefetch_bounds_what_is_under_way(connection: Connection) -> None:
    """What is not acknowledged yet counts; with `multiple` all before are acknowledged as well."""
    channel = await connection.channel(confirms=True, prefetch=3)
    await declaration.queue(channel, "q", {})
    await asyncio.gather(*(confirmed(channel, b"%d" % number, "q") for number in range(5)))
    came: asyncio.Queue[Incoming] = asyncio.Queue()
    consumption = await channel.consume("q", came.put_nowait)

    async with asyncio.timeout(SECONDS):
        three = [await came.get() for _ in range(3)]
        assert await declaration.count(channel, "q") == 2
        assert came.empty()
        channel.ack(three[-1].tag, multiple=True)
        assert [(await came.get()).body for _ in range(2)] == [b"3", b"4"]
    await channel.cancel(consumption)
    await channel.close()

    other = await connection.channel()
    assert await declaration.count(other, "q") == 2  # what was not acknowledged is back


async def test_what_is_put_back_comes_again(connection: Connection) -> None:
    """One, or all up to it; the others are still ours."""
    channel = await connection.channel(confirms=True)
    await declaration.queue(channel, "q", {})
    for number in range(4):
        await confirmed(channel, b"%d" % number, "q")
    tags = [each.tag for _ in range(4) if (each := await channel.get("q")) is not None]

    channel.requeue(tags[2])
    assert [each.body for each in await fetched(channel)] == [b"2"]
    channel.requeue(tags[1], multiple=True)
    assert [each.body for each in await fetched(channel)] == [b"0", b"1"]


async def fetched(channel: Channel) -> list[Incoming]:
    """Give all that is in the queue."""
    found = []
    while (message := await channel.get("q")) is not None:
        found.append(message)
    return found


async def test_ours_is_read_by_the_library(vhost: str, connection: Connection) -> None:
    """Every property as it was meant."""
    channel = await connection.channel(confirms=True)
    await declaration.queue(channel, "q", {})
    await confirmed(
        channel,
        b"{}",
        "q",
        content_type="application/json",
        headers={"x-attempt": 3, "x-origin": "sender.bulk", "traceparent": "00-1"},
        correlation_id="c1",
        reply_to="r1",
        message_id="m1",
        timestamp=1_900_000_000,
        type="email.send.bulk",
        app_id="gateway",
    )

    async with await aio_pika.connect(vhost) as theirs, theirs.channel() as other:
        message = await (await other.get_queue("q")).get(no_ack=True)

    assert message.body == b"{}"
    assert message.content_type == "application/json"
    assert message.delivery_mode is aio_pika.DeliveryMode.PERSISTENT
    assert message.headers == {
        "x-attempt": 3,
        "x-origin": "sender.bulk",
        "traceparent": "00-1",
    }
    assert (message.correlation_id, message.reply_to) == ("c1", "r1")
    assert (message.message_id, message.app_id) == ("m1", "gateway")
    assert message.type == "email.send.bulk"
    assert message.timestamp is not None
    assert message.timestamp.timestamp() == 1_900_000_000
    assert not message.priority
    assert message.expiration is None


async def test_theirs_is_read_by_us(vhost: str, connection: Connection) -> None:
    """Whatever a stranger sets, the next message is handed over as well."""
    channel = await connection.channel()
    await declaration.queue(channel, "q", {})
    strange: list[dict[str, Any]] = [
        {},
        {"priority": 7, "expiration": 60, "content_encoding": "gzip", "user_id": "postrider"},
        {"headers": {"deep": {"er": [1, 2.5, None, True, {"x": "y"}]}, "é": "ü"}},
        {"headers": {"many": ["x"] * 20_000}},
        {"headers": {"long": "x" * 100_000}},
        {"message_id": "m" * 255, "type": "é" * 127, "app_id": "", "reply_to": "?"},
        {"delivery_mode": aio_pika.DeliveryMode.NOT_PERSISTENT, "timestamp": 0},
    ]
    came: asyncio.Queue[Incoming] = asyncio.Queue()
    await channel.consume("q", came.put_nowait, no_ack=True)

    async with await aio_pika.connect(vhost) as theirs, theirs.channel() as other:
        for number, properties in enumerate(strange):
            message = aio_pika.Message(b"%d" % number, **properties)
            await other.default_exchange.publish(message, "q")
        async with asyncio.timeout(SECONDS):
            read = [await came.get() for _ in strange]

    assert [each.body for each in read] == [b"%d" % number for number in range(len(strange))]
    assert read[2].properties.headers == strange[2]["headers"]
    assert read[5].properties.message_id == "m" * 255
    assert read[5].properties.type == "é" * 127
    assert not read[6].properties.persistent


async def test_a_wrong_login_is_told(vhost: str) -> None:
    """By the broker's own word, not by a connection that goes."""
    with pytest.raises(LoginRefused, match="ACCESS_REFUSED"):
        await Connection.open(URL(vhost).with_password("wrong"), "tests", 10)


async def test_a_missing_vhost_is_told(vhost: str) -> None:
    """As what it is: neither user nor password is wrong."""
    with pytest.raises(VhostRefused, match="NOT_ALLOWED - vhost nowhere not found"):
        await Connection.open(URL(vhost).with_path("/nowhere"), "tests", 10)


@pytest.fixture
async def secured(vhost: str, tmp_path: Path) -> AsyncIterator[URL]:
    """Give the way to the broker by TLS, and its authority's certificate as `cafile`."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    url = URL(vhost)
    async with Proxy.to(url.port or 0, context) as proxy:
        yield (
            url.with_scheme("amqps")
            .with_host("localhost")
            .with_port(proxy.port)
            .with_query(cafile=f"{tmp_path}/ca.pem")
        )


async def test_tls_carries_messages(secured: URL) -> None:
    """Large ones too, both ways, encrypted to the proxy before the broker."""
    async with connected(secured) as connection:
        channel = await connection.channel(confirms=True)
        await declaration.queue(channel, "q", {})
        await confirmed(channel, b"x" * MEGABYTES, "q")
        fetched = await channel.get("q")

    assert fetched is not None
    assert fetched.body == b"x" * MEGABYTES


@pytest.mark.parametrize(
    ("host", "cafile"),
    [("localhost", "other.pem"), ("127.0.0.1", "ca.pem")],
    ids=["another authority", "another name"],
)
async def test_tls_with_the_wrong_peer_is_refused(secured: URL, host: str, cafile: str) -> None:
    """Before the password is sent."""
    file = Path(secured.query["cafile"]).with_name(cafile)

    with pytest.raises(ssl.SSLCertVerificationError):
        await Connection.open(secured.with_host(host).with_query(cafile=str(file)), "tests", 10)
