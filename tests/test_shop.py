"""What one program can do to all others with the rights of docs/publish.md: nothing.

Each test is an attack by "shop" on the real otp service and sender, with the real topology and the
services' own users. It is refused, and the code of a neighbour arrives or is right.
"""

import argparse
import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from ops import dead
from ops import topology as command
from shared import topology
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
from tests.tap import tapped
from tests.waiting import until
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
    """What the shop may not publish there, nobody publishes there for it."""
    for user_id in (None, "shop"):
        await world.command(a_mail(), reply_to="bakery.orders", user_id=user_id)
        await world.refused("reply_to")
    await world.codes_arrive("a")


async def by_dead_letters(shop: AbstractChannel, key: str) -> tuple[str, str, Headers]:
    """Lead to `mail.commands` what expires in a queue of the shop's own, under any key."""
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
    """Have `mail.commands` route what an exchange of the shop's own does not."""
    own = await shop.declare_exchange(
        "shop.own", arguments={"alternate-exchange": topology.COMMANDS}
    )
    return own.name, key, {}


async def by_a_copy(_: AbstractChannel, key: str) -> tuple[str, str, Headers]:
    """Name a second routing key, which RabbitMQ 3.10 does not look at and 4.0 does."""
    return topology.COMMANDS, "email.send.bulk", {"CC": [key]}


WAYS = (by_dead_letters, by_a_binding, by_an_alternate, by_a_copy)


@pytest.mark.parametrize("way", WAYS)
async def test_no_code_is_issued_in_another_s_name(world: World, way: Way) -> None:
    """However a command gets there, it is for the client that the broker vouches for, or none."""
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
    assert isinstance(await world.neighbour.ask(right, within=20), CodeVerified)


@pytest.mark.parametrize(("user_id", "stated"), [("shop", "gateway"), (None, ""), (None, ["otp"])])
async def test_no_header_makes_a_copy(world: World, user_id: str | None, stated: object) -> None:
    """What services tell each other is not believed of a program."""
    await world.smuggle(by_a_binding, a_code(), {"x-user": stated}, user_id=user_id)

    await world.refused("x-user")
    await world.codes_arrive("a")


async def test_a_forged_count_holds_nothing_up(world: World) -> None:
    """A count that no header can hold does not keep a mail from coming again."""
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
    """The shop hears the id of a mail that waits and uses it for its own: both are mails."""
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


async def test_a_replay_is_still_the_shop_s(world: World, vhost: str) -> None:
    """An operator who sends a dead letter back vouches for nothing that it says."""
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
    vhost: str, shop_url: str, exchange: str
) -> None:
    """Not by dead letters, not by an alternate, not by a binding: the broker refuses each."""
    await command.declare(vhost)
    async with await aio_pika.connect(shop_url) as connection:
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


@contextmanager
def refused_by_the_broker() -> Iterator[None]:
    """Expect that the broker closes the channel for want of a right."""
    try:
        yield
    except aio_pika.exceptions.ChannelClosed as error:
        assert "ACCESS_REFUSED" in str(error)  # noqa: PT017 -- several statements lead to it
    else:
        pytest.fail("the broker allows it")
