"""What one program can do to all others with the rights of docs/publish.md: nothing.

Each test is an attack by "shop" on the real otp service and sender, with the real topology and the
services' own users. It is refused, and the code of a neighbour arrives.
"""

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import aio_pika
import pytest

from ops import topology as command
from ops.broker import Broker as Node
from ops.simulator.simulator import Simulator
from services.otp import service as otp
from services.otp.config import OtpSettings
from services.sender import service as sender
from services.sender.config import SenderSettings
from shared import delivery, topology
from shared.broker import Broker
from shared.contracts import Category, IssueCode, SendEmail, encode
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


@dataclass(frozen=True)
class World:
    """The services at work, a program with few rights, a neighbour, and an observer."""

    shop_url: str
    neighbour: Broker  # publishes as the gateway does
    mailbox: Simulator
    dead: Tap

    async def command(self, message: SendEmail, **properties: Any) -> None:  # noqa: ANN401 -- of aio-pika
        """Publish a command as the shop."""
        key = message.routing_key
        await publish(self.shop_url, topology.COMMANDS, key, encode(message), **properties)

    async def refused(self) -> str:
        """Wait for the next dead letter and return its reason."""
        letter = await self.dead.next(20)
        assert letter.reply_to is None
        return str(letter.headers[delivery.REASON])

    async def codes_arrive(self, *names: str, within: float = 40) -> None:
        """Wait until codes that are asked for now arrive, each at the second attempt or later."""
        mailed = [f"greylist-1@{name}.example" for name in names]
        for name, address in zip(names, mailed, strict=True):
            await self.neighbour.publish(IssueCode(id=f"code-{name}", email=address))

        async def arrived() -> bool:
            return all(self.mailbox.mailbox.find(to=address) for address in mailed)

        await until(arrived, within)


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
        dead = await opened.enter_async_context(tapped(vhost, topology.DEAD))
        yield World(shop_url, neighbour, mailbox, dead)
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


@pytest.mark.parametrize(
    "reply_to",
    [DELAY, "sender.otp", "amq.rabbitmq.reply-to.!!!.x", "amq.rabbitmq.reply-to.g2EB.x"],
)
async def test_a_reply_goes_to_no_queue_of_the_pipeline(world: World, reply_to: str) -> None:
    """Replies cannot fill a delay queue, nor end the connection that publishes them."""
    await world.command(a_mail(32), reply_to=reply_to)

    assert "reply_to" in await world.refused()
    await world.codes_arrive("a", "b", "c")
    assert world.mailbox.mailbox.find(to="shop-1@mail.example") == []
    assert world.dead.empty()
