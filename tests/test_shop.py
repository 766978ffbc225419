"""One program cannot harm the others with the rights of docs/publish.md.

Each test is an attack by "shop" on the real otp service and sender, with the real topology and the
services' own users. It is refused, and the code of a neighbour arrives or is right. Some attacks
need a queue or an exchange of the shop's own. The broker refuses those; in tests with `may_declare`
it does not, and the shop is no other client all the same.
"""

import argparse
import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from ops import dead, program
from ops import topology as command
from ops.broker import RabbitServer as Node
from ops.simulator.behaviour import Behaviour
from shared import rights, topology
from shared.contracts import (
    CancelCode,
    Category,
    CodeIssued,
    CodeVerified,
    IssueCode,
    SendEmail,
    VerifyCode,
    decode,
)
from tests.shop import SHOP, publish
from tests.tap import depth, publish_raw, tapped
from tests.waiting import PATIENCE_SECONDS, until
from tests.world import DELAY, VICTIM, Headers, Way, World, greylisted

pytestmark = [pytest.mark.rabbit, pytest.mark.timeout(120)]


def a_mail(count: int = 1) -> SendEmail:
    """Return a mail of the shop to some recipients."""
    to: Sequence[str] = [f"shop-{number}@mail.example" for number in range(count)]
    return SendEmail(id="shop-1", category=Category.BULK, to=tuple(to), subject="s", text="t")


def a_code(client: str | None = VICTIM) -> IssueCode:
    """Return the shop's command to mail a code in the name of another client."""
    return IssueCode(id="shop-1", email="ada@mail.example", client=client)


@pytest.mark.parametrize(
    "reply_to",
    [DELAY, "sender.otp", "amq.rabbitmq.reply-to.!!!.x", "amq.rabbitmq.reply-to.g2EB.x"],
)
async def test_a_reply_goes_to_no_queue_of_the_pipeline(world: World, reply_to: str) -> None:
    """Replies cannot fill a delay queue, nor end the connection that publishes them."""
    await world.command(a_mail(32), reply_to=reply_to)

    await world.refused("reply_to")
    await world.codes_arrive("a", "b", "c")
    assert world.mailbox.mailbox.find(to="shop-1@mail.example") == []
    assert world.dead.empty()


async def test_a_reply_goes_to_no_queue_of_another_program(world: World) -> None:
    """No service publishes for the shop what the shop may not publish itself."""
    for user_id in (None, "shop"):
        await world.command(a_mail(), reply_to="bakery.orders", user_id=user_id)
        await world.refused("reply_to")
    await world.codes_arrive("a")


async def by_dead_letters(shop: AbstractChannel, key: str) -> tuple[str, str, Headers]:
    """Route expired messages of the shop's queue to `mail.commands`, under any key."""
    arguments: Any = {
        "x-message-ttl": 1,
        "x-dead-letter-exchange": topology.COMMANDS,
        "x-dead-letter-routing-key": key,
    }
    own = await shop.declare_exchange("shop.own")
    await (await shop.declare_queue("shop.own", arguments=arguments)).bind(own, "k")
    return own.name, "k", {}


async def by_a_binding(shop: AbstractChannel, key: str) -> tuple[str, str, Headers]:
    """Bind `mail.commands` to an exchange of the shop's own."""
    own = await shop.declare_exchange("shop.own", "fanout")
    to = await shop.get_exchange(topology.COMMANDS, ensure=False)
    await to.bind(own, "")
    return own.name, key, {}


async def by_an_alternate(shop: AbstractChannel, key: str) -> tuple[str, str, Headers]:
    """Make `mail.commands` the alternate of an exchange of the shop."""
    own = await shop.declare_exchange(
        "shop.own", arguments={"alternate-exchange": topology.COMMANDS}
    )
    return own.name, key, {}


async def by_a_copy(_: AbstractChannel, key: str) -> tuple[str, str, Headers]:
    """Name a second routing key, which RabbitMQ 3.10 does not look at and 4.0 does."""
    return topology.COMMANDS, "email.send.bulk", {"CC": [key]}


