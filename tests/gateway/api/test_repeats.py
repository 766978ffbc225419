"""Messages that are sent again with one Idempotency-Key, over HTTP on a real broker."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from shared import topology
from shared.contracts import Category, Contract, EmailDelivered, SendEmail
from tests.gateway.api_client import MAIL, ApiClient, declare
from tests.gateway.fake_service import FakeService, outcomes, running_service
from tests.tap import tapped
from tests.waiting import PATIENCE_SECONDS, until

TRANSACTIONAL = topology.sending_queue(Category.TRANSACTIONAL)
KEY = {"Idempotency-Key": "order-17"}


async def test_a_message_sent_again_with_its_key_is_the_same_mail(
    api: ApiClient, vhost: str
) -> None:
    """A repeat with the same key has the same response and the same command: one mail."""
    async with tapped(vhost, topology.COMMANDS) as tap:
        answers = [await api.post("/v1/messages", MAIL, KEY) for _ in range(3)]
        arrived = [await tap.next() for _ in answers]

    assert [answer.status for answer in answers] == [202] * 3
    assert len({answer.content for answer in answers}) == 1
    assert len({answer.headers["Location"] for answer in answers}) == 1
    assert len({message.body for message in arrived}) == 1
    replayed = [answer.headers.get("Idempotent-Replayed") for answer in answers]
    assert replayed == [None, "true", "true"]


async def test_fifty_at_once_with_one_key_are_one_mail(api: ApiClient, vhost: str) -> None:
    """Fifty requests at once with one key have one response and one id."""
    sender = FakeService()
    async with running_service(vhost, TRANSACTIONAL, {SendEmail: sender}):
        answers = await asyncio.gather(*(api.post("/v1/messages", MAIL, KEY) for _ in range(50)))

    assert {answer.status for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert len({command.id for command in sender.got}) == 1


async def test_a_repeat_of_a_request_that_waits_is_a_409_until_it_is_answered(
    api: ApiClient, vhost: str
) -> None:
    """Of fifty requests at once that wait, one is answered; 49 are a 409 with Retry-After.

    While it waits, a second could end before it and with another answer. Later the answer is the
    same, and so it is at once for a request that does not wait.
    """
    sender, release = FakeService(outcomes(EmailDelivered)), asyncio.Event()

    async def late(message: Contract) -> Sequence[Contract]:
        events = await sender(message)
        await release.wait()
        return events

    waiting = KEY | {"Prefer": "wait=20"}
    async with running_service(vhost, TRANSACTIONAL, {SendEmail: late}):
        asked = [asyncio.create_task(api.post("/v1/messages", MAIL, waiting)) for _ in range(50)]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while sum(task.done() for task in asked) < 49:
                await asyncio.wait(
                    [task for task in asked if not task.done()],
                    return_when=asyncio.FIRST_COMPLETED,
                )
        at_once = await api.post("/v1/messages", MAIL, KEY)
        release.set()
        answers = await asyncio.gather(*asked)
        later = await api.post("/v1/messages", MAIL, waiting)

    [first] = (answer for answer in answers if answer.status == 200)
    others = [answer for answer in answers if answer is not first]
    assert {(each.status, each.json["code"]) for each in others} == {(409, "request-in-progress")}
    assert all(1 <= int(each.headers["Retry-After"]) <= 5 for each in others)
    assert (at_once.status, at_once.json["id"]) == (202, first.json["id"])
    assert (later.status, later.content) == (200, first.content)
    assert {command.id for command in sender.got} == {first.json["id"]}


async def test_a_request_that_waited_in_vain_can_be_repeated(api: ApiClient) -> None:
    """A request whose wait ended with a 202 or a 503 no longer holds its key."""
    waiting = KEY | {"Prefer": "wait=1"}
    bulk = MAIL | {"category": "bulk"}
    assert [(await api.post("/v1/messages", bulk, waiting)).status for _ in range(2)] == [503, 503]

    other = waiting | {"Idempotency-Key": "order-18"}
    assert [(await api.post("/v1/messages", MAIL, other)).status for _ in range(2)] == [202, 202]


async def test_a_key_stands_for_one_body(api: ApiClient) -> None:
    """A key with another body is a 422."""
    assert (await api.post("/v1/messages", MAIL, KEY)).status == 202

    other = await api.post("/v1/messages", MAIL | {"subject": "Another"}, KEY)

    assert (other.status, other.json["code"]) == (422, "idempotency-key-reused")


async def test_a_key_is_its_clients_own(api: ApiClient) -> None:
    """The same key of two clients stands for two requests."""
    bank = await api.registered("bank")

    ours = await api.post("/v1/messages", MAIL, KEY)
    theirs = await bank.post("/v1/messages", MAIL | {"subject": "Another"}, KEY)

    assert (ours.status, theirs.status) == (202, 202)
    assert ours.json["id"] != theirs.json["id"]


async def test_a_refused_message_does_not_take_its_key(api: ApiClient) -> None:
    """A request with mistakes does not use up its key."""
    wrong = await api.post("/v1/messages", MAIL | {"to": "nobody"}, KEY)
    right = await api.post("/v1/messages", MAIL, KEY)

    assert (wrong.status, right.status) == (422, 202)


async def test_a_message_refused_before_is_accepted_with_the_same_key(
    api: ApiClient, vhost: str
) -> None:
    """A message refused with a 503 is accepted with the same key once there is a queue."""
    bulk = MAIL | {"category": "bulk"}
    assert (await api.post("/v1/messages", bulk, KEY)).status == 503

    await declare(vhost, [topology.sending_queue(Category.BULK)])

    assert (await api.post("/v1/messages", bulk, KEY)).status == 202


async def test_a_key_of_the_wrong_form_is_refused(api: ApiClient) -> None:
    """A key of the wrong form is a 400."""
    for key in ("", "x" * 257, "a\tb", '""'):
        answer = await api.post("/v1/messages", MAIL, {"Idempotency-Key": key})

        assert (answer.status, answer.json["code"]) == (400, "malformed")


async def test_a_repeat_after_its_end_has_the_first_answer(api: ApiClient) -> None:
    """A message that was accepted before its end is not refused when its request is repeated."""
    end = datetime.now(UTC) + timedelta(seconds=2)
    brief = MAIL | {"expires_at": end.isoformat()}

    first = await api.post("/v1/messages", brief, KEY)
    await until(lambda: _is_after(end))
    again = await api.post("/v1/messages", brief, KEY)

    assert (first.status, again.status) == (202, 202)
    assert first.content == again.content


async def _is_after(moment: datetime) -> bool:
    return datetime.now(UTC) > moment
