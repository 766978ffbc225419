"""Tests of the door with a real gateway and a real broker: its ports, its end, its certificate."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import trustme

from services.gateway import service as gateway
from services.inbound import service
from services.inbound.config import InboundSettings
from shared import topology
from shared.contracts import SendEmail, decode
from tests.gateway.api_client import ApiClient, declare
from tests.gateway.api_client import settings as gateway_settings
from tests.inbound.doors import MAIL, Clients, Door, code, files_of, plain
from tests.tap import tapped


@pytest.fixture
def files(authority: trustme.CA, tmp_path: Path) -> tuple[Path, Path]:
    """Write a certificate for 127.0.0.1 and its key."""
    return files_of(authority, tmp_path)


def inbound_settings(vhost: str, files: tuple[Path, Path], **more: object) -> InboundSettings:
    """Return settings of an inbound on free ports."""
    chain, key = files
    values: dict[str, object] = {
        "amqp_url": vhost,
        "inbound_submission_port": 0,
        "inbound_submission_tls_port": 0,
        "inbound_submission_certificate": chain,
        "inbound_submission_certificate_key": key,
    }
    return InboundSettings.model_validate(values | more)


@asynccontextmanager
async def served(settings: InboundSettings, trusting: ssl.SSLContext) -> AsyncIterator[Door]:
    """Run inbound; yield its door, of which this process sees the ports alone."""
    async with service.serving(settings) as ports:
        assert ports is not None
        yield Door(trusting, Clients(), ports.starttls, ports.tls)


async def test_whole(
    vhost: str,
    tmp_path: Path,
    http: aiohttp.ClientSession,
    files: tuple[Path, Path],
    trusting: ssl.SSLContext,
) -> None:
    """A client of the gateway logs in by its key, and its mail is on its queue before the 250."""
    await declare(vhost)
    async with (
        gateway.serving(gateway_settings(vhost, tmp_path), asyncio.Event()) as port,
        served(inbound_settings(vhost, files), trusting) as door,
        tapped(vhost, topology.COMMANDS) as commands,
    ):
        start = ApiClient(http, f"http://127.0.0.1:{port}")
        api = await start.registered("shop", senders=["@shop.example"])
        async with door.talk() as talk:
            assert await talk.say(b"EHLO me", plain("shop", "wrong")) == ["250", "535 5.7.8"]
            assert await talk.say(plain("shop", api.key)) == ["235 2.7.0"]
            assert code(await talk.ask(b"MAIL FROM:<ann@other.example>")) == "550 5.7.1"
            assert code(await talk.send(MAIL)) == "250 2.0.0"
        messages = [await commands.next() for _ in range(3)]

    asked = [each for each in messages if each.type == "client.authenticate"]
    (sent,) = [each for each in messages if each not in asked]
    command = decode(sent.type or "", sent.body)
    assert isinstance(command, SendEmail)
    assert (command.client, command.recipients) == ("shop", ("bob@x.example",))


async def test_no_queue(
    vhost: str,
    tmp_path: Path,
    http: aiohttp.ClientSession,
    files: tuple[Path, Path],
    trusting: ssl.SSLContext,
) -> None:
    """Where no queue takes a mail there is no 250."""
    await declare(vhost, (topology.GATEWAY_QUESTIONS,))
    async with (
        gateway.serving(gateway_settings(vhost, tmp_path), asyncio.Event()) as port,
        served(inbound_settings(vhost, files), trusting) as door,
    ):
        api = await ApiClient(http, f"http://127.0.0.1:{port}").registered("shop")
        async with door.talk() as talk:
            await talk.say(b"EHLO me", plain("shop", api.key))
            assert code(await talk.send(MAIL)) == "451 4.3.0"


async def test_gateway_away(vhost: str, files: tuple[Path, Path], trusting: ssl.SSLContext) -> None:
    """Without a gateway a login is refused for now, within the time for an answer."""
    await declare(vhost)
    settings = inbound_settings(vhost, files, inbound_answer_seconds=0.2)
    async with served(settings, trusting) as door, door.talk() as talk:
        assert await talk.say(b"EHLO me", plain()) == ["250", "454 4.7.0"]


async def test_end(vhost: str, files: tuple[Path, Path], trusting: ssl.SSLContext) -> None:
    """At the end idle connections get a 421."""
    async with served(inbound_settings(vhost, files), trusting) as door:
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        assert (await reader.readline()).startswith(b"220 localhost")

    assert await reader.read() == b"421 4.3.2 The service ends, try again\r\n"
    writer.close()


async def test_limit(vhost: str, files: tuple[Path, Path], trusting: ssl.SSLContext) -> None:
    """Connections of one address are limited; the place of one that has ended is free."""
    settings = inbound_settings(vhost, files, inbound_submission_max_connections_by_address=1)
    async with served(settings, trusting) as door:
        async with door.talk() as talk:
            reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
            assert (await reader.read()).startswith(b"421 4.7.0")
            writer.close()
            assert await talk.say(b"QUIT") == ["221 2.0.0"]
            assert await talk.reply() == ""
        async with door.talk():
            pass


async def test_no_certificate(vhost: str) -> None:
    """Without a certificate the door stays closed, and inbound runs."""
    async with service.serving(InboundSettings(amqp_url=vhost)) as ports:
        assert ports is None


def test_files(vhost: str, files: tuple[Path, Path], authority: trustme.CA, tmp_path: Path) -> None:
    """A certificate without its key, or with the key of another, is a mistake in the settings."""
    (tmp_path / "other").mkdir()
    other = files_of(authority, tmp_path / "other")[1]
    with pytest.raises(ValueError, match="CERTIFICATE_KEY: must hold a certificate in PEM, and"):
        inbound_settings(vhost, files, inbound_submission_certificate_key=other)
    with pytest.raises(ValueError, match="INBOUND_SUBMISSION_CERTIFICATE_KEY go together"):
        inbound_settings(vhost, files, inbound_submission_certificate_key=None)
    with pytest.raises(ValueError, match="INBOUND_REPORT_CERTIFICATE_KEY go together"):
        inbound_settings(vhost, files, inbound_report_certificate=files[0])
