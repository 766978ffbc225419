"""The otp service and the sender at work for a neighbour, beside a program with few rights."""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel

from ops import topology as command
from ops.broker import RabbitServer as Node
from ops.simulator.simulator import Simulator
from services.otp import service as otp
from services.otp.config import OtpSettings
from services.sender import service as sender
from services.sender.config import SenderSettings
from shared import delivery, topology
from shared.broker import Broker
from shared.contracts import (
    Category,
    CodeIssued,
    Command,
    IssueCode,
    Question,
    SendEmail,
    encode,
)
from shared.retry import DELAYS
from shared.topology import Owner
from tests.sender.senders import environment
from tests.serving import serving
from tests.shop import publish
from tests.tap import Tap, tapped
from tests.waiting import PATIENCE_SECONDS, until

LADDER_SCALE = 0.01
KEY = "1f" * 32
PASSWORDS: Mapping[str, str] = {owner: secrets.token_hex(16) for owner in topology.Owner}
DELAY = DELAYS[0].name
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
        """Ask for a code for a neighbour's user; return the event and the code."""
        command = IssueCode(id="n-1", email="user@mail.example", client=VICTIM)
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            self.neighbour.request_stream(command) as replies,
        ):
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
            assert "has no handler for" in str(letter.headers[delivery.REASON])
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
    """Wait until a queue has a consumer. Alembic migrates one database at a time a process."""
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
        environment(login(url, Owner.SENDER), folder, smtp_port, SEALING_KEY=KEY)
    )
