"""`ops topology program` on a real broker."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import aio_pika
import pytest

from ops import program
from ops.__main__ import main
from ops.broker import BrokerError, ManagementError
from ops.broker import RabbitServer as Node
from shared import rabbitmq, rights, topology
from shared.topology import EVENTS, Binding, shard_of
from tests.tap import depth, publish_raw

pytestmark = pytest.mark.rabbit

NAME = "my-shop"
QUEUE = f"{NAME}.events"
LIMITS = {"max-connections": 50, "max-channels": 200}

Run = Callable[..., int]


@pytest.fixture
def run(rabbit: Node, vhost: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run the command with an administrator's addresses in the environment."""
    monkeypatch.setenv("AMQP_URL", vhost)
    monkeypatch.setenv("RABBITMQ_MANAGEMENT_URL", rabbit.address.management_url)
    yield lambda *words: main(["topology", "program", *words])
    program.remove(rabbit.address.management, name_of(vhost), NAME)


def name_of(url: str) -> str:
    """Return the name of a vhost, which has no special characters."""
    return urlsplit(url).path.removeprefix("/")


def bindings(rabbit: Node, vhost: str) -> set[str]:
    """Return the keys of the queue's bindings."""
    path = f"/queues/{name_of(vhost)}/{QUEUE}/bindings"
    found: Any = rabbit.address.management.request("GET", path)
    return {each["routing_key"] for each in found if each["source"] == EVENTS}


def account(rabbit: Node) -> dict[str, Any]:
    """Return the broker's record of the user, empty when there is none."""
    found: Any = rabbit.address.management.request("GET", "/users")
    return next((each for each in found if each["name"] == NAME), {})