OWN_WAYS = (by_dead_letters, by_a_binding, by_an_alternate)


@pytest.mark.parametrize("way", [*OWN_WAYS, by_a_copy])
async def test_no_code_is_issued_in_another_s_name(
    world: World, way: Way, request: pytest.FixtureRequest
) -> None:
    """A command is for the client that the broker names as its user, however it was published."""
    if way in OWN_WAYS:
        request.getfixturevalue("may_declare")
    try:
        await world.smuggle(way, a_code())
    except aio_pika.exceptions.ChannelClosed as error:  # RabbitMQ 4.0 looks at CC
        assert way is by_a_copy, error  # noqa: PT017 -- it is no error on 3.10
        await world.codes_arrive("a")
        return
    await world.refused("user_id")
    await world.smuggle(way, a_code(), user_id="shop")

    event = await world.codes.next(20)
    issued = decode(str(event.type), event.body)
    assert isinstance(issued, CodeIssued)
    assert issued.client == "shop"
    await world.codes_arrive("a")


@pytest.mark.usefixtures("may_declare")
async def test_a_neighbour_s_code_is_neither_guessed_nor_cancelled(world: World) -> None:
    """The shop's guesses and its cancellation in the neighbour's name do not reach his code."""
    issued, code = await world.issued()
    wrong = str((int(code) + 1) % 10 ** len(code)).zfill(len(code))
    for user_id in (None, "shop"):
        for number in range(5):
            guess = VerifyCode(
                id=f"g-{user_id}-{number}", email=issued.email, code=wrong, client=VICTIM
            )
            await world.smuggle(by_a_binding, guess, user_id=user_id)
        cancel = CancelCode(id=f"c-{user_id}", challenge_id=issued.challenge_id, client=VICTIM)
        await world.smuggle(by_a_binding, cancel, user_id=user_id)
    await world.refused("user_id")

    right = VerifyCode(id="v", email=issued.email, code=code, client=VICTIM)
    assert isinstance(await world.neighbour.ask(right, within=PATIENCE_SECONDS), CodeVerified)


@pytest.mark.usefixtures("may_declare")
@pytest.mark.parametrize(("user_id", "stated"), [("shop", "gateway"), (None, ""), (None, ["otp"])])
async def test_no_header_makes_a_copy(world: World, user_id: str | None, stated: object) -> None:
    """Headers between services are not believed of a program."""
    await world.smuggle(by_a_binding, a_code(), {"x-user": stated}, user_id=user_id)

    await world.refused("x-user")
    await world.codes_arrive("a")


