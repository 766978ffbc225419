"""Clients and their keys, over HTTP at two gateways, and the limits of their fields."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import jwt
import orjson
import pytest
from structlog.testing import capture_logs

from services.gateway import service
from services.gateway.api import body as bodies
from services.gateway.api.clients import NewClient
from services.gateway.api.problem import Problem
from services.gateway.app import OPERATIONS
from shared.contracts.clients import Scope
from tests.gateway.api_client import MAIL, ApiClient, declare, settings


def refusal(fields: object) -> Problem:
    """Return the problem of a wrong body."""
    with pytest.raises(Problem) as caught:
        bodies.read(NewClient, orjson.dumps(fields))
    return caught.value


@pytest.mark.parametrize("name", ["", "Shop", "-shop", "a/b", "a b", "shop\n", "x" * 65, "é"])
def test_client_ids_are_plain(name: str) -> None:
    """A client's id is safe in paths and logs."""
    assert refusal({"id": name}).type.status == 422


@pytest.mark.parametrize("senders", [["Ann <a@x.example>"], ["@localhost"], ["x"], "a@x.example"])
def test_senders_are_addresses_and_domains(senders: object) -> None:
    """A sender that is neither an address nor a domain is a 422 at the registration."""
    assert refusal({"id": "shop", "senders": senders}).type.status == 422


@pytest.mark.parametrize(
    "networks", [[], ["x"], ["192.0.2.1/24"], [7], "192.0.2.0/24", ["192.0.2.0/24"] * 101]
)
def test_networks_are_a_list_of_networks(networks: object) -> None:
    """Networks that are none, and an empty list, which would be nowhere, are a 422."""
    assert refusal({"id": "shop", "networks": networks}).type.status == 422


@pytest.mark.parametrize("scopes", [["admin"], ["send", 1], "send", ["send"] * (len(Scope) + 1)])
def test_scopes_are_those_that_are_known(scopes: object) -> None:
    """An unknown scope is a 422: a client never has fewer rights than it was asked for."""
    assert refusal({"id": "shop", "scopes": scopes}).type.status == 422


@pytest.mark.parametrize("moment", ["2027-01-01", "2027-01-01T00:00:00", "9999-12-31T00:00:00Z"])
def test_an_end_is_a_moment(moment: str) -> None:
    """An end without an offset from UTC, or beyond what can be stored, is a 422."""
    assert refusal({"id": "shop", "expires_at": moment}).type.status == 422


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """Return a list whose items put the clock of the gateways' logins forward."""
    found = list[timedelta]()
    monkeypatch.setattr(service, "utc_now", lambda: sum(found, start=datetime.now(UTC)))
    return found


@pytest.fixture
async def replicas(
    vhost: str,
    tmp_path: Path,
    http: aiohttp.ClientSession,
    database_url: str | None,
    ahead: list[timedelta],  # noqa: ARG001 -- before the gateways start
) -> AsyncIterator[tuple[ApiClient, ApiClient]]:
    """Run two gateways on one database; yield the same client at each of them."""
    await declare(vhost)
    given = settings(vhost, tmp_path, database_url=database_url)
    async with (
        service.serving(given, asyncio.Event()) as one,
        service.serving(given, asyncio.Event()) as other,
    ):
        shop = await ApiClient(http, f"http://127.0.0.1:{one}").registered("shop")
        yield shop, replace(shop, url=f"http://127.0.0.1:{other}")


async def test_a_change_at_one_gateway_counts_at_the_other_at_once(
    replicas: tuple[ApiClient, ApiClient], ahead: list[timedelta]
) -> None:
    """A change or revocation at one gateway counts at the other from the next request on."""
    here, there = replicas

    async def works() -> list[int]:
        return [(await each.post("/v1/messages", MAIL)).status for each in (here, there)]

    assert await works() == [202, 202]
    await here.admin.call("PATCH", "/v1/clients/shop", {"scopes": ["read"]})
    assert await works() == [403, 403]
    await there.admin.call("PATCH", "/v1/clients/shop", {"scopes": None})
    assert await works() == [202, 202]
    await here.admin.call("PATCH", "/v1/clients/shop", {"networks": ["192.0.2.0/24"]})
    assert await works() == [401, 401]
    await there.admin.call("PATCH", "/v1/clients/shop", {"networks": ["127.0.0.0/8"]})
    assert await works() == [202, 202]
    soon = datetime.now(UTC) + timedelta(hours=1)
    await here.admin.call("PATCH", "/v1/clients/shop", {"expires_at": soon.isoformat()})
    ahead.append(timedelta(hours=1))
    assert await works() == [401, 401]
    await here.admin.call("PATCH", "/v1/clients/shop", {"expires_at": "2999-01-01T00:00:00Z"})
    assert await works() == [202, 202]
    [key] = (await there.admin.call("GET", "/v1/clients/shop")).json["keys"]
    await here.admin.call("DELETE", f"/v1/clients/shop/keys/{key['id']}")
    assert await works() == [401, 401]


