"""The whole service on a real broker, with a real receiver."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest

from services.webhooks import service
from services.webhooks.config import WebhookSettings
from shared import topology
from shared.broker import Broker
from shared.contracts import (
    Answer,
    Category,
    CreateWebhook,
    DeleteWebhook,
    DescribeWebhook,
    DisabledFor,
    EmailDelivered,
    ForgetAddress,
    ListWebhookDeliveries,
    ListWebhooks,
    ListWebhookTries,
    Question,
    ReplayWebhook,
    RotateWebhookSecret,
    SendTestEvent,
    WebhookAnswered,
    WebhookDeliveriesListed,
    WebhookDisabled,
    WebhookReplayed,
    WebhookResult,
    WebhooksListed,
    WebhookTriesListed,
    decode,
)
from shared.rabbitmq import declare
from tests.serving import serving
from tests.tap import depth, tapped
from tests.waiting import until
from tests.webhooks.receivers import Receiver
from tests.world import attached

pytestmark = pytest.mark.rabbit

KEY = "5eed" * 16
ANSWER_SECONDS = 30.0

A = TypeVar("A", bound=Answer)
running = partial(serving, service.run)


def settings(vhost: str, folder: Path, ca_file: Path, **more: Any) -> WebhookSettings:  # noqa: ANN401 -- as the settings have it
    """Return settings of a service that may call this host."""
    values = {
        "amqp_url": vhost,
        "data_dir": folder,
        "webhook_key": KEY,
        "health_port": 0,
        "webhooks_allow_networks": ["127.0.0.0/8"],
        "webhooks_ca_file": ca_file,
    }
    return WebhookSettings.model_validate(values | more)


def delivered(name: str, client: str = "shop", email: str = "ann@example.org") -> EmailDelivered:
    """Return an event of now."""
    return EmailDelivered(
        id=name,
        at=datetime.now(UTC),
        email_id="m1",
        category=Category.BULK,
        client=client,
        recipient=email,
        attempt=1,
    )


@dataclass(frozen=True)
class Hooked:
    """A running service, and the broker as a gateway and a sender use it."""

    vhost: str
    broker: Broker
    receiver: Receiver

    async def ask(self, question: Question, kind: type[A]) -> A:
        """Return the answer to a question."""
        answer = await self.broker.ask(question, ANSWER_SECONDS)
        assert isinstance(answer, kind)
        return answer

    async def add(self, path: str = "/hooks", **more: Any) -> WebhookAnswered:  # noqa: ANN401 -- as the contract has it
        """Add an endpoint of the client `shop` for all events of mails."""
        fields = {"id": f"w{path[1:]}", "client": "shop", "events": ["email.*"], **more}
        url = self.receiver.url(path, host="127.0.0.1")
        return await self.ask(CreateWebhook.model_validate({"url": url, **fields}), WebhookAnswered)


@pytest.fixture
async def hooked(
    vhost: str, tmp_path: Path, ca_file: Path, receiver: Receiver
) -> AsyncIterator[Hooked]:
    """Run a service on SQLite."""
    await declare(vhost, topology.EXCHANGES, topology.queues(scale=0.01))
    async with (
        Broker.connect(vhost, "gateway") as broker,
        running(settings(vhost, tmp_path, ca_file)),
    ):
        await attached(vhost, topology.WEBHOOK_QUESTIONS)
        yield Hooked(vhost, broker, receiver)


async def test_an_event_reaches_the_endpoint_of_its_client(hooked: Hooked) -> None:
    """Signed by the secret of the answer, shown as it was sent; no other client's event does."""
    added = await hooked.add()
    await hooked.broker.publish(delivered("e0", "bank"))
    await hooked.broker.publish(delivered("e1"))
    await hooked.receiver.count(1)
    [got] = hooked.receiver.got
    assert added.secret is not None
    payload = got.verified(added.secret)
    asked = ListWebhookTries(id="q", client="shop", webhook_id="whooks")

    async def is_shown() -> bool:
        return bool((await hooked.ask(asked, WebhookTriesListed)).tries)

    await until(is_shown)
    [shown] = (await hooked.ask(asked, WebhookTriesListed)).tries

    assert (payload["type"], payload["data"]["recipient"]) == ("email.delivered", "ann@example.org")
    assert payload["timestamp"] == payload["data"]["at"]
    assert (shown.status, shown.answer) == (200, "thanks")
    assert dict(shown.headers) == got.headers
    assert shown.body.encode() == got.body


