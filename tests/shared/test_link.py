"""A link: connected for as long as it is open, whatever becomes of its connections."""

import asyncio
from urllib.parse import urlsplit

import pytest
import structlog
from pamqp import commands
from yarl import URL

from shared import link as module
from shared.amqp import declaration
from shared.amqp.channel import Channel
from shared.amqp.errors import Closed
from shared.errors import Unavailable
from shared.link import Link
from tests.proxy import Proxy
from tests.shared.amqp.scripted import Peer, Script
from tests.waiting import until

SECONDS = 20.0  # that a test waits for anything


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again sooner than a service does."""
    monkeypatch.setattr(module, "RECONNECT_SECONDS", 0.02)


async def welcome(script: Script) -> Peer:
    """Let the next connection in."""
    peer = await script.peer()
    await peer.start()
    await peer.tune(10, 0, 0)
    return peer


async def ask_for_ever(channel: Channel) -> None:
    """Use a channel until it is gone."""
    while True:
        await declaration.queue(channel, "q", {})


async def test_a_lost_connection_comes_back(vhost: str) -> None:
    """By itself, as often as it is lost; who asks for a channel waits for it."""
    async with (
        Proxy.to(urlsplit(vhost).port or 0) as proxy,
        Link.open(URL(vhost).with_port(proxy.port), "tests", 0) as link,
    ):
        for _ in range(3):
            channel = await link.channel()
            proxy.cut()
            with pytest.raises(Closed, match="lost"):
                await ask_for_ever(channel)
            assert not link.is_up
            async with asyncio.timeout(SECONDS):
                await declaration.queue(await link.channel(), "q", {})


async def test_a_network_at_a_stand_is_noticed(vhost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the heartbeats that do not come; when it moves again the link is back."""
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.3)

    async def is_down() -> bool:
        return not link.is_up

    async with (
        Proxy.to(urlsplit(vhost).port or 0) as proxy,
        Link.open(URL(vhost).with_port(proxy.port), "tests", 0, heartbeat=1) as link,
    ):
        proxy.hold()
        await until(is_down)
        waiting = asyncio.create_task(link.channel())
        monkeypatch.setattr(module, "CONNECT_SECONDS", SECONDS)
        proxy.let_go()
        async with asyncio.timeout(SECONDS):
            await declaration.queue(await waiting, "q", {})


async def entered(url: URL, patience: float) -> bool:
    """Open a link and leave it."""
    async with Link.open(url, "tests", patience) as link:
        return link.is_up


async def test_a_broker_that_is_starting_is_waited_for(script: Script) -> None:
    """For as long as the patience lasts, whatever it says until then."""
    opening = asyncio.create_task(entered(script.url, SECONDS))
    (await script.peer()).hang_up()
    refusing = await script.peer()
    await refusing.start()
    refusing.say(commands.Connection.Close(541, "INTERNAL_ERROR", 0, 0))

    peer = await welcome(script)
    await peer.hear(commands.Connection.Close)
    peer.say(commands.Connection.CloseOk())

    assert await opening


async def test_a_refused_login_is_not_waited_for(script: Script) -> None:
    """It would be refused again; what to check is told, the password is not."""
    opening = asyncio.create_task(entered(script.url.with_user("a").with_password("s3cret"), 99))
    peer = await script.peer()
    await peer.start()
    peer.say(commands.Connection.Close(403, "ACCESS_REFUSED", 0, 0))

    with pytest.raises(Unavailable, match=r"\*\*\*@.* refuses the login: ACCESS_REFUSED") as caught:
        await opening
    assert str(caught.value).endswith("; check user and password in AMQP_URL")
    assert "s3cret" not in str(caught.value)


