"""Suppressed addresses over HTTP, on a real broker with a fake ledger."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from services.gateway.api.suppressions import SuppressionEntries
from shared import topology
from shared.contracts import (
    AddSuppressions,
    Category,
    Contract,
    DescribeSuppression,
    ListSuppressions,
    RemoveSuppressions,
    Suppression,
    SuppressionOrigin,
    SuppressionsChanged,
    SuppressionsListed,
)
from shared.contracts.suppressions import MAX_CHANGES
from tests.gateway.api_client import ApiClient
from tests.gateway.fake_service import NOW, FakeService, running_service

KEY = "0" * 64
BOUNCE = Suppression(
    email="ann@example.com",
    address_key=KEY,
    categories=tuple(Category),
    origin=SuppressionOrigin.BOUNCE,
    reason="550 5.1.1 no such user",
    email_id="m1",
    at=NOW,
)
OWN = BOUNCE.model_copy(
    update={
        "client": "shop",
        "list_id": "news",
        "categories": (Category.BULK,),
        "origin": SuppressionOrigin.UNSUBSCRIBE,
        "reason": "",
        "expires_at": NOW + timedelta(days=1),
    }
)
SHOWN_BOUNCE = {
    "email": "ann@example.com",
    "categories": ["otp", "transactional", "bulk"],
    "origin": "bounce",
    "reason": "550 5.1.1 no such user",
    "created_at": "2026-11-01T00:00:00Z",
}
SHOWN_OWN = {
    "email": "ann@example.com",
    "client": "shop",
    "list_id": "news",
    "categories": ["bulk"],
    "origin": "unsubscribe",
    "reason": "",
    "source_id": "m1",
    "created_at": "2026-11-01T00:00:00Z",
    "expires_at": "2026-11-02T00:00:00Z",
}

CURSOR = "WzUsImEiLCJiIiwiYyIsImQiXQ=="  # of a time and a key


class FakeLedger(FakeService):
    """A ledger that keeps entries of addresses; those of the administrator stay for a client."""

    def __init__(self, *entries: Suppression) -> None:
        super().__init__(self._answer)
        self.entries = list(entries)

    def _answer(self, question: Contract) -> Sequence[Contract]:
        match question:
            case AddSuppressions():
                added = [
                    Suppression(**new.model_dump(), address_key=KEY, at=NOW)
                    for new in question.suppressions
                ]
                self.entries += added
                return [SuppressionsChanged(id=question.id, suppressions=tuple(added))]
            case RemoveSuppressions():
                removed = [each for each in self.entries if self._goes(each, question)]
                self.entries = [each for each in self.entries if each not in removed]
                return [SuppressionsChanged(id=question.id, suppressions=tuple(removed))]
            case DescribeSuppression():
                found = [each for each in self.entries if each.email == question.email]
                return [SuppressionsListed(id=question.id, suppressions=tuple(found))]
            case _:
                page = tuple(self.entries)
                return [SuppressionsListed(id=question.id, suppressions=page, next=CURSOR)]

    def _goes(self, entry: Suppression, question: RemoveSuppressions) -> bool:
        is_bounce = entry.origin is SuppressionOrigin.BOUNCE
        return entry.email in question.emails and (is_bounce or entry.client == question.client)


@pytest.fixture
async def ledger(vhost: str, api: ApiClient) -> AsyncIterator[FakeLedger]:
    """Run a ledger without entries, once its queue is there."""
    del api
    fake = FakeLedger()
    contracts = (AddSuppressions, RemoveSuppressions, DescribeSuppression, ListSuppressions)
    async with running_service(vhost, topology.LEDGER_QUESTIONS, dict.fromkeys(contracts, fake)):
        yield fake


async def test_an_address_has_its_entries(api: ApiClient, ledger: FakeLedger) -> None:
    """A client sees its own entries, and those of all without the mail that led to them.

    The administrator sees that, too. Words of the administrator are not for clients.
    """
    of_all = {"client": None, "origin": SuppressionOrigin.MANUAL, "reason": "lawsuit"}
    ledger.entries = [BOUNCE, OWN, OWN.model_copy(update=of_all)]

    answer = await api.call("GET", "/v1/suppressions/ann@EXAMPLE.com")
    seen = await api.admin.call("GET", "/v1/suppressions/ann@example.com")

    assert (answer.status, answer.json["suppressions"][:2]) == (200, [SHOWN_BOUNCE, SHOWN_OWN])
    assert [each["suppressions"][2]["reason"] for each in (answer.json, seen.json)] == [
        "",
        "lawsuit",
    ]
    assert seen.json["suppressions"][0] == SHOWN_BOUNCE | {"source_id": "m1"}
    assert SuppressionEntries.model_validate_json(seen.content).suppressions[0].source_id == "m1"
    assert [(each.email, each.client) for each in ledger.got] == [
        ("ann@example.com", "shop"),
        ("ann@example.com", None),
    ]


async def test_an_address_without_entries_is_not_suppressed(
    api: ApiClient, ledger: FakeLedger
) -> None:
    """It is a 404 with a code of its own."""
    del ledger
    answer = await api.call("GET", "/v1/suppressions/bob@example.com")

    assert (answer.status, answer.json["code"]) == (404, "not-suppressed")


async def test_entries_are_listed_by_cursor(api: ApiClient, ledger: FakeLedger) -> None:
    """A page has the entries of the query, and the cursor of the next page."""
    ledger.entries = [OWN]

    answer = await api.call("GET", f"/v1/suppressions?origin=unsubscribe&after={CURSOR}&limit=7")

    assert (answer.status, answer.json) == (200, {"suppressions": [SHOWN_OWN], "next": CURSOR})
    [question] = ledger.got
    assert (question.client, question.origin) == ("shop", SuppressionOrigin.UNSUBSCRIBE)
    assert (question.after, question.limit) == (CURSOR, 7)


@pytest.mark.parametrize("after", ["0", "é", "W10=", "WzEsMiwzLDQsNV0=", "bnVsbA==", "%00"])
async def test_a_wrong_cursor_is_a_422(api: ApiClient, after: str) -> None:
    """A cursor that no page had is refused at once; the ledger would not answer it."""
    answer = await api.call("GET", f"/v1/suppressions?after={after}")

    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, "#/after")


@pytest.mark.parametrize(
    ("body", "categories", "origin"),
    [
        ({}, (Category.TRANSACTIONAL, Category.BULK), SuppressionOrigin.MANUAL),
        ({"list_id": "news"}, (Category.BULK,), SuppressionOrigin.MANUAL),
        ({"origin": "unsubscribe"}, (Category.BULK,), SuppressionOrigin.UNSUBSCRIBE),
        ({"categories": ["otp", "otp"]}, (Category.OTP,), SuppressionOrigin.MANUAL),
    ],
)
async def test_an_address_is_suppressed(
    api: ApiClient,
    ledger: FakeLedger,
    body: dict[str, Any],
    categories: tuple[Category, ...],
    origin: SuppressionOrigin,
) -> None:
    """A PUT adds an entry of the client, by default for all mail but codes."""
    given = body | {"reason": "by telephone", "expires_at": "2036-11-01T00:00:00Z"}
    answer = await api.call("PUT", "/v1/suppressions/Bob@Example.com", given)

    [entry] = ledger.entries
    assert answer.status == 200
    assert answer.json["email"] == "Bob@example.com"
    assert (entry.client, entry.list_id) == ("shop", body.get("list_id"))
    assert (entry.categories, entry.origin) == (categories, origin)
    assert entry.reason == "by telephone"
    assert entry.expires_at is not None


async def test_the_administrator_suppresses_for_all_clients(
    api: ApiClient, ledger: FakeLedger
) -> None:
    """An entry of the administrator has no client, and no client can remove it."""
    path = "/v1/suppressions/bob@example.com"
    answer = await api.admin.call("PUT", path, {})
    refused = await api.call("DELETE", path)
    removed = await api.admin.call("DELETE", path)

    assert answer.status == 200
    assert "client" not in answer.json
    assert (refused.status, refused.json["code"]) == (409, "suppressed-for-all")
    assert (removed.status, ledger.entries) == (204, [])


async def test_entries_of_an_address_are_removed(api: ApiClient, ledger: FakeLedger) -> None:
    """A DELETE removes the client's entries and those of bounces; again it is the same."""
    ledger.entries = [BOUNCE, OWN]
    answers = [await api.call("DELETE", "/v1/suppressions/ann@example.com") for _ in range(2)]

    assert [each.status for each in answers] == [204, 204]
    assert ledger.entries == []


