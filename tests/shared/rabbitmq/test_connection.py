"""A connection: open for as long as it is wanted, whatever becomes of the network."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import aio_pika
import pytest
import structlog
import trustme
from pamqp import commands
from yarl import URL

from ops import ports
from shared.delivery import Publishing
from shared.errors import Unavailable
from shared.rabbitmq import Connection, Publisher, declare
from shared.rabbitmq import connection as connections
from shared.rabbitmq import publisher as publishers
from shared.topology import Binding, Exchange, Queue
from tests.proxy import Proxy
from tests.shared.rabbitmq.messages import QUORUM, item, waiting
from tests.shared.rabbitmq.scripted import Peer, Script
from tests.waiting import PATIENCE_SECONDS, until

MEGABYTES = 5_000_000  # bytes: some forty frames


async def entered(url: URL, patience: float) -> bool:
    """Open a connection and close it."""
    async with Connection.open([url], "tests", patience) as connection:
        return connection.is_up


async def left(peer: Peer) -> None:
    """Accept the login of a client that closes at once."""
    await peer.welcome()
    await farewell(peer)


async def farewell(peer: Peer) -> None:
    """Agree to the end of a connection."""
    await peer.hear(commands.Connection.Close)
    peer.say(commands.Connection.CloseOk())


async def is_published(publisher: Publisher) -> bool:
    """Return whether a message can be published now."""
    try:
        await publisher.publish(item())
    except Unavailable:
        return False
    return True


async def test_a_lost_connection_comes_back(connection: Connection, proxy: Proxy) -> None:
    """It comes back as often as it is lost; a publisher waits for it within its time limit."""
    publisher = Publisher(connection, "tests")
    for _ in range(3):
        await publisher.publish(item())
        proxy.cut()
        await until(partial(is_published, publisher))


async def test_the_next_node_takes_over(vhost: str) -> None:
    """When the node of a connection is gone, the service goes on at another one."""
    await declare(vhost, [], [QUORUM])
    url = URL(vhost)
    async with AsyncExitStack() as first, Proxy.to(url.port or 0) as other:
        gone = await first.enter_async_context(Proxy.to(url.port or 0))
        nodes = [url.with_port(gone.port), url.with_port(other.port)]
        async with Connection.open(nodes, "tests", 0) as opened:
            publisher = Publisher(opened, "tests")
            assert await is_published(publisher)
            await first.aclose()
            await until(partial(is_published, publisher))


async def test_each_node_is_tried_at_least_once(vhost: str) -> None:
    """A command that does not wait finds the node that is there, or names all of them."""
    away = [URL(f"amqp://ann:s3cret@127.0.0.1:{port}/") for port in ports.unused(2)]
    async with Connection.open([*away, URL(vhost)], "tests", 0) as opened:
        assert opened.is_up

    with pytest.raises(Unavailable, match="does not answer") as caught:
        async with Connection.open(away, "tests", 0):
            pass
    assert all(f"amqp://ann:***@127.0.0.1:{each.port}/" in str(caught.value) for each in away)


async def test_a_network_that_stands_still_is_noticed(
    vhost: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missed heartbeats end the connection; what waits fails by Unavailable, never cancelled."""
    await declare(vhost, [], [QUORUM])
    monkeypatch.setattr(publishers, "PUBLISH_SECONDS", PATIENCE_SECONDS)
    url = URL(vhost).with_port(proxy.port)

    async def is_down() -> bool:
        return not opened.is_up

    async with Connection.open([url], "tests", 0, heartbeat_seconds=1) as opened:
        publisher = Publisher(opened, "tests")
        await publisher.publish(item())
        proxy.hold()

        ends = await asyncio.gather(
            publisher.publish(item()), waiting(opened), return_exceptions=True
        )

        assert [type(each) for each in ends] == [Unavailable] * 2
        assert all("the connection was lost" in str(each) for each in ends)
        await until(is_down)
        proxy.let_go()
        proxy.cut()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await publisher.publish(item())


async def test_a_starting_broker_is_waited_for(script: Script) -> None:
    """For as long as the patience lasts, whatever it says until then."""
    opening = asyncio.create_task(entered(script.url, PATIENCE_SECONDS))
    (await script.peer()).hang_up()
    refusing = await script.peer()
    await refusing.start()
    refusing.say(commands.Connection.Close(541, "INTERNAL_ERROR", 0, 0))
    await left(await script.peer())

    assert await opening


