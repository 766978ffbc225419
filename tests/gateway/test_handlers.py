"""Tests of the questions of other services about clients, and of their removals."""

import uuid
from datetime import timedelta

import pytest

from services.gateway.clients.keys import ApiKey
from services.gateway.clients.store import ClientStore, NewKey, utc_now
from services.gateway.clients.tables import MIGRATIONS
from services.gateway.handlers import RemovalAnnouncer
from shared import topology
from shared.broker import Broker
from shared.contracts import (
    AuthenticateClient,
    AuthenticatedClient,
    ClientAuthenticated,
    ClientRemoved,
    Contract,
    decode,
)
from shared.errors import Unavailable
from tests.databases import Opener
from tests.gateway.api_client import ApiClient
from tests.tap import Tap, tapped


async def ask(
    vhost: str, client: str, key: str, remote: str = "192.0.2.7"
) -> AuthenticatedClient | None:
    """Return the gateway's answer to the question whose key it is."""
    question = AuthenticateClient(id=str(uuid.uuid4()), client=client, key=key, remote=remote)
    async with Broker.connect(vhost, "inbound") as broker:
        answer = await broker.ask(question, 10)
    assert isinstance(answer, ClientAuthenticated)
    return answer.client


async def test_right(vhost: str, api: ApiClient) -> None:
    """A right key is answered with all that the client may do."""
    assert await ask(vhost, "shop", api.key) == AuthenticatedClient(
        id="shop", scopes=("codes", "events", "read", "send", "suppress", "webhooks")
    )


async def test_limits(vhost: str, api: ApiClient) -> None:
    """The answer has the limits that the administrator has set."""
    until = utc_now().replace(microsecond=0) + timedelta(days=1)
    changes = {"senders": ["@shop.example"], "scopes": ["send"], "expires_at": until.isoformat()}
    assert (await api.admin.call("PATCH", "/v1/clients/shop", changes)).status == 200

    assert await ask(vhost, "shop", api.key) == AuthenticatedClient(
        id="shop", senders=("@shop.example",), scopes=("send",), expires_at=until
    )


@pytest.mark.parametrize(
    ("client", "key", "remote"),
    [
        ("shop", "wrong", "192.0.2.7"),
        ("other", None, "192.0.2.7"),
        ("shop", None, "198.51.100.7"),
        ("shop", None, "no address"),
    ],
)
async def test_wrong(vhost: str, api: ApiClient, client: str, key: str | None, remote: str) -> None:
    """A wrong key, another client's key, and a key from elsewhere all have the same answer."""
    networks = {"networks": ["192.0.2.0/24"]}
    assert (await api.admin.call("PATCH", "/v1/clients/shop", networks)).status == 200

    assert await ask(vhost, client, key or api.key, remote) is None


async def test_revoked(vhost: str, api: ApiClient) -> None:
    """The key of a client that is gone is wrong at once."""
    assert await ask(vhost, "shop", api.key) is not None
    assert (await api.admin.call("DELETE", "/v1/clients/shop")).status == 204

    assert await ask(vhost, "shop", api.key) is None


async def test_a_removal_is_announced(vhost: str, api: ApiClient) -> None:
    """The event is published before the answer, once."""
    async with tapped(vhost, topology.EVENTS, "client.*") as tap:
        assert (await api.admin.call("DELETE", "/v1/clients/shop")).status == 204
        assert (await api.admin.call("DELETE", "/v1/clients/shop")).status == 404
        await api.registered("shop")
        assert (await api.admin.call("DELETE", "/v1/clients/shop")).status == 204
        events = [await removal(tap), await removal(tap)]

    assert [each.client for each in events] == ["shop", "shop"]
    assert events[0].registered_at < events[1].registered_at
    assert tap.empty()


async def test_a_removal_is_announced_later_without_a_broker(open_database: Opener) -> None:
    """The client is removed all the same; the event follows, in order, with its id."""
    times = iter([utc_now(), utc_now() + timedelta(seconds=1)])
    store = ClientStore(await open_database("gateway", MIGRATIONS), lambda: next(times))
    for name in ("bank", "shop"):
        await store.register(NewKey(ApiKey(name, "k1"), utc_now(), utc_now()), {})
        await store.revoke(name)
    tried, published = list[Contract](), list[Contract]()

    async def refuse(event: Contract) -> None:
        tried.append(event)
        raise Unavailable("no broker")

    async def publish(event: Contract) -> None:
        published.append(event)

    await RemovalAnnouncer(store, refuse).announce()
    for _ in range(2):
        await RemovalAnnouncer(store, publish).announce()

    assert [each.client for each in published if isinstance(each, ClientRemoved)] == [
        "bank",
        "shop",
    ]
    assert tried == published[:1]


async def removal(tap: Tap) -> ClientRemoved:
    """Return the next removal of a client."""
    message = await tap.next()
    event = decode(message.type or "", message.body)
    assert isinstance(event, ClientRemoved)
    return event