async def test_a_copy_of_an_event_is_sent_once(hooked: Hooked) -> None:
    """The broker may deliver one twice."""
    await hooked.add()
    for name in ("e1", "e1", "e2"):
        await hooked.broker.publish(delivered(name))
    await hooked.receiver.count(2)

    async def is_empty() -> bool:
        return await depth(hooked.vhost, topology.WEBHOOK_EVENTS) == 0

    await until(is_empty)
    assert set(hooked.receiver.counts.values()) == {1}


async def test_an_endpoint_is_listed_rotated_tested_and_deleted(hooked: Hooked) -> None:
    """Each question has its answer."""
    added = await hooked.add()
    own: dict[str, Any] = {"id": "q", "client": "shop", "webhook_id": "whooks"}
    rotated = await hooked.ask(RotateWebhookSecret(**own), WebhookAnswered)
    tested = await hooked.ask(SendTestEvent(**own | {"id": "t1"}), WebhookReplayed)
    await hooked.receiver.count(1)
    [got] = hooked.receiver.got
    listed = await hooked.ask(ListWebhooks(id="q", client="shop"), WebhooksListed)
    found = await hooked.ask(DescribeWebhook(**own), WebhookAnswered)
    events = await hooked.ask(ListWebhookDeliveries(**own), WebhookDeliveriesListed)
    deleted = await hooked.ask(DeleteWebhook(**own), WebhookAnswered)
    again = await hooked.ask(DeleteWebhook(**own), WebhookAnswered)

    assert added.secret is not None
    assert rotated.secret is not None
    assert got.verified(added.secret) == got.verified(rotated.secret)
    assert got.message_id == tested.message_id
    assert [each.webhook_id for each in listed.webhooks] == ["whooks"]
    assert found.webhook == listed.webhooks[0]
    assert [each.type for each in events.deliveries] == ["webhook.test"]
    assert (deleted.result, again.result) == (WebhookResult.DELETED, WebhookResult.UNKNOWN)


async def test_an_endpoint_must_be_https(hooked: Hooked) -> None:
    """Unless the settings allow http."""
    answer = await hooked.add(url="http://shop.example/hooks")

    assert answer.result is WebhookResult.NOT_HTTPS


async def test_an_endpoint_that_is_gone_is_announced(hooked: Hooked) -> None:
    """The administrator's queue gets the event, and so does an endpoint that wants it."""
    hooked.receiver.statuses["/gone"] = 410
    async with tapped(hooked.vhost, topology.EVENTS, "webhook.disabled") as tap:
        await hooked.add("/gone")
        await hooked.add("/other", events=["webhook.disabled"])
        await hooked.broker.publish(delivered("e1"))
        message = await tap.next()
    event = decode(message.type or "", message.body)
    await hooked.receiver.count(2)

    assert isinstance(event, WebhookDisabled)
    assert (event.webhook_id, event.client, event.reason) == ("wgone", "shop", DisabledFor.GONE)
    assert [each.path for each in hooked.receiver.got] == ["/gone", "/other"]


async def test_a_person_is_forgotten(hooked: Hooked) -> None:
    """Nothing about the address is shown any more."""
    await hooked.add()
    await hooked.broker.publish(delivered("e1"))
    await hooked.broker.publish(delivered("e2", email="bob@example.org"))
    await hooked.receiver.count(2)
    await hooked.broker.publish(ForgetAddress(id="f1", email="ann@example.org"))
    asked = ListWebhookTries(id="q", webhook_id="whooks")

    async def is_forgotten() -> bool:
        bodies = [each.body for each in (await hooked.ask(asked, WebhookTriesListed)).tries]
        return len(bodies) == 1 and "ann@example.org" not in bodies[0]

    await until(is_forgotten)


async def test_what_is_replayed_has_its_webhook_id(hooked: Hooked) -> None:
    """A span, delivered or not."""
    await hooked.add()
    await hooked.broker.publish(delivered("e1"))
    await hooked.receiver.count(1)
    own: dict[str, Any] = {"id": "q", "webhook_id": "whooks"}

    async def is_delivered() -> bool:
        found = await hooked.ask(ListWebhookDeliveries(**own), WebhookDeliveriesListed)
        return [each.status for each in found.deliveries] == ["delivered"]

    await until(is_delivered)
    since = datetime.now(UTC) - timedelta(hours=1)
    replay = ReplayWebhook(**own, since=since, delivered=True)
    replayed = await hooked.ask(replay, WebhookReplayed)
    await hooked.receiver.count(2)

    assert replayed.count == 1
    assert set(hooked.receiver.counts.values()) == {2}
