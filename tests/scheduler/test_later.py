"""A mail for later from its request to the sender, with a real gateway and a real scheduler."""

from datetime import UTC, datetime, timedelta

import pytest

from shared.contracts import SendEmail
from tests.gateway.api_client import ApiClient
from tests.scheduler.conftest import Scheduled
from tests.waiting import until

pytestmark = pytest.mark.rabbit

PATH = "/v1/messages"
MILLISECONDS = len("2026-11-29T12:00:00.123")  # of a time, as precise as the ledger keeps it
NEW = {"to": "ann@example.org", "subject": "Hello", "text": "Hello, Ann."}


def written(seconds: float) -> str:
    """Return a time so many seconds ahead, as in a body."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


@pytest.fixture
def scheduler(with_ledger: Scheduled) -> Scheduled:
    """Return a scheduler beside a ledger."""
    return with_ledger


async def sent(scheduler: Scheduled) -> SendEmail:
    """Return the next mail that goes to a sender."""
    while True:
        mail = await scheduler.mail()
        if mail.scheduled_at is None:
            return mail


async def test_mails_are_sent_in_the_order_of_their_times(
    api: ApiClient, scheduler: Scheduled
) -> None:
    """A mail waits for its time, the last one that was set, and is one mail in the records."""
    first = await api.post(PATH, NEW | {"scheduled_at": written(86_400)})
    second = await api.post(PATH, NEW | {"scheduled_at": written(1)})
    at_once = await api.post(PATH, NEW | {"scheduled_at": written(-60)})
    mails = [await sent(scheduler), await sent(scheduler)]
    path = f"{PATH}/{first.json['id']}"
    changed = await api.call("PATCH", path, {"scheduled_at": written(-60)})
    set_to = changed.json["scheduled_at"]
    mails.append(await sent(scheduler))
    again = await api.call("PATCH", path, {"scheduled_at": written(86_400)})

    async def shows_the_time() -> bool:
        found = await api.call("GET", path)
        return bool(found.json["scheduled_at"][:MILLISECONDS] == set_to[:MILLISECONDS])

    await until(shows_the_time)
    listed = await api.call("GET", PATH)
    assert [each.id for each in mails] == [each.json["id"] for each in (at_once, second, first)]
    assert (changed.status, again.status) == (200, 409)
    assert len(listed.json["messages"]) == 3
    assert {each["status"] for each in listed.json["messages"]} == {"accepted"}


async def test_a_cancelled_mail_is_final_at_once(api: ApiClient, scheduler: Scheduled) -> None:
    """It does not wait for its time to show that it is cancelled, and is never sent."""
    answer = await api.post(PATH, NEW | {"scheduled_at": written(86_400)})
    path = f"{PATH}/{answer.json['id']}"
    deleted = await _deleted(api, path)

    async def is_final() -> bool:
        return bool((await api.call("GET", path)).json["status"] == "final")

    await until(is_final)
    shown, again = await api.call("GET", path), await api.call("DELETE", path)
    assert (deleted, again.json["cancelled"]) == (1, 1)
    assert [each["status"] for each in shown.json["recipients"]] == ["cancelled"]
    next_one = await api.post(PATH, NEW | {"scheduled_at": written(-60)})
    assert (await sent(scheduler)).id == next_one.json["id"]


async def _deleted(api: ApiClient, path: str) -> object:
    """Cancel a mail once the scheduler has it; there is no sender to ask before."""
    for _ in range(100):
        answer = await api.call("DELETE", path)
        if answer.status == 202:
            return answer.json["cancelled"]
    return answer.status
