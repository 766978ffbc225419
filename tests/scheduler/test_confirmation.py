"""Confirming and opting out, with a real gateway, ledger and scheduler."""

import re
from collections.abc import Sequence

import pytest

from tests.gateway.api_client import ApiClient
from tests.scheduler.conftest import PUBLIC_URL, Scheduled
from tests.waiting import until

pytestmark = pytest.mark.rabbit

ANN = {"email": "ann@example.org", "content_type": "news", "frequency": "@daily"}
LINK = re.compile(rf"{PUBLIC_URL}(/subscribe/\S+)")
SUPPRESSIONS = "/v1/suppressions/ann@example.org"


async def lists(api: ApiClient) -> Sequence[str]:
    """Return the lists that the reader has opted out of, `*` for all."""
    answer = await api.call("GET", SUPPRESSIONS)
    return sorted(each.get("list_id", "*") for each in answer.json.get("suppressions", []))


async def opt_out(api: ApiClient, **more: object) -> None:
    """Keep an opt-out of the reader."""
    answer = await api.call("PUT", SUPPRESSIONS, {"origin": "unsubscribe", **more})
    assert answer.status == 200, answer.content


async def test_a_confirmation_lifts_the_opt_out_of_its_list(
    api: ApiClient, with_ledger: Scheduled
) -> None:
    """No request of a client lifts an opt-out; the reader's own button lifts that of one list.

    An opt-out of all lists stays, and ends the subscription; its link then confirms nothing.
    """
    await api.post("/v1/content-types", {"content_type": "news", "subject": "s", "content": "x"})
    for name in ("news", "offers"):
        await opt_out(api, list_id=name)
    refused = await api.post("/v1/subscriptions", ANN)
    asked = await api.post("/v1/subscriptions", ANN | {"confirm": True})
    found = LINK.search((await with_ledger.mail()).text or "")
    assert found
    before = await lists(api)
    confirmed = await api.call("POST", found[1], data=b"")
    active = await api.call("GET", asked.headers["Location"])

    assert (refused.status, refused.json["code"]) == (409, "opted-out")
    assert (asked.status, asked.json["status"]) == (201, "pending")
    assert before == ["news", "offers"]
    assert (confirmed.status, active.json["status"]) == (200, "active")
    assert await lists(api) == ["offers"]

    await opt_out(api)

    async def has_ended() -> bool:
        return (await api.call("GET", asked.headers["Location"])).status == 404

    await until(has_ended)
    gone = await api.call("POST", found[1], data=b"")
    again = await api.post("/v1/subscriptions", ANN | {"confirm": True})
    assert (gone.status, again.status, again.json["code"]) == (404, 409, "opted-out")
    assert await lists(api) == ["*", "offers"]