async def test_a_refused_virtual_host_is_not_waited_for(script: Script) -> None:
    """It is told as such, with the part of the address that names it."""
    opening = asyncio.create_task(entered(script.url.with_path("/nowhere"), 99))
    peer = await script.peer()
    await peer.start()
    peer.say(commands.Connection.Tune(10, 0, 0))
    await peer.hear(commands.Connection.TuneOk)
    await peer.hear(commands.Connection.Open)
    peer.say(commands.Connection.Close(530, "NOT_ALLOWED - vhost nowhere not found", 0, 0))

    with pytest.raises(
        Unavailable, match=r"/nowhere refuses the virtual host: NOT_ALLOWED"
    ) as told:
        await opening
    assert str(told.value).endswith("; check path in AMQP_URL")


async def test_a_broker_that_is_waited_for_is_logged(script: Script) -> None:
    """A line says where, why and what to do, for tries of which there may be many."""
    url = script.url.with_user("a").with_password("s3cret")
    with structlog.testing.capture_logs() as logs:
        opening = asyncio.create_task(entered(url, SECONDS))
        for _ in range(5):
            (await script.peer()).hang_up()
        peer = await welcome(script)
        await peer.hear(commands.Connection.Close)
        peer.say(commands.Connection.CloseOk())
        assert await opening

    (line,) = (each for each in logs if each["event"] == "waiting for the broker")
    assert line["log_level"] == "warning"
    assert line["address"] == str(url.with_password("***"))
    assert line["reason"]
    assert "AMQP_URL" in line["advice"]


async def test_a_login_refused_to_a_running_service_is_tried_again(script: Script) -> None:
    """An operator who changes a password first does it for one side: the service stays."""
    opening = asyncio.create_task(welcome(script))
    async with Link.open(script.url, "tests", 0) as link:
        with structlog.testing.capture_logs() as logs:
            (await opening).hang_up()
            peer = await script.peer()
            await peer.start()
            peer.say(commands.Connection.Close(403, "ACCESS_REFUSED", 0, 0))
            peer = await welcome(script)
            asking = asyncio.create_task(link.channel())
            await peer.open_channel(1)
            await asking
        peer.hang_up()

    assert any("refuses the login" in str(each.get("reason")) for each in logs)


async def test_a_peer_that_says_nothing_is_not_waited_for(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One try has its limit, and what it ended by has a name."""
    monkeypatch.setattr(module, "CONNECT_SECONDS", 0.05)

    with pytest.raises(Unavailable, match="does not answer: TimeoutError"):
        await entered(script.url, 0)
    assert await (await script.peer()).ended()


@pytest.mark.parametrize("at", ["connecting", "greeting", "waiting"])
async def test_a_link_can_be_left_while_it_comes_back(
    script: Script, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """At once, with no connection and no task left behind."""
    monkeypatch.setattr(module, "RECONNECT_SECONDS", SECONDS)
    before = asyncio.all_tasks()
    opening = asyncio.create_task(welcome(script))
    async with asyncio.timeout(SECONDS), Link.open(script.url, "tests", 0) as link:
        (await opening).hang_up()
        if at != "connecting":
            peer = await script.peer()
            if at == "waiting":
                peer.hang_up()
            else:
                await peer.start()
        await link._connection.lost.wait()

    assert asyncio.all_tasks() == before
    if at == "greeting":
        assert await peer.ended()


async def test_publishers_are_let_go_one_after_the_other(script: Script) -> None:
    """Who was let go first may fill the way again; the others wait on."""
    opening = asyncio.create_task(welcome(script))
    async with Link.open(script.url, "tests", 0) as link:
        peer = await opening
        way = link._connection.writable
        way.clear()
        let_go: asyncio.Queue[int] = asyncio.Queue()

        async def write(number: int) -> None:
            await link.writable()
            let_go.put_nowait(number)
            way.clear()

        writers = [asyncio.create_task(write(number)) for number in range(3)]
        for number in range(3):
            await asyncio.sleep(0)
            assert let_go.empty()
            way.set()
            assert await let_go.get() == number
        await asyncio.gather(*writers)
        peer.hang_up()
