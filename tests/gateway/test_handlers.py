"""Tests of the questions of other services about clients, and of their removals."""

import uuid
from datetime import timedelta

import pytest
from pydantic import ValidationError

from services.gateway.clients.keys import ApiKey
from services.gateway.clients.store import ClientStore, NewKey, utc_now
from services.gateway.clients.tables import MIGRATIONS
from services.gateway.handlers import RemovalAnnouncer
from shared import topology
from shared.broker import Broker
from shared.contracts import (
    AddClientKey,
    AuthenticateClient,
    AuthenticatedClient,
    ChangeClient,
    ClientAnswered,
    ClientAuthenticated,
    ClientRemoved,
    ClientResult,
    ClientRights,
    ClientsListed,
    Contract,
    DescribeClient,
    ListClients,
    OperatorQuestion,
    RegisterClient,
    RevokeClient,
    RevokeClientKey,
    decode,
)
from shared.contracts.clients import Scope
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


async def answered(vhost: str, question: OperatorQuestion) -> ClientAnswered:
    """Return the gateway's answer to an operator's question about a client."""
    async with Broker.connect(vhost, "console") as broker:
        answer = await broker.ask(question, 10)
    assert isinstance(answer, ClientAnswered)
    return answer


async def test_an_operator_registers_a_client_whose_key_works(vhost: str, api: ApiClient) -> None:
    """The client has the rights that were asked for, in their canonical form."""
    question = RegisterClient.model_validate(
        {
            "id": "q-1",
            "client_id": "bakery",
            "rights": {
                "senders": ["@Bakery.Example"],
                "scopes": ["read"],
                "networks": ["127.0.0.1"],
            },
        }
    )
    made, again = await answered(vhost, question), await answered(vhost, question)
    found = await answered(vhost, DescribeClient(id="q-2", client_id="bakery"))

    assert (made.result, again.result) == (ClientResult.CREATED, ClientResult.EXISTS)
    assert again.api_key is None
    assert made.client is not None
    assert made.client.senders == ("@bakery.example",)
    assert (made.client.scopes, made.client.networks) == (("read",), ("127.0.0.1/32",))
    assert [each.key_id for each in made.client.client_keys] == [made.key_id]
    assert (found.client, found.api_key) == (made.client, None)
    assert (await api.with_key(str(made.api_key)).call("GET", "/v1/messages/x")).status != 401


@pytest.mark.parametrize(
    "fields",
    [
        {"client_id": "Bakery"},
        {"rights": {"senders": ["bakery"]}},
        {"rights": {"networks": ["here"]}},
        {"rights": {"networks": []}},
    ],
)
def test_no_client_is_registered_with_what_none_can_have(fields: dict[str, object]) -> None:
    """The rules are those of the HTTP API."""
    with pytest.raises(ValidationError):
        RegisterClient.model_validate({"id": "q-1", "client_id": "bakery", **fields})


async def test_an_operator_changes_what_nobody_else_has_changed_meanwhile(
    vhost: str, api: ApiClient
) -> None:
    """Of two operators who saw the same client the first changes it, also if asked again."""
    until = utc_now() + timedelta(days=1)
    seen = ClientRights(scopes=tuple(Scope))  # as a client of all scopes is shown
    first = ClientRights(senders=("@shop.example",), scopes=(Scope.READ,), expires_at=until)
    asked = [
        ChangeClient(id="q-1", client_id="shop", rights=first, seen=seen),
        ChangeClient(id="q-2", client_id="shop", rights=first, seen=seen),
        ChangeClient(id="q-3", client_id="shop", rights=ClientRights(), seen=seen),
        ChangeClient(id="q-4", client_id="nobody", rights=first, seen=seen),
    ]
    changed, again, late, unknown = [await answered(vhost, each) for each in asked]

    assert [changed.result, again.result] == [ClientResult.CHANGED] * 2
    assert [late.result, unknown.result] == [ClientResult.OUTDATED, ClientResult.UNKNOWN]
    assert changed.client is not None
    assert changed.client == again.client == late.client
    assert (changed.client.senders, changed.client.scopes) == (("@shop.example",), ("read",))
    assert (changed.client.networks, changed.client.expires_at) == (None, until)
    assert (await api.call("GET", "/v1/webhooks")).status == 403


async def test_an_operator_sets_no_end_that_is_past(vhost: str, api: ApiClient) -> None:
    """The rule is that of the HTTP API; an end that has passed meanwhile stays what it is."""
    past, seen = utc_now() - timedelta(days=1), ClientRights(scopes=tuple(Scope))
    over = seen.model_copy(update={"expires_at": past})
    less = over.model_copy(update={"scopes": (Scope.READ,)})
    registered = await answered(vhost, RegisterClient(id="q-1", client_id="bank", rights=over))
    asked = ChangeClient(id="q-2", client_id="shop", rights=over, seen=seen)
    changed = await answered(vhost, asked)
    other = ChangeClient(id="q-3", client_id="shop", rights=less, seen=over)

    assert [registered.result, changed.result] == [ClientResult.OVER] * 2
    assert (registered.client, registered.api_key) == (None, None)
    assert changed.client is not None
    assert changed.client.expires_at is None
    assert (await answered(vhost, other)).result is ClientResult.OUTDATED  # and not over
    assert (await api.call("GET", "/v1/messages/x")).status != 401


async def test_an_operator_rotates_a_key(vhost: str, api: ApiClient) -> None:
    """A client has two keys at most; the first one that is revoked is refused at once."""
    second = await answered(vhost, AddClientKey(id="q-1", client_id="shop"))
    third = await answered(vhost, AddClientKey(id="q-2", client_id="shop"))
    assert second.client is not None
    first = second.client.client_keys[0].key_id
    revoking = RevokeClientKey(id="q-3", client_id="shop", key_id=first)
    revoked, again = await answered(vhost, revoking), await answered(vhost, revoking)
    unknown = await answered(vhost, AddClientKey(id="q-4", client_id="nobody"))

    assert third.result is ClientResult.TOO_MANY_KEYS
    assert (revoked.result, again.result) == (ClientResult.REVOKED, ClientResult.UNKNOWN)
    assert unknown.result is ClientResult.UNKNOWN
    assert (await api.call("GET", "/v1/domains/x.example")).status == 401
    assert (await api.with_key(str(second.api_key)).call("GET", "/v1/messages/x")).status != 401


async def test_an_operator_revokes_a_client(vhost: str, api: ApiClient) -> None:
    """Its key is refused; the second time there is none."""
    question = RevokeClient(id="q-1", client_id="shop")
    results = [(await answered(vhost, question)).result for _ in range(2)]

    assert results == [ClientResult.REVOKED, ClientResult.UNKNOWN]
    assert (await api.call("GET", "/v1/messages/x")).status == 401


async def test_clients_are_listed_page_by_page(vhost: str, api: ApiClient) -> None:
    """Each client is on one page."""
    for name in ("bakery", "zoo"):
        await api.registered(name)
    names, after = list[str](), None
    async with Broker.connect(vhost, "console") as broker:
        while True:
            page = await broker.ask(ListClients(id=f"q-{len(names)}", after=after, limit=2), 10)
            assert isinstance(page, ClientsListed)
            names += [each.client_id for each in page.clients]
            if (after := page.next) is None:
                break

    assert names == ["bakery", "shop", "zoo"]