async def test_the_largest_mail_that_waits_holds_nothing_up(world: World, vhost: str) -> None:
    """The copy for its next attempt is larger, and still within what the broker takes."""
    world.mailbox.behaviour = Behaviour(size_limit=64 << 20)
    mail = {"id": "l-1", "to": [greylisted("s")], "subject": "s", "text": ""}
    octets, letter = SendEmail.max_bytes - len(json.dumps(mail)), "\U0001d11e"  # in 4 octets
    mail["text"] = letter * (octets // 4) + "x" * (octets % 4)
    body = json.dumps(mail, ensure_ascii=False).encode()
    assert len(body) == SendEmail.max_bytes
    async with tapped(vhost, topology.EVENTS, "email.*") as events:
        await publish(world.shop_url, topology.COMMANDS, "email.send.transactional", body)
        assert (await events.next(60)).type == "email.deferred"

    letters: Any = (await world.dead.next(60)).headers["x-death"]
    assert letters[0]["queue"] == "sender.transactional"
    await world.codes_arrive("a")


async def test_a_forged_count_holds_nothing_up(world: World) -> None:
    """A count that no header can hold does not stop the retries of a mail."""
    again = SendEmail(
        id="shop-1", category=Category.BULK, to=(greylisted("s"),), subject="s", text="t"
    )
    story = {"x-attempt": 2**63 - 1, "x-origin": "otp.commands", "x-cause": "rejected"}
    await world.command(again, headers=story)

    await world.arrive(greylisted("s"))
    await world.codes_arrive("a")


@pytest.mark.parametrize("user_id", [None, "shop"])
async def test_a_neighbour_s_mail_is_not_taken_over_by_its_id(
    world: World, vhost: str, user_id: str | None
) -> None:
    """The shop reuses the id of a neighbour's mail, and both mails are sent."""
    to = greylisted("n")
    mail = SendEmail(id="n-1", to=(to,), subject="neighbour's", text="t", client=VICTIM)
    async with tapped(vhost, topology.EVENTS, "email.deferred") as deferred:
        await world.neighbour.publish(mail)
        await deferred.next(20)
    for attempt in (1, 2, 50):
        stolen = SendEmail(id="n-1", to=(to,), subject="shop's", text="t", attempt=attempt)
        await world.command(stolen, user_id=user_id)

    async def arrived() -> bool:
        found = world.mailbox.mailbox.find(to=to)
        return any(each.headers["Subject"] == "neighbour's" for each in found)

    await until(arrived, 40)


async def test_the_broker_refuses_another_user_s_name(world: World) -> None:
    """A user_id is the connection's own or the message is refused where it is published."""
    with pytest.raises(aio_pika.exceptions.ChannelClosed, match="PRECONDITION_FAILED"):
        await world.command(a_mail(), user_id="gateway")
    await world.codes_arrive("a")


@pytest.mark.usefixtures("may_declare")
async def test_a_replay_is_still_the_shop_s(world: World, vhost: str) -> None:
    """A replayed dead letter keeps the user of its first publisher."""
    for user_id, name in (("shop", "shop-1"), (None, "shop-2")):
        code = a_code().model_copy(update={"id": name})
        await world.smuggle(by_a_binding, code, reply_to="bakery.orders", user_id=user_id)
        await world.refused("reply_to")
    replay = ["replay", "otp.commands.dead", "--all", "--amqp-url", vhost]

    assert await asyncio.to_thread(operate, *replay) == 0

    event = await world.codes.next(20)
    issued = decode(str(event.type), event.body)
    assert isinstance(issued, CodeIssued)
    assert issued.client == "shop"
    await world.refused("user_id")
    await world.codes_arrive("a")


def operate(*words: str) -> int:
    """Run `ops dead` as the operator."""
    parser = argparse.ArgumentParser()
    dead.add_arguments(parser)
    return dead.run(parser.parse_args(words))


@pytest.mark.parametrize("exchange", [DELAY, topology.DEAD, topology.EVENTS, ""])
async def test_nothing_of_the_shop_s_leads_to_our_other_exchanges(
    vhost: str, may_declare: str, exchange: str
) -> None:
    """Not by dead letters, not by an alternate, not by a binding: the broker refuses each."""
    await command.declare(vhost)
    async with await aio_pika.connect(may_declare) as connection:
        with refused_by_the_broker():
            dying: Any = {"x-dead-letter-exchange": exchange}
            await (await connection.channel()).declare_queue("shop.a", arguments=dying)
        with refused_by_the_broker():
            other: Any = {"alternate-exchange": exchange}
            await (await connection.channel()).declare_exchange("shop.b", arguments=other)
        with refused_by_the_broker():
            channel = await connection.channel()
            own = await channel.declare_exchange("shop.c", "fanout")
            to = await channel.get_exchange(exchange or "amq.topic", ensure=False)
            await to.bind(own, "")


async def refuse_events(shop: AbstractChannel) -> None:
    """Refuse every event past the first, so that the broker nacks it to its publisher."""
    arguments: Any = {"x-max-length": 1, "x-overflow": "reject-publish"}
    await (await shop.declare_queue("shop.refusing", arguments=arguments)).bind(
        topology.EVENTS, "email.#"
    )


async def hoard_events(shop: AbstractChannel) -> None:
    """Keep every event for ever."""
    await (await shop.declare_queue("shop.hoard")).bind(topology.EVENTS, "email.#")


async def hoard_for_itself(shop: AbstractChannel) -> None:
    """Declare a queue that the broker names."""
    await shop.declare_queue(exclusive=True)


async def bind_more(shop: AbstractChannel) -> None:
    """Bind codes to the shop's queue."""
    queue = await shop.get_queue("shop.events", ensure=False)
    await queue.bind(topology.EVENTS, "code.#")


async def unbind(shop: AbstractChannel) -> None:
    """Remove a binding."""
    queue = await shop.get_queue("shop.events", ensure=False)
    await queue.unbind(topology.EVENTS, "email.#")


async def delete(shop: AbstractChannel) -> None:
    """Delete the queue, to declare another one."""
    await (await shop.get_queue("shop.events", ensure=False)).delete()


async def read_others(shop: AbstractChannel) -> None:
    """Read the sender's queue."""
    await (await shop.get_queue("sender.bulk", ensure=False)).get(fail=False)


async def fill_a_queue(shop: AbstractChannel) -> None:
    """Write to a queue by its name."""
    await shop.default_exchange.publish(aio_pika.Message(b"{}"), "shop.events")


async def make_an_event(shop: AbstractChannel) -> None:
    """Publish an outcome of a mail."""
    events = await shop.get_exchange(topology.EVENTS, ensure=False)
    await events.publish(aio_pika.Message(b"{}"), "email.delivered")


async def send_a_code(shop: AbstractChannel) -> None:
    """Publish a command of another key."""
    commands = await shop.get_exchange(topology.COMMANDS, ensure=False)
    await commands.publish(aio_pika.Message(b"{}"), "code.issue")


def leading(way: Way) -> Callable[[AbstractChannel], Awaitable[object]]:
    """Return the part of an attack that declares a path to `mail.commands`."""
    return lambda shop: way(shop, "code.issue")


FORBIDDEN: Mapping[str, Callable[[AbstractChannel], Awaitable[object]]] = {
    each.__name__: each
    for each in (
        refuse_events,
        hoard_events,
        hoard_for_itself,
        bind_more,
        unbind,
        delete,
        read_others,
        fill_a_queue,
        make_an_event,
        send_a_code,
    )
} | {way.__name__: leading(way) for way in OWN_WAYS}


async def test_the_broker_refuses_all_that_would_be_the_shop_s_own(
    vhost: str, shop_url: str
) -> None:
    """A program configures nothing, and publishes and reads no more than docs/publish.md says."""
    await command.declare(vhost)
    async with await aio_pika.connect(shop_url) as connection:
        for act in FORBIDDEN.values():
            with refused_by_the_broker():
                await act(await connection.channel())

    await publish_raw(vhost, "shop.events", b"{}")
    assert await depth(vhost, "shop.events") == 1


async def test_a_full_queue_of_a_program_stops_no_other(
    world: World, vhost: str, rabbit: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that does not read loses its oldest events; the outcomes of all are published."""
    monkeypatch.setattr(rights, "MAX_PROGRAM_EVENTS", 1)
    name = vhost.rpartition("/")[2]
    management = rabbit.address.management
    program.remove(management, name, SHOP)
    program.make(management, name, SHOP)

    async with tapped(vhost, topology.EVENTS, "email.delivered") as delivered:
        for number in range(5):
            await world.neighbour.publish(
                SendEmail(id=f"n-{number}", to=("ada@mail.example",), subject="s", text="t")
            )
        ids = {(await delivered.next(20)).correlation_id for _ in range(5)}

    assert ids == {f"n-{number}" for number in range(5)}
    await world.codes_arrive("a")
    assert await depth(vhost, "shop.events") == 1


@contextmanager
def refused_by_the_broker() -> Iterator[None]:
    """Expect that the broker closes the channel because a right is missing."""
    try:
        yield
    except aio_pika.exceptions.ChannelClosed as error:
        assert "ACCESS_REFUSED" in str(error)  # noqa: PT017 -- several statements lead to it
    else:
        pytest.fail("the broker allows it")