async def test_a_running_service_comes_back_from_any_failure(
    connection: Connection, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection comes back whatever aiormq raises, such as StopAsyncIteration at an end."""
    failures: list[BaseException] = [StopAsyncIteration(), asyncio.CancelledError(), KeyError("x")]
    connect = aio_pika.connect

    async def fail(*args: Any, **more: Any) -> Any:  # noqa: ANN401 -- aio-pika's
        if failures:
            raise failures.pop(0)
        return await connect(*args, **more)

    async def is_back() -> bool:
        return connection.is_up and not failures

    monkeypatch.setattr(aio_pika, "connect", fail)
    with structlog.testing.capture_logs() as logs:
        proxy.cut()
        await until(is_back)

    reasons = [each.get("reason") for each in logs]
    assert "it closed the socket while the connection was opened" in reasons


async def test_a_silent_broker_is_not_waited_for(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One try has its limit, and the error names what ended it."""
    monkeypatch.setattr(connections, "CONNECT_SECONDS", 0.05)

    with pytest.raises(Unavailable, match="does not answer: TimeoutError"):
        async with Connection.open([script.url], "tests", 0):
            pass
    assert await (await script.peer()).ended()


async def test_a_wrong_password_is_an_error_at_once(vhost: str) -> None:
    """It would be refused again; the password is in no text."""
    url = URL(vhost).with_password("s3cret")

    with pytest.raises(Unavailable, match="refuses the login") as caught:
        async with Connection.open([url], "tests", 99):
            pass
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("at", ["connecting", "greeting", "open"])
async def test_a_connection_can_be_left_at_any_time(
    script: Script, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """While it comes back, with no task left behind."""
    monkeypatch.setattr(connections, "RECONNECT_SECONDS", 0.0)
    monkeypatch.setattr(connections, "CLOSE_SECONDS", 0.1)
    before = asyncio.all_tasks()

    async def welcome() -> None:
        peer = await script.peer()
        await peer.welcome()
        if at != "open":
            peer.hang_up()

    welcoming = asyncio.create_task(welcome())
    async with asyncio.timeout(PATIENCE_SECONDS), Connection.open([script.url], "tests", 0):
        await welcoming
        if at == "greeting":
            await (await script.peer()).start()

    async def nothing_is_left() -> bool:
        return asyncio.all_tasks() == before

    await until(nothing_is_left)


@pytest.fixture
async def secured(vhost: str, tmp_path: Path) -> AsyncIterator[URL]:
    """Return the way to the broker by TLS, with its authority's certificate as `cafile`."""
    await declare(vhost, [], [QUORUM])
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    url = URL(vhost).with_scheme("amqps").with_host("localhost")
    async with Proxy.to(url.port or 0, context) as proxy:
        yield url.with_port(proxy.port).with_query(cafile=f"{tmp_path}/ca.pem")


async def test_tls_carries_messages(secured: URL) -> None:
    """Large ones too, encrypted to the proxy before the broker."""
    async with Connection.open([secured], "tests", 0) as connection:
        await Publisher(connection, "tests").publish(item(body=b"x" * MEGABYTES))

        assert await waiting(connection) == 1


@pytest.mark.parametrize(
    ("host", "cafile"), [("localhost", "other.pem"), ("127.0.0.1", "ca.pem")], ids=["ca", "name"]
)
async def test_tls_with_the_wrong_peer_is_refused(secured: URL, host: str, cafile: str) -> None:
    """Before the password is sent."""
    file = Path(secured.query["cafile"]).with_name(cafile)
    url = secured.with_host(host).with_query(cafile=str(file))

    with pytest.raises(Unavailable, match="certificate verify failed"):
        async with Connection.open([url], "tests", 0):
            pass


@pytest.mark.parametrize(
    "text",
    ["NOT_ALLOWED - vhost nowhere not found", "NOT_ALLOWED - access to vhost refused for user"],
)
async def test_a_refused_virtual_host_is_an_error_at_once(script: Script, text: str) -> None:
    """With the broker's words, and the part of the address that names it."""
    opening = asyncio.create_task(entered(script.url.with_path("/nowhere"), 99))
    peer = await script.peer()
    await peer.start()
    await peer.tune()
    peer.say(commands.Connection.Close(530, text, 0, 0))

    with pytest.raises(
        Unavailable, match=rf"/nowhere refuses the virtual host: 530 {text}"
    ) as raised:
        await opening
    assert str(raised.value).endswith("; check path in AMQP_URL")


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (530, "NOT_ALLOWED - vhost '/': connection limit (1) is reached"),
        (541, "INTERNAL_ERROR - vhost '/' is down"),
    ],
)
async def test_a_virtual_host_that_is_full_or_down_is_waited_for(
    script: Script, code: int, text: str
) -> None:
    """It may be otherwise in a moment; the broker's words are logged."""
    with structlog.testing.capture_logs() as logs:
        opening = asyncio.create_task(entered(script.url, PATIENCE_SECONDS))
        peer = await script.peer()
        await peer.start()
        await peer.tune()
        peer.say(commands.Connection.Close(code, text, 0, 0))
        await left(await script.peer())
        assert await opening

    assert [each["reason"] for each in logs] == [f"{code} {text}"]


