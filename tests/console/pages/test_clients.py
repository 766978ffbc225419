"""Clients and keys: registered, changed, rotated, revoked; a key is shown once."""

import html
import re
from datetime import UTC, datetime

import pytest

from services.console.client_form import rights_of
from shared.contracts import (
    AddClientKey,
    ChangeClient,
    ClientAnswered,
    ClientResult,
    ClientRights,
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


async def test_the_end_of_a_client_is_listed_and_a_past_one_marked(
    answers: Answers, operator: Operator
) -> None:
    """A client without From addresses of its own sends as the default one, not as nobody."""
    [client] = example(ClientsListed).clients
    past, future = datetime(2020, 1, 31, tzinfo=UTC), datetime(9000, 1, 31, tzinfo=UTC)
    pages = {}
    for end in (past, future, None):
        rights = {"expires_at": end, "senders": (), "client_keys": ()}
        changed = client.model_copy(update=rights)
        answers.set(ListClients, ClientsListed, clients=(changed,), next=None)
        answers.set(DescribeClient, ClientAnswered, client=changed, api_key=None, key_id=None)
        pages[end] = [await operator.get(each) for each in ("/clients", PAGE)]

    for each in pages[past]:
        assert re.search(r'<span class="bad">ended <time [^>]+>2020-01-31 00:00:00', each.text)
        assert "the default sender" in each.words
    assert all("9000-01-31 00:00:00" in each.words for each in pages[future])
    assert not any('<span class="bad">ended <time' in each.text for each in pages[future])
    assert "Ends (UTC) never" in pages[None][1].words


async def test_a_client_is_registered_and_its_key_shown_once(
    answers: Answers, operator: Operator
) -> None:
    """Neither the audit nor a later page has the key."""
    fields = {"client_id": " shop ", "senders": "@shop.example, Ann@SHOP.example", "anywhere": "on"}
    made = await operator.act("/clients", "/clients", **fields, scopes="send")
    asked = answers.last(RegisterClient)
    answers.set(DescribeClient, ClientAnswered, api_key=None)
    later, audit = await operator.get(PAGE), await operator.get("/audit")

    assert asked.client_id == "shop"
    assert asked.rights.senders == ("@shop.example", "Ann@shop.example")
    assert (asked.rights.networks, asked.rights.scopes) == (None, (Scope.SEND,))
    assert KEY in made.words
    assert made.headers["Cache-Control"] == "no-store"
    assert KEY not in later.text + audit.text
    assert "register client shop created" in audit.words


async def test_what_was_typed_wrongly_is_explained_beside_its_field(
    answers: Answers, operator: Operator
) -> None:
    """All else that was typed is still there, and no question is asked."""
    wrong = {"client_id": "Shop", "senders": "shop", "networks": "here", "expires_at": "soon"}
    page = await operator.act("/clients", "/clients", **wrong)

    assert page.status == 422
    for name, words in (
        ("client_id", "must be"),
        ("senders", "shop must"),
        ("networks", "here must be a network such as 192.0.2.0/24"),
        ("expires_at", "must be a time such as"),
    ):
        assert f'aria-describedby="mistake-{name}"' in page.text
        assert re.search(rf'id="mistake-{name}">{words}', page.text)
    assert 'value="Shop"' in page.text
    assert not any(isinstance(each, RegisterClient) for each in answers.asked)


async def test_an_id_that_is_taken_is_explained_beside_it(
    answers: Answers, operator: Operator
) -> None:
    """The operator chooses another id without typing the rest again."""
    refusal = {"result": ClientResult.EXISTS, "client": None, "api_key": None, "key_id": None}
    answers.set(RegisterClient, ClientAnswered, **refusal)
    page = await operator.act("/clients", "/clients", client_id="shop", any_sender="", anywhere="")

    assert page.status == 422
    assert 'id="mistake-client_id">there is a client of this id already' in page.text


async def test_the_rights_of_a_client_are_changed(answers: Answers, operator: Operator) -> None:
    """The form begins with the rights as they are; the audit has what is different, masked."""
    page = await operator.get(PAGE)
    seen = html.unescape(re.findall(r'name="seen" value="([^"]+)"', page.text)[0])
    fields = {"seen": seen, "scopes": "send", "senders": "ann@shop.example", "anywhere": "on"}
    unknown = {"result": ClientResult.CHANGED, "api_key": None, "key_id": None}
    answers.set(ChangeClient, ClientAnswered, **unknown)
    changed = await operator.act(PAGE, f"{PAGE}/rights", **fields)
    asked, audit = answers.last(ChangeClient), await operator.get("/audit")

    record = example(ClientsListed).clients[0]
    assert asked.seen == rights_of(record)
    assert asked.rights == ClientRights(senders=("ann@shop.example",), scopes=(Scope.SEND,))
    assert 'class="note"' in changed.text
    assert "may: send, read → send; as: @shop.example → a***@shop.example; valid in:" in audit.words
    assert "@shop.example</textarea>" in page.text
    assert 'value="read" checked' in page.text
    assert 'value="codes" checked' not in page.text


async def test_a_change_of_a_client_that_was_changed_meanwhile_is_refused(
    answers: Answers, operator: Operator
) -> None:
    """The second of two operators learns of the first; a wrong field keeps what was seen."""
    seen = rights_of(example(ClientsListed).clients[0])
    fields = {"seen": seen.model_dump_json(), "any_sender": "on"}
    late = {"result": ClientResult.OUTDATED, "api_key": None, "key_id": None}
    answers.set(ChangeClient, ClientAnswered, **late)
    wrong = await operator.act(PAGE, f"{PAGE}/rights", **fields)
    asked = [each for each in answers.asked if isinstance(each, ChangeClient)]
    page = await operator.act(PAGE, f"{PAGE}/rights", **fields, anywhere="on")

    assert (wrong.status, asked) == (422, [])
    assert "name a network, or choose anywhere" in wrong.words
    assert seen.model_dump_json() in html.unescape(wrong.text)
    assert 'class="warning" role="alert">nothing is changed, since somebody' in page.text


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
