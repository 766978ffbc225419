"""What one program can do to all others with the rights of docs/publish.md: nothing.

Each test is an attack by "shop" on the real otp service and sender, with the real topology and the
services' own users. It is refused, and the code of a neighbour arrives or is right.
"""

import argparse
import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from ops import dead
from ops import topology as command
from ops.broker import Broker as Node
from ops.simulator.simulator import Simulator
from services.otp import service as otp
from services.otp.config import OtpSettings
from services.sender import service as sender
from services.sender.config import SenderSettings
from shared import delivery, topology
from shared.broker import Broker
from shared.contracts import (
    CancelCode,
    Category,
    CodeIssued,
    CodeVerified,
    Command,
    IssueCode,
    Question,
    SendEmail,
    VerifyCode,
    decode,
    encode,
)
from shared.retry import LADDER
from shared.topology import Owner
from tests.serving import serving
from tests.shop import publish
from tests.tap import Tap, tapped
from tests.waiting import until

pytestmark = [pytest.mark.rabbit, pytest.mark.timeout(120)]

LADDER_SCALE = 0.01
KEY = "1f" * 32
PASSWORDS: Mapping[str, str] = {owner: secrets.token_hex(16) for owner in topology.RUNNING}
DELAY = LADDER[0].name
VICTIM = "bakery"

Headers = dict[str, Any]
Way = Callable[[AbstractChannel, str], Awaitable[tuple[str, str, Headers]]]


@dataclass(frozen=True)
class World:
    """The services at work, a program with few rights, a neighbour, and an observer."""

    shop_url: str
    neighbour: Broker  # publishes as the gateway does
    mailbox: Simulator
    dead: Tap
    codes: Tap  # events

    async def command(self, message: SendEmail, **properties: Any) -> None:  # noqa: ANN401 -- of aio-pika
        """Publish a command as the shop."""
        key = message.routing_key
        await publish(self.shop_url, topology.COMMANDS, key, encode(message), **properties)

    async def smuggle(
        self,
        way: Way,
        message: Command | Question,
        headers: Headers | None = None,
        **properties: Any,  # noqa: ANN401 -- of aio-pika
    ) -> None:
        """Publish as the shop what its topic rights forbid."""
        async with await aio_pika.connect(self.shop_url) as connection:
            channel = await connection.channel()
            exchange, key, more = await way(channel, message.routing_key)
        properties = {"type": message.routing_key, "headers": (headers or {}) | more} | properties
        await publish(self.shop_url, exchange, key, encode(message), **properties)

    async def issued(self) -> tuple[CodeIssued, str]:
        """Have a code mailed to a neighbour's user; return what is told of it, and the code."""
        command = IssueCode(id="n-1", email="user@mail.example", client=VICTIM)
        async with asyncio.timeout(20), self.neighbour.converse(command) as replies:
            issued = await replies.get()
        assert isinstance(issued, CodeIssued)
        await self.arrive(issued.email)
        (mail,) = self.mailbox.mailbox.find(to=issued.email)
        found = re.search(rb"^\d{6}\r$", mail.raw, re.MULTILINE)
        assert found
        return issued, found[0].decode().strip()

    async def arrive(self, *addresses: str, within: float = 40) -> None:
        """Wait until there are mails to all these addresses."""

        async def arrived() -> bool:
            return all(self.mailbox.mailbox.find(to=address) for address in addresses)

        await until(arrived, within)

    async def refused(self, because: str) -> None:
        """Wait for the dead letter with this in its reason."""
        letter = await self.dead.next(20)
        assert letter.reply_to is None
        # Of a command that names a second key a copy lies in the first one's queue.
        if because not in str(letter.headers[delivery.REASON]):
            assert "nobody here takes" in str(letter.headers[delivery.REASON])
            await self.refused(because)

    async def codes_arrive(self, *names: str) -> None:
        """Wait until codes that are asked for now arrive, each at the second attempt or later."""
        for name in names:
            await self.neighbour.publish(
                IssueCode(id=f"code-{name}", email=greylisted(name), client=VICTIM)
            )
        await self.arrive(*map(greylisted, names))


def greylisted(name: str) -> str:
    """Return an address that the relay takes a second after its first refusal."""
    return f"greylist-1@{name}.example"


def login(url: str, owner: Owner) -> str:
    """Return the URL that a service logs in with."""
    account = urlsplit(url).netloc.rpartition("@")[0]
    return url.replace(account, f"{owner}:{PASSWORDS[owner]}")


@pytest.fixture
async def world(rabbit: Node, vhost: str, shop_url: str, tmp_path: Path) -> AsyncIterator[World]:
    """Run the otp service and the sender with users and a topology of their own."""
    address = rabbit.address
    await command.declare(vhost, scale=LADDER_SCALE)
    await command.grant(
        address.management_url,
        address.user,
        address.password,
        unquote(urlsplit(vhost).path[1:]),
        PASSWORDS,
    )
    async with AsyncExitStack() as opened:
        mailbox = await opened.enter_async_context(Simulator())
        sending = sender_settings(vhost, tmp_path / "sender", mailbox.smtp_port)
        await opened.enter_async_context(serving(sender.run, sending))
        await attached(vhost, topology.sending_queue(Category.OTP))
        issuing = otp_settings(vhost, tmp_path / "otp")
        await opened.enter_async_context(serving(otp.run, issuing))
        await attached(vhost, topology.OTP_COMMANDS)
        neighbour = await opened.enter_async_context(
            Broker.connect(login(vhost, Owner.GATEWAY), "gateway")
        )
        letters = await opened.enter_async_context(tapped(vhost, topology.DEAD))
        codes = await opened.enter_async_context(tapped(vhost, topology.EVENTS, "code.*"))
        yield World(shop_url, neighbour, mailbox, letters, codes)
    for owner in PASSWORDS:
        address.management.request("DELETE", f"/users/{owner}")


async def attached(url: str, queue: str) -> None:
    """Wait until somebody consumes a queue. Alembic migrates one database at a time a process."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:

        async def has_consumer() -> bool:
            found = await channel.declare_queue(queue, passive=True)
            return bool(found.declaration_result.consumer_count)

        await until(has_consumer)


def otp_settings(url: str, folder: Path) -> OtpSettings:
    """Return the settings of the otp service."""
    return OtpSettings(
        amqp_url=login(url, Owner.OTP), data_dir=folder, otp_key=KEY, sealing_key=KEY
    )


def sender_settings(url: str, folder: Path, smtp_port: int) -> SenderSettings:
    """Return the settings of the sender."""
    return SenderSettings.load(
        {
            "AMQP_URL": login(url, Owner.SENDER),
            "DATA_DIR": str(folder),
            "SENDER_SMTP_HOST": "127.0.0.1",
            "SENDER_SMTP_PORT": str(smtp_port),
            "SENDER_SMTP_TLS": "none",
            "SENDER_FROM": "post@our.example",
            "SEALING_KEY": KEY,
        }
    )


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
    """Name a second routing key, which RabbitMQ 3.10 does not look at."""
    return topology.COMMANDS, "email.send.bulk", {"CC": [key]}


WAYS = (by_dead_letters, by_a_binding, by_an_alternate, by_a_copy)


@pytest.mark.parametrize("way", WAYS)
async def test_no_code_is_issued_in_another_s_name(world: World, way: Way) -> None:
    """However a command gets there, it is for the client that the broker vouches for, or none."""
    await world.smuggle(way, a_code())
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
    await world.smuggle(by_a_copy, a_code(), {"x-user": stated}, user_id=user_id)

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