def test_the_url_that_is_printed_logs_in(
    run: Run, rabbit: Node, vhost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Standard output is the URL alone; queue and limits are there."""
    assert run(NAME) == 0

    captured = capsys.readouterr()
    url = captured.out.strip()
    assert urlsplit(url).username == NAME
    assert captured.err == f"its own shard for mail is {shard_of(NAME)}\n"
    assert asyncio.run(depth(url, QUEUE)) == 0
    assert bindings(rabbit, vhost) == {"email.#", "report.#"}
    assert account(rabbit)["limits"] == LIMITS


def test_the_password_of_the_environment_is_used(
    run: Run, vhost: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A password of the environment may have any characters."""
    monkeypatch.setenv("MY_SHOP_AMQP_PASSWORD", "a/b@c:d ü")

    assert run(NAME) == 0

    place = urlsplit(vhost).netloc.rpartition("@")[2]
    url = f"amqp://{NAME}:{quote('a/b@c:d ü', safe='')}@{place}{urlsplit(vhost).path}"
    assert capsys.readouterr().out == f"{url}\n"
    assert asyncio.run(depth(url, QUEUE)) == 0


def test_again_keeps_password_limits_and_events(
    run: Run, rabbit: Node, vhost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A repetition keeps password, limits and events, and restores the least rights."""
    management, name = rabbit.address.management, name_of(vhost)
    run(NAME)
    url = capsys.readouterr().out.strip()
    asyncio.run(publish_raw(vhost, QUEUE, b"{}"))
    management.request("PUT", f"/user-limits/{NAME}/max-channels", {"value": 7})
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    management.request("PUT", f"/permissions/{name}/{NAME}", everything)

    assert run(NAME) == 0

    captured = capsys.readouterr()
    assert urlsplit(captured.out.strip()).password is None
    assert f"the password of {NAME} was kept" in captured.err
    assert asyncio.run(depth(url, QUEUE)) == 1
    assert account(rabbit)["limits"] == LIMITS | {"max-channels": 7}
    rights: Any = management.request("GET", f"/permissions/{name}/{NAME}")
    assert rights["configure"] == "^$"
    assert rights["write"] == r"^mail\.commands$"
    assert rights["read"] == r"^my-shop\.events$"


def test_the_bindings_become_those_that_are_asked_for(run: Run, rabbit: Node, vhost: str) -> None:
    """Other bindings of the queue are removed."""
    run(NAME)
    path = f"/bindings/{name_of(vhost)}/e/{EVENTS}/q/{QUEUE}"
    strange = {"routing_key": "a #/ü", "arguments": {"x": 1}}
    rabbit.address.management.request("POST", path, strange)

    assert run(NAME, "--event", "email.bounced", "--event", "email.failed") == 0
    assert bindings(rabbit, vhost) == {"email.bounced", "email.failed"}

    assert run(NAME) == 0
    assert bindings(rabbit, vhost) == {"email.#", "report.#"}


async def test_the_topology_may_be_declared_before_or_after(rabbit: Node, vhost: str) -> None:
    """The order of `ops topology declare` and `program` does not matter."""
    program.make(rabbit.address.management, name_of(vhost), NAME)
    await rabbitmq.declare(vhost, topology.EXCHANGES, topology.queues())
    program.make(rabbit.address.management, name_of(vhost), NAME)
    program.remove(rabbit.address.management, name_of(vhost), NAME)


def test_it_may_publish_to_its_own_shard_alone(
    run: Run, vhost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the key that is printed its mail waits in its shard; it cannot fill that of another."""
    asyncio.run(rabbitmq.declare(vhost, topology.EXCHANGES, topology.queues()))
    run(NAME)
    url, own = capsys.readouterr().out.strip(), shard_of(NAME)

    asyncio.run(publish(url, f"email.send.bulk.{own}"))
    with pytest.raises(aio_pika.exceptions.ChannelClosed, match="ACCESS_REFUSED"):
        asyncio.run(publish(url, f"email.send.bulk.{own + 1}"))

    assert asyncio.run(depth(vhost, f"sender.bulk.{own}")) == 1


async def publish(url: str, key: str) -> None:
    """Publish a command as a program does."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        commands = await channel.get_exchange(topology.COMMANDS, ensure=False)
        await commands.publish(aio_pika.Message(b"{}"), key)


def test_a_removed_program_has_neither_user_nor_queue(run: Run, rabbit: Node, vhost: str) -> None:
    """A removal closes the connections, and can be repeated."""
    run(NAME)

    assert [run(NAME, "--remove"), run(NAME, "--remove")] == [0, 0]

    assert account(rabbit) == {}
    with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
        asyncio.run(depth(vhost, QUEUE))


def test_what_a_program_declared_itself_is_reported(
    run: Run, rabbit: Node, vhost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Other queues of the program are listed, since they may still refuse events."""
    management, name = rabbit.address.management, name_of(vhost)
    management.request("PUT", f"/queues/{name}/{NAME}.refusing", {"durable": True})
    management.request("PUT", f"/exchanges/{name}/{NAME}.own", {"type": "fanout"})
    management.request("PUT", f"/queues/{name}/{NAME}2.events", {"durable": True})

    assert run(NAME) == 0

    printed = capsys.readouterr().err
    assert f"also there: the queue {NAME}.refusing;" in printed
    assert f"also there: the exchange {NAME}.own;" in printed
    assert f"{NAME}2" not in printed
    assert f"{QUEUE};" not in printed


def test_a_queue_with_other_arguments_is_reported(
    run: Run, rabbit: Node, vhost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A queue with other arguments is an error, and nothing is changed."""
    body = {"durable": True, "arguments": {"x-expires": 86_400_000}}
    rabbit.address.management.request("PUT", f"/queues/{name_of(vhost)}/{QUEUE}", body)

    assert run(NAME) == 1

    assert "inequivalent arg" in capsys.readouterr().err
    assert account(rabbit) == {}


@pytest.mark.parametrize(
    "name", ["gateway", "mail", "delay", "amq", "postrider", "Shop", "my.shop", "", "a" * 51]
)
def test_a_reserved_or_strange_name_is_refused(
    run: Run, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A program cannot have the name of a service."""
    with pytest.raises(SystemExit) as ended:
        run(name)

    assert ended.value.code == 2
    assert "NAME" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["code.issued", "#", "email.#", "email.delivred"])
def test_an_event_without_a_program_is_refused(
    run: Run, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown event is refused, with the list of events."""
    with pytest.raises(SystemExit) as ended:
        run(NAME, "--event", key)

    assert ended.value.code == 2
    assert "email.delivered" in capsys.readouterr().err


@pytest.mark.parametrize("act", [program.make, program.remove])
def test_an_administrator_is_no_program(rabbit: Node, vhost: str, act: Callable[..., Any]) -> None:
    """A user with tags is not changed."""
    management = rabbit.address.management
    management.request("PUT", f"/users/{NAME}", {"password": "x", "tags": "monitoring"})
    try:
        with pytest.raises(BrokerError, match="monitoring"):
            act(management, name_of(vhost), NAME)
        assert "monitoring" in account(rabbit)["tags"]
    finally:
        management.request("DELETE", f"/users/{NAME}")


def test_no_more_connections_than_the_limit(
    rabbit: Node, vhost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broker refuses one more connection than the limit."""
    monkeypatch.setattr(rights, "PROGRAM_LIMITS", {"max-connections": 1})
    management = rabbit.address.management
    url = program.login(vhost, NAME, program.make(management, name_of(vhost), NAME))

    async def connect_twice() -> None:
        async with await aio_pika.connect(url):
            with pytest.raises(aio_pika.exceptions.AMQPError):
                await aio_pika.connect(url)

    try:
        asyncio.run(connect_twice())
    finally:
        program.remove(management, name_of(vhost), NAME)


def test_an_unknown_vhost_is_reported(rabbit: Node) -> None:
    """An unknown vhost is an error before a user is made."""
    with pytest.raises(ManagementError, match="404"):
        program.make(rabbit.address.management, "no-such-vhost", NAME)

    assert account(rabbit) == {}


def test_a_program_s_queue_never_refuses() -> None:
    """A full queue drops events: a refusal would nack them for all (issue 10, A13)."""
    queue = rights.program_queue("shop")

    assert queue.name == "shop.events"
    assert queue.bindings == (Binding(EVENTS, "email.#"), Binding(EVENTS, "report.#"))
    assert queue.arguments == {
        "x-queue-type": "quorum",
        "x-overflow": "drop-head",
        "x-max-length": 100_000,
        "x-delivery-limit": 20,
    }