async def test_many_addresses_are_changed_at_once(api: ApiClient, ledger: FakeLedger) -> None:
    """A batch adds addresses and objects, and removes others; the last of two equal ones counts."""
    ledger.entries = [OWN]
    body = {
        "add": [
            "bob@example.com",
            {"email": "carol@example.com", "list_id": "news"},
            {"email": "BOB@example.com", "reason": "twice"},
        ],
        "remove": ["ann@example.com", "dan@example.com"],
    }
    answer = await api.post("/v1/suppressions/batch", body)

    assert (answer.status, answer.json) == (200, {"added": 2, "removed": 1})
    assert [(each.email, each.list_id, each.reason) for each in ledger.entries] == [
        ("BOB@example.com", None, "twice"),
        ("carol@example.com", "news", ""),
    ]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "#"),
        ({"add": ["ann"]}, "#/add/0/email"),
        ({"add": [{"email": "ann@example.com", "expires_at": "2020-01-01T00:00:00Z"}]}, None),
        (
            {"add": ["bob@example.com", {"email": "ann@example.com", "reason": "a\0"}]},
            "#/add/1/reason",
        ),
        ({"remove": ["ann@example.com", "ann"]}, "#/remove/1"),
        ({"add": ["ann@example.com"], "remove": ["Ann@example.com"]}, "#"),
        ({"remove": [f"a{number}@example.com" for number in range(MAX_CHANGES + 1)]}, "#/remove"),
        (
            {
                "add": ["ann@example.com"],
                "remove": [f"a{number}@example.com" for number in range(MAX_CHANGES)],
            },
            "#",
        ),
        ({"add": [{"email": "ann@example.com", "list_id": "n", "categories": ["otp"]}]}, "#/add/0"),
    ],
)
async def test_a_mistake_in_a_batch_changes_nothing(
    api: ApiClient, ledger: FakeLedger, body: dict[str, Any], pointer: str | None
) -> None:
    """It is a 422 that names the address, and no question is asked."""
    answer = await api.post("/v1/suppressions/batch", body)

    assert (answer.status, answer.json["code"]) == (422, "invalid")
    assert [each["pointer"] for each in answer.json["errors"]] == [pointer or "#/add/0/expires_at"]
    assert ledger.got == []


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/suppressions/ann", 422),
        ("/v1/suppressions/" + "a" * 800 + "@example.com", 422),
        ("/v1/suppressions/%7Bann%7D%2Fb@example.com", 404),
        ("/v1/suppressions/b%C3%BCcher@b%C3%BCcher.example", 404),
    ],
)
async def test_the_address_of_a_path_may_have_any_character_of_addresses(
    api: ApiClient, ledger: FakeLedger, path: str, status: int
) -> None:
    """An address is a part of the path in percent-encoding; no address is a 422."""
    answer = await api.call("GET", path)

    assert answer.status == status
    assert answer.json["code"] == ("invalid" if status == 422 else "not-suppressed")
    assert len(ledger.got) == (status == 404)


async def test_without_a_ledger_nothing_is_known(api: ApiClient) -> None:
    """While the ledger does not answer each request is a 503 that may be repeated."""
    path = "/v1/suppressions/ann@example.com"
    for method, where, body in (
        ("GET", path, None),
        ("PUT", path, {}),
        ("DELETE", path, None),
        ("GET", "/v1/suppressions", None),
        ("POST", "/v1/suppressions/batch", {"add": ["ann@example.com"]}),
    ):
        answer = await api.call(method, where, body)

        assert (answer.status, answer.json["code"]) == (503, "unavailable")
        assert answer.json["detail"].endswith("Asking again does no harm.")
        assert "Retry-After" in answer.headers
