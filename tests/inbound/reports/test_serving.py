"""Inbound whole: from a mail to its report, by a real broker, ledger, sender and SMTP."""

import asyncio
import os
import smtplib
import socket
import ssl
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import pytest
import trustme

from benchmarks import postfix
from benchmarks.bench import Bench
from ops.broker import BrokerAddress, BrokerPorts
from ops.simulator.simulator import Simulator
from services.inbound import service as inbound
from services.inbound.config import InboundSettings
from services.ledger import service as ledger
from services.ledger.config import LedgerSettings
from services.sender import service as sender
from services.sender.config import SenderSettings
from shared import topology
from shared.broker import Broker
from shared.contracts import (
    Contract,
    DescribeEmail,
    EmailDelivered,
    EmailDescribed,
    ReportBounced,
    SuppressionAdded,
    decode,
)
from shared.rabbitmq import declare
from tests.inbound.doors import files_of
from tests.inbound.reports.mails import BOUNCE_KEY, DOMAIN, a_path, dsn
from tests.inbound.reports.world import TERMS
from tests.inbound.reports.world import serving as door_open
from tests.sender.commands import a_command
from tests.sender.senders import SUPPRESSION_KEY, environment
from tests.serving import serving
from tests.tap import Tap, tapped
from tests.waiting import PATIENCE_SECONDS, until
from tests.world import attached

ANN = "ann@example.org"


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


async def is_ready(port: int) -> bool:
    """Return whether a service is ready."""
    try:
        async with (
            aiohttp.ClientSession() as http,
            http.get(f"http://127.0.0.1:{port}/readyz") as got,
        ):
            return got.status == 200
    except aiohttp.ClientError:
        return False


async def heard(events: Tap, kind: type[Contract]) -> Contract:
    """Wait for the next event of a kind."""
    while True:
        message = await events.next()
        event = decode(message.type or "", message.body)
        if isinstance(event, kind):
            return event


def give(port: int, context: ssl.SSLContext, to: str, content: bytes) -> int:
    """Send a report over TLS as a mail server does; return the code of the reply."""
    with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE_SECONDS) as client:
        client.starttls(context=context)
        client.ehlo("mx.example")
        client.mail("")
        client.rcpt(to)
        return client.data(content)[0]


async def test_a_delivered_mail_bounces(
    vhost: str, tmp_path: Path, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    """A mail under its return path is delivered; the report that comes back there is counted.

    The history shows both, the address is suppressed, and a copy of the report changes nothing.
    """
    await declare(vhost, topology.EXCHANGES, topology.queues(scale=0.01))
    port, health = free_port(), free_port()
    chain, key = files_of(authority, tmp_path)
    books = LedgerSettings(amqp_url=vhost, data_dir=tmp_path, suppression_key=SUPPRESSION_KEY)
    door = InboundSettings.load(
        {
            "AMQP_URL": vhost,
            "DATA_DIR": str(tmp_path),
            "BOUNCE_KEY": BOUNCE_KEY,
            "INBOUND_REPORT_DOMAIN": DOMAIN,
            "INBOUND_REPORT_HOST": "127.0.0.1",
            "INBOUND_REPORT_PORT": str(port),
            "INBOUND_REPORT_CERTIFICATE": str(chain),
            "INBOUND_REPORT_CERTIFICATE_KEY": str(key),
            "INBOUND_REPORT_READERS": "1",
            "INBOUND_ANSWER_SECONDS": "10",
            "HEALTH_HOST": "127.0.0.1",
            "HEALTH_PORT": str(health),
        }
    )
    async with (
        Simulator() as relay,
        tapped(vhost, topology.EVENTS) as events,
        Broker.connect(vhost, "test") as broker,
        serving(ledger.run, books),
        serving(inbound.run, door),
    ):
        variables = environment(
            vhost,
            tmp_path,
            relay.smtp_port,
            SENDER_BOUNCE_DOMAIN=DOMAIN,
            BOUNCE_KEY=BOUNCE_KEY,
        )
        await attached(vhost, topology.LEDGER_QUESTIONS)  # two migrations are none in one process
        async with serving(sender.run, SenderSettings.load(variables)):
            await until(partial(is_ready, health))
            await broker.publish(a_command(ANN, client="shop", id="mail-1"))
            await heard(events, EmailDelivered)
            [mail] = relay.mailbox.find()
            codes = [
                await asyncio.to_thread(give, port, trusting, mail.sender, dsn()) for _ in range(2)
            ]
            found = await heard(events, ReportBounced)
            added = await heard(events, SuppressionAdded)

        question = DescribeEmail(id="q", email_id="mail-1")

        async def bounced() -> bool:
            told = await broker.ask(question, PATIENCE_SECONDS)
            assert isinstance(told, EmailDescribed)
            return told.email is not None and told.email.recipients[0].status == "bounced"

        await until(bounced)
        told = await broker.ask(question, PATIENCE_SECONDS)

    assert codes == [250, 250]
    assert isinstance(found, ReportBounced)
    assert (found.email_id, found.client, found.recipient) == ("mail-1", "shop", ANN)
    assert isinstance(added, SuppressionAdded)
    assert added.suppression.email == ANN
    assert isinstance(told, EmailDescribed)
    assert [each.status for each in told.history] == ["delivered", "bounced"]


@pytest.mark.postfix
async def test_a_real_server_brings_its_report(tmp_path: Path, certified: ssl.SSLContext) -> None:
    """A Postfix whose next server refuses a mail reports that to its return path, over TLS."""
    now, terms = datetime.now(UTC), replace(TERMS, context=certified)
    async with Simulator() as relay, door_open(tmp_path, terms=terms, now=now) as world:
        here = f"[127.0.0.1]:{world.port}"
        settings = {
            "relayhost": f"[127.0.0.1]:{relay.smtp_port}",
            "transport_maps": f"inline:{{ {{ {DOMAIN} = smtp:{here} }} }}",
            "smtp_tls_policy_maps": f"inline:{{ {{ {here} = encrypt }} }}",
        }

        async def published() -> bool:
            return bool(world.published)

        with TemporaryDirectory(prefix="postrider-postfix-") as name:
            os.chmod(name, 0o755)  # noqa: PTH101, S103 -- Postfix reads it when it has given up root
            bench = Bench(Path(name), BrokerAddress(BrokerPorts(0, 0, 0, 0), ""))
            async with postfix.serving(bench, settings) as (server, _):
                await asyncio.to_thread(send_refused, server.port, a_path(now))
                await until(published, within=60)

    [event] = world.published
    assert isinstance(event, ReportBounced)
    assert event.reporter == postfix.HOSTNAME
    assert event.reply is not None
    assert (event.reply.code, event.reply.enhanced) == (550, "5.1.1")


def send_refused(port: int, path: str) -> None:
    """Send a mail that the next server refuses."""
    with smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE_SECONDS) as client:
        client.sendmail(path, ["reply-rcpt-550-5-1-1@x.example"], b"Subject: Hello\r\n\r\nHi\r\n")