async def test_keys_are_rotated_without_a_gap(replicas: tuple[ApiClient, ApiClient]) -> None:
    """A client has two keys while it changes from the old to the new one, and never three."""
    old, elsewhere = replicas
    admin = old.admin
    made = await admin.post("/v1/clients/shop/keys", {})
    new = elsewhere.with_key(made.json["api_key"])

    assert made.status == 201
    assert made.headers["Location"] == f"/v1/clients/shop/keys/{made.json['key_id']}"
    assert [(await each.post("/v1/messages", MAIL)).status for each in (old, new)] == [202, 202]
    third = await admin.post("/v1/clients/shop/keys", {})
    assert (third.status, third.json["code"]) == (409, "too-many-keys")

    shown = (await admin.call("GET", "/v1/clients/shop")).json
    assert [key["id"] for key in shown["keys"]][1] == made.json["key_id"]
    gone = await admin.call("DELETE", f"/v1/clients/shop/keys/{shown['keys'][0]['id']}")
    assert gone.status == 204
    assert [(await each.post("/v1/messages", MAIL)).status for each in (old, new)] == [401, 202]


async def test_a_key_ends_when_it_is_asked_to(api: ApiClient) -> None:
    """A key's own end is in the future and within the days of the deployment."""
    path, soon = "/v1/clients/shop/keys", datetime.now(UTC) + timedelta(days=1)
    for wrong in (soon - timedelta(days=2), soon + timedelta(days=365)):
        refused = await api.admin.post(path, {"expires_at": wrong.isoformat()})
        assert (refused.status, refused.json["errors"][0]["pointer"]) == (422, "#/expires_at")

    made = await api.admin.post(path, {"expires_at": soon.isoformat()})

    assert datetime.fromisoformat(made.json["expires_at"]) == soon
    claims = jwt.decode(made.json["api_key"], options={"verify_signature": False})
    assert claims["exp"] == int(soon.timestamp())


async def test_a_client_has_an_end_in_the_future(api: ApiClient) -> None:
    """A past end is a 422: nothing is registered with a key that was never valid, or changed."""
    past = {"expires_at": "2020-01-01T00:00:00Z"}
    bank = await api.admin.post("/v1/clients", {"id": "bank", **past})
    shop = await api.admin.call("PATCH", "/v1/clients/shop", past)

    for refused in (bank, shop):
        assert (refused.status, refused.json["code"]) == (422, "invalid")
        assert [each["pointer"] for each in refused.json["errors"]] == ["#/expires_at"]
    assert (await api.admin.call("GET", "/v1/clients/bank")).status == 404
    assert "expires_at" not in (await api.admin.call("GET", "/v1/clients/shop")).json


async def test_a_client_is_shown_as_it_is_set_and_no_key_with_it(api: ApiClient) -> None:
    """The list and a client show settings and keys by cursor, and nothing to use a key with."""
    given = {
        "senders": ["@shop.example"],
        "scopes": ["read", "send"],
        "networks": ["::ffff:192.0.2.0/120"],
        "expires_at": "2030-01-01T01:00:00+01:00",
    }
    bank = await api.registered("bank", **given)
    await api.post("/v1/messages", MAIL)

    one = (await api.admin.call("GET", "/v1/clients/bank")).json
    first = (await api.admin.call("GET", "/v1/clients?limit=1")).json
    second = await api.admin.call("GET", f"/v1/clients?limit=1&after={first['next']}")

    assert (one["senders"], one["scopes"]) == (["@shop.example"], ["send", "read"])
    assert (one["networks"], one["expires_at"]) == (["192.0.2.0/24"], "2030-01-01T00:00:00Z")
    assert first["clients"] == [one]
    [shop] = second.json["clients"]
    assert shop["id"] == "shop"
    assert shop["scopes"] == ["send", "codes", "events", "read", "suppress", "webhooks"]
    assert "networks" not in shop
    assert "next" not in second.json
    for key in (api.key, bank.key):
        assert key.rpartition(".")[2].encode() not in second.content + orjson.dumps([one, first])