@pytest.mark.parametrize(
    ("path", "vhost"),
    [("", "/"), ("/", "/"), ("/%2F", "/"), ("/mail", "mail"), ("/a%2Fb", "a/b"), ("/a%20b", "a b")],
)
async def test_the_path_names_the_virtual_host(script: Script, path: str, vhost: str) -> None:
    """Percent-encoded as in any URL; `/` is the broker's own default."""
    opening = asyncio.create_task(
        entered(URL(str(script.url).rstrip("/") + path), PATIENCE_SECONDS)
    )
    peer = await script.peer()
    await peer.start()
    assert (await peer.tune()).virtual_host == vhost
    peer.say(commands.Connection.OpenOk())
    await farewell(peer)
    assert await opening


@pytest.mark.parametrize(
    ("user", "response"),
    [("", "\0guest\0guest"), ("ann:s3cret@", "\0ann\0s3cret"), ("a%40b:p%2Fq%3A@", "\0a@b\0p/q:")],
)
async def test_the_login_is_that_of_the_url(script: Script, user: str, response: str) -> None:
    """Percent-encoded as well; the broker's usual account where none is named."""
    opening = asyncio.create_task(entered(URL(f"amqp://{user}127.0.0.1:{script.url.port}"), 0))
    peer = await script.peer()
    started = await peer.start()
    peer.hang_up()

    assert (started.mechanism, started.response) == ("PLAIN", response)
    assert (started.client_properties or {})["connection_name"] == "tests"
    with pytest.raises(Unavailable):
        await opening


async def test_a_broker_that_is_waited_for_is_logged(script: Script) -> None:
    """One line says where, why and what to do, for tries of which there may be many."""
    url = script.url.with_user("a").with_password("s3cret")
    with structlog.testing.capture_logs() as logs:
        opening = asyncio.create_task(entered(url, PATIENCE_SECONDS))
        for _ in range(5):
            (await script.peer()).hang_up()
        await left(await script.peer())
        assert await opening

    (line,) = (each for each in logs if each["event"] == "waiting for the broker")
    assert line["log_level"] == "warning"
    assert line["address"] == str(url.with_password("***"))
    assert line["reason"]
    assert "AMQP_URL" in line["advice"]


async def test_a_login_refused_to_a_running_service_is_tried_again(script: Script) -> None:
    """An operator who changes a password first does it for one side: the service stays."""

    async def welcome() -> None:
        peer = await script.peer()
        await peer.welcome()
        peer.hang_up()
        refusing = await script.peer()
        await refusing.start()
        refusing.say(commands.Connection.Close(403, "ACCESS_REFUSED", 0, 0))
        await (await script.peer()).welcome()

    async def is_up() -> bool:
        return connection.is_up

    welcoming = asyncio.create_task(welcome())
    with structlog.testing.capture_logs() as logs:
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            Connection.open([script.url], "tests", 0) as connection,
        ):
            await welcoming
            await until(is_up)

    assert any("refuses the login" in str(each.get("reason")) for each in logs)


async def test_exchanges_queues_and_bindings_are_made(vhost: str, steady: Connection) -> None:
    """Declaring is repeatable; a queue with other arguments is an error."""
    exchanges = [Exchange("rest", "fanout"), Exchange("work", "topic", "rest")]
    queues = [
        Queue("a", None, (Binding("work", "a.*"),), {"x-max-length": 10}),
        Queue("others", None, (Binding("rest", ""),), {}),
    ]
    for _ in range(2):
        await declare(vhost, exchanges, queues)
    publisher = Publisher(steady, "tests")
    for number, key in enumerate(("a.b", "c")):
        await publisher.publish(Publishing("work", key, "t", b"", f"m{number}", "c"))

    assert [await waiting(steady, name) for name in ("a", "others")] == [1, 1]
    with pytest.raises(Unavailable, match="PRECONDITION_FAILED"):
        await declare(vhost, [], [Queue("a", None, (), {"x-max-length": 11})])
