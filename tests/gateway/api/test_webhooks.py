"""Webhooks over HTTP, with a real gateway, a real webhooks service and a real receiver."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.gateway import service as gateway
from services.gateway.api.webhooks import EVENT_TYPES
from shared import topology
from shared.broker import Broker
from shared.rabbitmq import declare
from tests.gateway.api_client import ADMIN_TOKEN, ApiClient
from tests.gateway.api_client import settings as gateway_settings
from tests.waiting import until
from tests.webhooks.receivers import Receiver
from tests.webhooks.test_service import delivered, running, settings
from tests.world import attached

pytestmark = pytest.mark.rabbit

PATH = "/v1/webhooks"


@pytest.fixture
async def api(vhost: str, tmp_path: Path, ca_file: Path) -> AsyncIterator[ApiClient]:
    """Run a webhooks service and a gateway; yield a registered client."""
    await declare(vhost, topology.EXCHANGES, topology.queues(scale=0.01))
    limits = {"webhooks_max_endpoints": 3}
    async with running(settings(vhost, tmp_path, ca_file, **limits)):
        await attached(vhost, topology.WEBHOOK_QUESTIONS)
        async with (
            gateway.serving(gateway_settings(vhost, tmp_path), asyncio.Event()) as port,
            aiohttp.ClientSession() as http,
        ):
            yield await ApiClient(http, f"http://127.0.0.1:{port}").registered("shop")


def new(receiver: Receiver, **more: object) -> dict[str, object]:
    """Return the body of a new endpoint."""
    return {"url": receiver.url(host="127.0.0.1"), "events": ["email.*"], **more}


async def added(api: ApiClient, receiver: Receiver, **more: object) -> dict[str, Any]:
    """Add an endpoint."""
    answer = await api.post(PATH, new(receiver, **more))
    assert answer.status == 201, answer.content
    found: dict[str, Any] = answer.json
    return found


async def test_an_endpoint_is_added_read_changed_and_deleted(
    api: ApiClient, receiver: Receiver
) -> None:
    """Its secret is in the first answer alone."""
    created = await api.post(
        PATH, new(receiver, categories=["bulk"], tags=["run:1"], description="the shop")
    )
    path = created.headers["Location"]
    read = await api.call("GET", path)
    changed = await api.call("PATCH", path, {"tags": [], "enabled": False})
    listed = await api.call("GET", PATH)
    deleted = [(await api.call("DELETE", path)).status for _ in range(2)]
    secret = created.json["secret"]

    assert (created.status, created.headers["Cache-Control"]) == (201, "no-store")
    assert secret.startswith("whsec_")
    assert {**read.json, "secret": secret} == created.json
    assert (read.json["categories"], read.json["tags"]) == (["bulk"], ["run:1"])
    assert (changed.json["tags"], changed.json["enabled"]) == ([], False)
    assert (changed.json["disabled_for"], changed.json["description"]) == ("owner", "the shop")
    assert [each["id"] for each in listed.json["webhooks"]] == [created.json["id"]]
    assert secret not in (read.content + changed.content + listed.content).decode()
    assert deleted == [204, 404]


async def test_a_test_event_is_shown_as_it_was_sent(api: ApiClient, receiver: Receiver) -> None:
    """The list of tries has the request and the answer; the reference library verifies it."""
    webhook = await added(api, receiver)
    path = f"{PATH}/{webhook['id']}"
    tested = await api.post(f"{path}/test", {})
    await receiver.count(1)
    [got] = receiver.got

    async def is_shown() -> bool:
        return bool((await api.call("GET", f"{path}/tries")).json["tries"])

    await until(is_shown)
    [shown] = (await api.call("GET", f"{path}/tries")).json["tries"]
    [delivery] = (await api.call("GET", f"{path}/deliveries?status=delivered")).json["deliveries"]

    assert tested.status == 202
    assert got.verified(webhook["secret"])["type"] == "webhook.test"
    assert shown["message_id"] == delivery["message_id"] == tested.json["message_id"]
    assert (shown["headers"], shown["body"]) == (got.headers, got.body.decode())
    assert (shown["status"], shown["answer"]) == (200, "thanks")


async def test_events_are_sent_again(api: ApiClient, receiver: Receiver, vhost: str) -> None:
    """One, or those of a span; a disabled endpoint is a 409 until it is enabled."""
    webhook = await added(api, receiver)
    path = f"{PATH}/{webhook['id']}"
    async with Broker.connect(vhost, "sender") as broker:
        await broker.publish(delivered("e1"))
    await receiver.count(1)

    async def is_delivered() -> bool:
        found = await api.call("GET", f"{path}/deliveries?status=delivered")
        return bool(found.json["deliveries"])

    await until(is_delivered)
    since = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    one = await api.post(f"{path}/replay", {"message_id": receiver.got[0].message_id})
    await receiver.count(2)
    await until(is_delivered)
    span = await api.post(f"{path}/replay", {"since": since, "delivered": True})
    await receiver.count(3)
    await api.call("PATCH", path, {"enabled": False})
    refused = await api.post(f"{path}/replay", {})

    assert (one.status, one.json, span.json) == (202, {"count": 1}, {"count": 1})
    assert set(receiver.counts.values()) == {3}
    assert (refused.status, refused.json["code"]) == (409, "webhook-disabled")


async def test_a_replay_of_nothing_is_refused(api: ApiClient, receiver: Receiver) -> None:
    """An event that is not there is a 404, a span that ends before it begins a 422."""
    path = f"{PATH}/{(await added(api, receiver))['id']}/replay"
    missing = await api.post(path, {"message_id": "msg_0"})
    wrong = [
        await api.post(path, {"since": "2026-11-01T12:00:00Z", "until": until})
        for until in ("2026-11-01T12:00:00Z", "2026-11-01T12:30:00+01:00")
    ]
    empty = await api.post(path, {"since": "2026-11-01T12:00:00Z", "until": "2026-11-01T12:01:00Z"})

    assert (missing.status, missing.json["code"]) == (404, "no-such-event")
    assert [each.status for each in wrong] == [422, 422]
    assert wrong[0].json["errors"] == [{"pointer": "#/until", "detail": "must be later than since"}]
    assert (empty.status, empty.json) == (202, {"count": 0})


async def test_a_secret_is_rotated(api: ApiClient, receiver: Receiver) -> None:
    """Two sign at a time; a third is a 409, unless it replaces both."""
    webhook = await added(api, receiver)
    path = f"{PATH}/{webhook['id']}"
    second = await api.post(f"{path}/secret", {"old_seconds": 60})
    third = await api.post(f"{path}/secret", {})
    await api.post(f"{path}/test", {})
    await receiver.count(1)
    alone = await api.post(f"{path}/secret", {"old_seconds": 0})
    [got] = receiver.got

    assert (third.status, third.json["code"]) == (409, "too-many-secrets")
    assert got.verified(webhook["secret"]) == got.verified(second.json["secret"])
    assert "old_secret_until" in second.json
    assert "old_secret_until" not in alone.json
    assert len({webhook["secret"], second.json["secret"], alone.json["secret"]}) == 3


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"url": "http://shop.example/"}, "#/url"),
        ({"url": "https://user:password@shop.example/"}, "#/url"),
        ({"url": "https://shop.example/#part"}, "#/url"),
        ({"url": "ftp://shop.example/"}, "#/url"),
        ({"url": "https:///hooks"}, "#/url"),
        ({"url": "https://bücher.example/"}, "#/url"),
        ({"events": []}, "#/events"),
        ({"events": ["email.unknown"]}, "#/events"),
        ({"events": ["*"]}, "#/events/0"),
        ({"categories": ["other"]}, "#/categories/0"),
        ({"tags": ["a b"]}, "#/tags/0"),
        ({"enabled": "yes"}, "#/enabled"),
        ({"secret": "mine"}, "#/secret"),
    ],
)
async def test_a_mistake_is_a_422(
    api: ApiClient, receiver: Receiver, change: dict[str, object], pointer: str
) -> None:
    """It names the field, and nothing is kept."""
    answer = await api.post(PATH, new(receiver) | change)

    assert answer.status == 422
    assert [each["pointer"] for each in answer.json["errors"]] == [pointer]
    assert (await api.call("GET", PATH)).json == {"webhooks": []}


async def test_clients_never_see_each_others(api: ApiClient, receiver: Receiver) -> None:
    """Each question of another client about an endpoint is a 404; the administrator sees all."""
    webhook = await added(api, receiver)
    path = f"{PATH}/{webhook['id']}"
    bank = await api.registered("bank")
    calls = [
        ("GET", path, None),
        ("PATCH", path, {"description": "mine"}),
        ("DELETE", path, None),
        ("POST", f"{path}/secret", {}),
        ("POST", f"{path}/test", {}),
        ("POST", f"{path}/replay", {}),
        ("GET", f"{path}/deliveries", None),
        ("GET", f"{path}/tries", None),
    ]
    answers = [await bank.call(*each) for each in calls]
    admin = api.with_key(ADMIN_TOKEN)

    assert {(each.status, each.json["code"]) for each in answers} == {(404, "no-such-webhook")}
    assert (await bank.call("GET", PATH)).json == {"webhooks": []}
    assert (await admin.call("GET", path)).json["client"] == "shop"
    assert len((await admin.call("GET", PATH)).json["webhooks"]) == 1
    assert receiver.got == []


async def test_limits_and_scopes(api: ApiClient, receiver: Receiver) -> None:
    """One endpoint too many is a 409; a client without the scope gets a 403."""
    for _ in range(3):
        await added(api, receiver)
    more = await api.post(PATH, new(receiver))
    admin = api.with_key(ADMIN_TOKEN)
    await admin.call("PATCH", "/v1/clients/shop", {"scopes": ["send", "read"]})
    denied = await api.post(PATH, new(receiver))

    assert (more.status, more.json["code"]) == (409, "too-many-webhooks")
    assert (denied.status, denied.json["code"]) == (403, "insufficient-scope")


def test_every_event_may_be_asked_for() -> None:
    """Each type, and all of a kind."""
    assert {"email.delivered", "report.bounced", "webhook.disabled", "email.*"} <= {*EVENT_TYPES}
    assert "feedback.reported" not in EVENT_TYPES


async def test_the_endpoints_of_a_removed_client_go_with_it(
    api: ApiClient, receiver: Receiver, vhost: str
) -> None:
    """A client that is registered with its id has none, and its events are sent nowhere old."""
    old = await added(api, receiver, url=receiver.url("/old", host="127.0.0.1"))
    await added(api.admin, receiver, url=receiver.url("/all", host="127.0.0.1"))
    assert (await api.admin.call("DELETE", "/v1/clients/shop")).status == 204

    async def is_gone() -> bool:
        return (await api.admin.call("GET", f"{PATH}/{old['id']}")).status == 404

    await until(is_gone)
    again = await api.registered("shop")
    own = await added(again, receiver)
    async with Broker.connect(vhost, "sender") as broker:
        await broker.publish(delivered("e1"))
    await receiver.count(2)
    listed = (await again.call("GET", PATH)).json["webhooks"]

    assert [each["id"] for each in listed] == [own["id"]]
    assert {each.path for each in receiver.got} == {"/all", "/hooks"}
