"""Webhooks by real processes: kill -9 in the middle, and the receiver of docs/webhooks.md."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trustme

from ops import ports
from shared import topology
from shared.broker import Broker
from shared.contracts import CreateWebhook, WebhookAnswered
from shared.rabbitmq import declare
from tests.journeys.user import User
from tests.pages import blocks
from tests.processes import started
from tests.tap import publish_in_parts
from tests.waiting import until
from tests.webhooks.receivers import LOOPBACK, Receiver
from tests.webhooks.test_service import KEY, delivered
from tests.world import attached

pytestmark = [pytest.mark.rabbit, pytest.mark.journey, pytest.mark.timeout(300)]

EVENTS = 300
KILLS = (1, 60, 130, 200)  # requests before each, in turn of the first and the second replica


def environment(vhost: str, folder: Path, ca_file: Path) -> Mapping[str, str]:
    """Return the settings of a service with short leases."""
    return {
        "AMQP_URL": vhost,
        "DATA_DIR": str(folder),
        "HEALTH_PORT": str(ports.unused(1)[0]),
        "WEBHOOK_KEY": KEY,
        "WEBHOOKS_ALLOW_NETWORKS": '["127.0.0.0/8"]',
        "WEBHOOKS_CA_FILE": str(ca_file),
        "WEBHOOKS_TRY_SECONDS": "2",
    }


async def test_no_event_is_lost_by_kill_9(
    vhost: str, tmp_path: Path, authority: trustme.CA, ca_file: Path, receiver: Receiver
) -> None:
    """Two replicas are killed again and again; each event arrives, always under one webhook-id."""
    del authority
    await declare(vhost, topology.EXCHANGES, topology.queues())
    async with Broker.connect(vhost, "gateway") as broker, AsyncExitStack() as processes:

        async def start() -> asyncio.subprocess.Process:
            environ = environment(vhost, tmp_path, ca_file)
            process = started("-m", "services.webhooks", env=environ)
            return await processes.enter_async_context(process)

        replicas = [await start()]
        await attached(vhost, topology.WEBHOOK_QUESTIONS)
        replicas.append(await start())
        url = receiver.url(host=LOOPBACK)
        asked = CreateWebhook(id="w1", client="shop", url=url, events=("email.*",))
        answer = await broker.ask(asked, 30)
        assert isinstance(answer, WebhookAnswered)
        assert answer.secret is not None
        await publish_in_parts(broker, [delivered(f"e{number}") for number in range(EVENTS)])
        for number, count in enumerate(KILLS):
            await receiver.count(count)
            replicas[number % 2].kill()
            replicas[number % 2] = await start()
        await receiver.wait(lambda: len({each.message_id for each in receiver.got}) == EVENTS)

    bodies = {each.message_id: each.body for each in receiver.got}
    assert len(set(bodies.values())) == EVENTS
    assert all(bodies[each.message_id] == each.body for each in receiver.got)
    for each in receiver.got[-10:]:
        each.verified(answer.secret)


async def test_the_receiver_of_the_page(user: User, tmp_path: Path) -> None:
    """A mail's outcome reaches the program, which checks its signature and prints it once."""
    [block] = [b for b in blocks("docs/webhooks.md") if b.language == "python"]
    path, (port,) = tmp_path / "receiver.py", ports.unused(1)
    path.write_text(block.text)
    url = f"http://127.0.0.1:{port}/hooks"
    added = await user.ask("POST", "/v1/webhooks", {"url": url, "events": ["email.delivered"]})
    environ = {**os.environ, "SECRET": added.body["secret"], "PORT": str(port)}
    process = await asyncio.create_subprocess_exec(sys.executable, path, env=environ, stdout=PIPE)
    assert process.stdout is not None
    try:

        async def listens() -> bool:
            return not ports.is_free(port)

        await until(listens)
        mail = {"to": "hook@mail.example", "subject": "Hello", "text": "Hello."}
        await user.ask("POST", "/v1/messages", mail)
        async with asyncio.timeout(120):
            lines = [await process.stdout.readline()]
            while b"hook@mail.example" not in lines[-1]:  # other tests share the stack
                lines.append(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()
        await user.ask("DELETE", f"/v1/webhooks/{added.body['id']}")

    assert lines[-1] == b"email.delivered hook@mail.example\n"
