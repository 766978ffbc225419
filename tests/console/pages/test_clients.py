"""Clients and keys: made, rotated, revoked; a key is shown once."""

import pytest

from shared.contracts import (
    AddClientKey,
    ClientAnswered,
    ClientResult,
    ClientsListed,
    DescribeClient,
    ListClients,
    RegisterClient,
    RevokeClient,
    RevokeClientKey,
)
from shared.contracts.clients import Scope
from tests.console.answers import Answers, example
from tests.console.operator import Operator

pytestmark = pytest.mark.rabbit
PAGE = "/clients/shop"
KEY = str(example(ClientAnswered).api_key)


async def test_clients_are_listed_with_their_rights(answers: Answers, operator: Operator) -> None:
    """A page of them, and what to do without any."""
    page = await operator.get("/clients?after=bakery")
    asked = answers.last(ListClients)
    answers.set(ListClients, ClientsListed, clients=(), next=None)
    nothing = await operator.get("/clients")

    assert asked.after == "bakery"
    assert "@shop.example" in page.words
    assert "192.0.2.0/24" in page.words
    assert "No client yet" in nothing.words


async def test_a_client_whose_keys_were_never_used_is_listed(
    answers: Answers, operator: Operator
) -> None:
    """A client that has just been registered has no day of its last use."""
    [client] = example(ClientsListed).clients
    keys = tuple(key.model_copy(update={"last_used_on": None}) for key in client.client_keys)
    new = client.model_copy(update={"client_keys": keys})
    answers.set(ListClients, ClientsListed, clients=(new,), next=None)
    page = await operator.get("/clients")

    assert page.status == 200
    assert "never" in page.words


async def test_a_client_is_registered_and_its_key_shown_once(
    answers: Answers, operator: Operator
) -> None:
    """Empty fields are no limits; neither the audit nor a later page has the key."""
    fields = {"client_id": " shop ", "senders": "@shop.example, ann@shop.example", "networks": ""}
    made = await operator.act("/clients", "/clients", **fields, scopes="send")
    asked = answers.last(RegisterClient)
    answers.set(DescribeClient, ClientAnswered, api_key=None)
    later, audit = await operator.get(PAGE), await operator.get("/audit")

    assert asked.client_id == "shop"
    assert asked.senders == ("@shop.example", "ann@shop.example")
    assert (asked.networks, asked.scopes) == (None, (Scope.SEND,))
    assert KEY in made.words
    assert made.headers["Cache-Control"] == "no-store"
    assert KEY not in later.text + audit.text
    assert "register client shop created" in audit.words


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (ClientResult.EXISTS, "there is a client of this id already"),
        (ClientResult.INVALID, "a network is such as 192.0.2.0/24"),
    ],
)
async def test_what_the_gateway_refuses_is_explained(
    answers: Answers, operator: Operator, result: ClientResult, words: str
) -> None:
    """The list says why there is no new client."""
    refusal = {"result": result, "client": None, "api_key": None, "key_id": None}
    answers.set(RegisterClient, ClientAnswered, **refusal)
    page = await operator.act("/clients", "/clients", client_id="shop")

    assert words in page.words


async def test_a_key_is_rotated(answers: Answers, operator: Operator) -> None:
    """A second key is made and shown; then the first is revoked."""
    made = await operator.act(PAGE, PAGE, act="add_key")
    refusal = {"result": ClientResult.TOO_MANY_KEYS, "api_key": None, "key_id": None}
    answers.set(AddClientKey, ClientAnswered, **refusal)
    third = await operator.act(PAGE, PAGE, act="add_key")
    revoked = {"result": ClientResult.REVOKED, "api_key": None, "key_id": None}
    answers.set(RevokeClientKey, ClientAnswered, **revoked)
    gone = await operator.act(PAGE, PAGE, act="revoke_key", key_id="k-1")
    asked = answers.last(RevokeClientKey)

    assert KEY in made.words
    assert "revoke one first" in third.words
    assert (asked.client_id, asked.key_id) == ("shop", "k-1")
    assert "revoked, from now on" in gone.words


async def test_a_client_is_revoked(answers: Answers, operator: Operator) -> None:
    """The list is shown; the client is unknown from then on."""
    nobody = {"client": None, "api_key": None, "key_id": None}
    answers.set(RevokeClient, ClientAnswered, result=ClientResult.REVOKED, **nobody)
    page = await operator.act(PAGE, PAGE, act="revoke")
    answers.set(DescribeClient, ClientAnswered, result=ClientResult.UNKNOWN, **nobody)

    assert answers.last(RevokeClient).client_id == "shop"
    assert page.url.startswith(f"{operator.url}/clients?note=")
    assert (await operator.get(PAGE)).status == 404
    assert (await operator.act("/clients", PAGE, act="burn")).status == 400
