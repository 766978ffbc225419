"""A mail for later from its request to the sender, with a real gateway and a real scheduler."""

from datetime import UTC, datetime, timedelta

import pytest

from ops import books
from ops.ledger import Auditor
from shared import topology
from shared.contracts import CancelEmail, Category, EmailDelivered, SendEmail
from tests.gateway.api.test_records import cancelling
from tests.gateway.api_client import ApiClient
from tests.gateway.fake_service import FakeService, running_service
from tests.ledger.books import event
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
    changed = await api.call("PATCH", path, {"scheduled_at": written(-60)})
    assert (deleted, again.json["cancelled"]) == (1, 1)
    assert (changed.status, changed.json["code"]) == (409, "not-scheduled")
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


async def faults(scheduler: Scheduled, queued: int = 0) -> tuple[list[str], str]:
    """Return what `ops ledger check` finds, and its equation, with so many mails in a queue."""
    queues = {topology.sending_queue(Category.TRANSACTIONAL): queued}
    now = datetime.now(UTC)
    found = await Auditor(scheduler.broker).books(now - timedelta(days=1), lambda: queues, 0.0)
    patience = dict.fromkeys(Category, timedelta(days=1))
    return [*books.faults(found, now, patience)], books.equation(found)


async def test_a_repeated_request_is_one_mail_also_after_a_change(
    api: ApiClient, scheduler: Scheduled
) -> None:
    """It has the same answer, and neither moves the mail back nor sends it again; the books agree.

    The mail is listed as waiting with the time that was set last, until it has an outcome.
    """
    key = {"Idempotency-Key": "order-17"}
    expires_at = written(2 * 86_400)
    body = NEW | {"scheduled_at": written(86_400), "expires_at": expires_at}
    first = await api.post(PATH, body, key)
    path = f"{PATH}/{first.json['id']}"
    changed = await api.call("PATCH", path, {"scheduled_at": written(3600)})
    repeated = await api.post(PATH, body, key)

    async def shows_the_time() -> bool:
        [found] = (await api.call("GET", f"{PATH}?status=waiting")).json["messages"]
        set_to: str = changed.json["scheduled_at"]
        return bool(found["scheduled_at"][:MILLISECONDS] == set_to[:MILLISECONDS])

    await until(shows_the_time)
    waiting = await faults(scheduler)
    gone = await api.call("PATCH", path, {"scheduled_at": written(-60)})
    mail = await sent(scheduler)
    after = await api.post(PATH, body, key)
    on_its_way = await faults(scheduler, 1)
    await scheduler.broker.publish(event(EmailDelivered, mail.id, "ann@example.org"))

    async def is_final() -> bool:
        return bool((await api.call("GET", path)).json["status"] == "final")

    await until(is_final)
    ended = await faults(scheduler)
    other = await api.post(PATH, NEW | {"scheduled_at": written(-60)})

    assert first.json == repeated.json == after.json
    assert (changed.status, gone.status) == (200, 200)
    assert (mail.id, mail.expires_at) == (first.json["id"], datetime.fromisoformat(expires_at))
    assert (await sent(scheduler)).id == other.json["id"]
    assert (waiting[0], on_its_way[0], ended[0]) == ([], [], [])
    assert ended[1].startswith("1 accepted = 1 delivered")


async def test_a_cancellation_at_the_last_moment(api: ApiClient, scheduler: Scheduled) -> None:
    """A mail that is cancelled as it becomes due is sent or cancelled, never both, and counted."""
    sender = FakeService(cancelling(undecided=1))
    async with running_service(scheduler.url, topology.SENDER_QUESTIONS, {CancelEmail: sender}):
        posted = [
            await api.post(PATH, NEW | {"scheduled_at": written(number / 40)})
            for number in range(20)
        ]
        ids = [each.json["id"] for each in posted]
        mails = [await sent(scheduler)]  # the others are due just now
        answers = [await api.call("DELETE", f"{PATH}/{each}") for each in ids]
    cancelled = {
        each for each, answer in zip(ids, answers, strict=True) if answer.json["cancelled"]
    }
    last = await api.post(PATH, NEW | {"scheduled_at": written(1)})
    while mails[-1].id != last.json["id"]:
        mails.append(await sent(scheduler))

    async def are_final() -> bool:
        found = await api.call("GET", f"{PATH}?status=cancelled")
        return {each["id"] for each in found.json["messages"]} == cancelled

    await until(are_final)
    assert mails[0].id not in cancelled
    assert {each.status for each in answers} == {202}
    assert sorted(each.id for each in mails[:-1]) == sorted({*ids} - cancelled)
    assert (await faults(scheduler, len(mails)))[0] == []
