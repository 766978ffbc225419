"""Tests of the questions of other services about clients."""

import uuid
from datetime import timedelta

import pytest

from services.gateway.clients.store import utc_now
from shared.broker import Broker
from shared.contracts import AuthenticateClient, AuthenticatedClient, ClientAuthenticated
from tests.gateway.api_client import ApiClient


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