async def test_an_absent_field_of_a_change_stays_and_null_is_the_default(api: ApiClient) -> None:
    """A change sets what it names, and answers with the whole client."""
    await api.registered("bank", scopes=["send"], senders=["@bank.example"])

    changed = await api.admin.call("PATCH", "/v1/clients/bank", {"senders": None})
    unchanged = await api.admin.call("PATCH", "/v1/clients/bank", {})

    assert changed.status == unchanged.status == 200
    assert changed.json == unchanged.json
    assert changed.json["scopes"] == ["send"]
    assert "senders" not in changed.json


async def test_the_address_behind_a_proxy_counts(
    vhost: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """The network is that of the client behind a known proxy; a foreign one is a bare 401."""
    await declare(vhost)
    proxied = settings(vhost, tmp_path, gateway_proxies=["127.0.0.0/8"])
    async with service.serving(proxied, asyncio.Event()) as port:
        start = ApiClient(http, f"http://127.0.0.1:{port}")
        api = await start.registered("shop", networks=["198.51.100.0/24"])
        with capture_logs() as lines:
            answers = [
                await api.post("/v1/messages", MAIL, {"X-Forwarded-For": address})
                for address in ("198.51.100.7", "203.0.113.9", "198.51.100.7, 203.0.113.9")
            ]

    assert [answer.status for answer in answers] == [202, 401, 401]
    assert "detail" not in answers[1].json
    refused = [line for line in lines if line.get("status") == 401]
    assert {line["reason"] for line in refused} == {"ForeignNetwork"}


async def test_each_operation_is_refused_without_its_scope(
    vhost: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """An operation is a 403 in the log with all scopes but its own, and with its own it is not."""
    await declare(vhost)
    quick = settings(vhost, tmp_path, gateway_answer_seconds=0.05)
    async with service.serving(quick, asyncio.Event()) as port:
        start = ApiClient(http, f"http://127.0.0.1:{port}")
        for scope in Scope:
            others = [each for each in Scope if each is not scope]
            without = await start.registered(f"no-{scope}", scopes=others)
            only = await start.registered(f"only-{scope}", scopes=[scope])
            for operation in (each for each in OPERATIONS if each.scope is scope):
                path = re.sub(r"{\w+}", "x.example", operation.path)
                with capture_logs() as lines:
                    refused = await without.call(operation.method, path)
                allowed = await only.call(operation.method, path, {})

                assert (refused.status, refused.json["code"]) == (403, "insufficient-scope"), path
                assert f'scope="{scope}"' in refused.headers["WWW-Authenticate"]
                [line] = (each for each in lines if each["event"] == "request")
                assert line["reason"] == f"without the scope {scope}"
                assert line["client"] == f"no-{scope}"
                assert allowed.status not in {401, 403}, path


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v1/clients/{id}", "no-such-client"),
        ("PATCH", "/v1/clients/{id}", "no-such-client"),
        ("DELETE", "/v1/clients/{id}", "no-such-client"),
        ("POST", "/v1/clients/{id}/keys", "no-such-client"),
        ("DELETE", "/v1/clients/{id}/keys/k1", "no-such-client"),
        ("DELETE", "/v1/clients/shop/keys/{id}", "no-such-key"),
    ],
)
async def test_a_client_or_key_that_is_not_there_is_a_404(
    api: ApiClient, method: str, path: str, code: str
) -> None:
    """An id that is not there, or can be none, is a 404 for the administrator, else a 401."""
    await api.registered("bank")
    [key] = (await api.admin.call("GET", "/v1/clients/bank")).json["keys"]
    body: object = {} if method in {"POST", "PATCH"} else None
    for name in ("nobody", "Shop", "a%00b", "%C3%A9", "x" * 5000, key["id"]):
        missing = await api.admin.call(method, path.format(id=name), body)
        foreign = await api.call(method, path.format(id=name), body)

        assert (missing.status, missing.json["code"]) == (404, code), name
        assert (foreign.status, foreign.json["code"]) == (401, "unauthorized"), name
