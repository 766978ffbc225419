"""Batches over HTTP, on a real broker."""

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from services.gateway.app import OPERATIONS
from shared import contracts, topology
from shared.contracts import Category, EmailDelivered, SendEmail
from shared.template import MailTemplate, RenderedMail, Variables
from tests.gateway.api_client import MAIL, ApiClient, ApiResponse, declare, running, settings
from tests.gateway.fake_service import FakeService, outcomes, running_service
from tests.tap import Tap, depth, tapped
from tests.waiting import PATIENCE_SECONDS

PATH = "/v1/messages/batch"
STRICT = f"{PATH}?mode=strict"
TRANSACTIONAL = topology.sending_queue(Category.TRANSACTIONAL)
KEY = {"Idempotency-Key": "mailing-17"}
WRONG = MAIL | {"to": ["ann@example.com", "nobody"]}
BULK = MAIL | {"category": "bulk"}  # for which there is no queue
MAILING: dict[str, Any] = {
    "template": {
        "subject": "Hello {{ name }}",
        "text": "Dear {{ name }},\n{% for each in orders %}\n- {{ each }}\n{% endfor %}",
        "html": "<p>Dear {{ name }}",
    },
    "recipients": [
        {"to": "ann@example.com", "variables": {"name": "Ann <3", "orders": ["Tea", "Cup"]}},
        {"to": ["bob@example.com"], "variables": {"name": "Bob", "orders": []}, "id": "bob-17"},
    ],
}


async def sent(tap: Tap, count: int) -> list[SendEmail]:
    """Return the next commands."""
    commands = []
    for _ in range(count):
        arrived = await tap.next()
        command = contracts.decode(arrived.type or "", arrived.body)
        assert isinstance(command, SendEmail)
        commands.append(command)
    return commands


def statuses(answer: ApiResponse) -> list[str]:
    """Return the status of each message."""
    return [each["status"] for each in answer.json["messages"]]


def ids(answer: ApiResponse) -> list[str]:
    """Return the id of each message."""
    return [each["id"] for each in answer.json["messages"]]


@pytest.mark.parametrize("listed", [True, False], ids=["bare list", "object"])
async def test_each_message_of_a_batch_is_published(
    api: ApiClient, vhost: str, *, listed: bool
) -> None:
    """A 202 names the id of each message, in the order of the request; all are on the queue."""
    mails = [MAIL | {"subject": f"Hello {number}"} for number in range(500)]
    async with tapped(vhost, topology.COMMANDS) as tap:
        answer = await api.post(PATH, mails if listed else {"messages": mails})
        commands = {each.id: each for each in await sent(tap, 500)}

    assert answer.status == 202
    assert (answer.json["accepted"], answer.json["refused"]) == (500, 0)
    assert set(statuses(answer)) == {"accepted"}
    assert [commands[each].subject for each in ids(answer)] == [each["subject"] for each in mails]
    assert {each.client for each in commands.values()} == {"shop"}
    assert await depth(vhost, TRANSACTIONAL) == 500


async def test_mistakes_do_not_stop_the_other_messages(api: ApiClient, vhost: str) -> None:
    """A message with mistakes is answered with their places in it; the others are published."""
    async with tapped(vhost, topology.COMMANDS) as tap:
        answer = await api.post(
            PATH, [MAIL, WRONG, MAIL | {"expires_at": "2026-01-01T00:00:00Z"}, 7, MAIL]
        )
        commands = await sent(tap, 2)

    assert answer.status == 207
    assert (answer.json["accepted"], answer.json["refused"]) == (2, 3)
    assert statuses(answer) == ["accepted", "refused", "refused", "refused", "accepted"]
    first, wrong, late, number, last = answer.json["messages"]
    assert {first["id"], last["id"]} == {each.id for each in commands}
    assert (wrong["code"], wrong["errors"][0]["pointer"]) == ("invalid", "#/to/1")
    assert late["code"] == "expired"
    assert number["errors"] == [{"pointer": "#", "detail": "must be a JSON object"}]
    assert await depth(vhost, TRANSACTIONAL) == 2


async def test_a_strict_batch_is_all_or_nothing(api: ApiClient, vhost: str) -> None:
    """With one mistake a strict batch is a 422 with its place, and nothing is published."""
    refused = await api.post(STRICT, {"messages": [MAIL, WRONG, MAIL]}, KEY)
    bare = await api.post(STRICT, [MAIL, MAIL | {"expires_at": "2026-01-01T00:00:00Z"}])
    accepted = await api.post(STRICT, {"messages": [MAIL, MAIL]}, KEY)

    assert (refused.status, refused.json["code"]) == (422, "invalid")
    assert [each["pointer"] for each in refused.json["errors"]] == ["#/messages/1/to/1"]
    assert [each["pointer"] for each in bare.json["errors"]] == ["#/1/expires_at"]
    assert accepted.status == 202
    assert await depth(vhost, TRANSACTIONAL) == 2


async def test_fifty_equal_batches_with_one_key_are_one_set_of_mails(
    api: ApiClient, vhost: str
) -> None:
    """Fifty requests at once with one key have one answer, and each message one id."""
    await declare(vhost, [TRANSACTIONAL], max_length=1000)
    sender = FakeService(outcomes(EmailDelivered))
    async with running_service(vhost, TRANSACTIONAL, {SendEmail: sender}):
        answers = await asyncio.gather(*(api.post(PATH, [MAIL] * 10, KEY) for _ in range(50)))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(sender.got) < 500:
                sender.asked.clear()
                await sender.asked.wait()

    assert {answer.status for answer in answers} == {202}
    assert len({answer.content for answer in answers}) == 1
    assert len({command.id for command in sender.got}) == 10
    assert len({contracts.encode(command) for command in sender.got}) == 10


async def test_a_key_stands_for_one_batch(api: ApiClient) -> None:
    """A key with another batch is a 422; a batch of mistakes alone does not take its key."""
    assert (await api.post(PATH, [WRONG], KEY)).status == 207
    assert (await api.post(PATH, [MAIL], KEY)).status == 202

    other = await api.post(PATH, [MAIL, MAIL], KEY)

    assert (other.status, other.json["code"]) == (422, "idempotency-key-reused")


async def test_a_message_may_have_an_id_of_its_own(api: ApiClient, vhost: str) -> None:
    """The same id again, also in another batch, is the same message; twice in one is a mistake."""
    async with tapped(vhost, topology.COMMANDS) as tap:
        first = await api.post(PATH, [MAIL | {"id": "order-17"}, MAIL])
        again = await api.post(PATH, [MAIL | {"id": "order-17"}])
        twice = await api.post(PATH, [MAIL | {"id": "a"}, MAIL | {"id": "a"}])
        commands = await sent(tap, 4)

    assert ids(first)[0] == ids(again)[0] == "order-17"
    assert [each.id for each in commands][2:] == ["order-17", "a"]
    assert statuses(twice) == ["accepted", "refused"]
    assert twice.json["messages"][1]["errors"][0]["pointer"] == "#/id"


async def test_no_message_has_the_name_of_another_path(api: ApiClient) -> None:
    """An id is refused if GET and DELETE of it would be those of something else."""
    below = "/v1/messages/"
    taken = {each.path.removeprefix(below) for each in OPERATIONS if each.path.startswith(below)}
    taken = {each for each in taken if "{" not in each}

    listed = await api.post(PATH, [MAIL | {"id": each} for each in taken])
    made = await api.post(
        PATH, MAILING | {"recipients": [MAILING["recipients"][0] | {"id": each} for each in taken]}
    )

    assert taken >= {"batch"}
    for answer in (listed, made):
        assert set(statuses(answer)) == {"refused"}
        [mistake] = answer.json["messages"][0]["errors"]
        assert mistake == {
            "pointer": "#/id",
            "detail": "must not be batch, which has a path of its own",
        }


async def test_messages_that_no_queue_takes_are_unavailable(api: ApiClient, vhost: str) -> None:
    """Each message has the answer that is true of it; the same batch later is completed."""
    mixed = await api.post(PATH, [MAIL, BULK, WRONG], KEY)
    assert mixed.status == 207
    assert statuses(mixed) == ["accepted", "unavailable", "refused"]
    assert mixed.json["messages"][1]["code"] == "unavailable"

    await declare(vhost, [topology.sending_queue(Category.BULK)])
    again = await api.post(PATH, [MAIL, BULK, WRONG], KEY)

    assert statuses(again) == ["accepted", "accepted", "refused"]
    assert again.json["messages"][1]["id"] == mixed.json["messages"][1]["id"]
    assert await depth(vhost, topology.sending_queue(Category.BULK)) == 1


async def test_a_batch_that_no_queue_takes_is_a_503(api: ApiClient) -> None:
    """With nothing but failures the whole request is one, to be sent again."""
    answer = await api.post(PATH, [BULK, BULK], KEY)

    assert (answer.status, answer.json["code"]) == (503, "unavailable")
    assert "no harm" in answer.json["detail"]
    assert int(answer.headers["Retry-After"]) > 0


async def test_a_queue_that_becomes_full_in_a_batch(
    vhost: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """Every message that is answered as accepted is on the queue."""
    await declare(vhost, max_length=20)
    async with running(settings(vhost, tmp_path), http) as api:
        answers = [await api.post(PATH, [MAIL] * 10) for _ in range(8)]

    assert answers[0].status == 202
    assert answers[-1].status in {207, 503}
    accepted = sum(answer.json.get("accepted", 0) for answer in answers)
    assert await depth(vhost, TRANSACTIONAL) == accepted


async def test_each_message_is_from_an_address_of_the_client(api: ApiClient) -> None:
    """A From that the client may not use is refused for its message."""
    shop = await api.registered("outlet", senders=["@outlet.example"])
    mails = [MAIL | {"from": "a@outlet.example"}, MAIL | {"from": "a@bank.example"}, MAIL]

    answer = await shop.post(PATH, mails)

    assert statuses(answer) == ["accepted", "refused", "accepted"]
    assert answer.json["messages"][1]["code"] == "foreign-sender"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ([], "#"),
        ({"messages": []}, "#/messages"),
        ({"messages": MAIL}, "#/messages"),
        ([MAIL] * 501, "#"),
        ({"messages": [MAIL] * 501}, "#/messages"),
        (MAILING | {"recipients": []}, "#/recipients"),
        (MAILING | {"subject": "Hello"}, "#/subject"),
        (MAILING | {"category": "urgent"}, "#/category"),
        (MAILING | {"template": {"subject": "Hello"}}, "#/template"),
        (MAILING | {"template": {"text": "Hello"}}, "#/template/subject"),
    ],
)
async def test_a_batch_has_a_form_and_a_size(api: ApiClient, body: object, pointer: str) -> None:
    """A mistake that is not of one message is a 422 of the whole request."""
    answer = await api.post(PATH, body)

    assert (answer.status, answer.json["code"]) == (422, "invalid")
    assert [each["pointer"] for each in answer.json["errors"]] == [pointer]


@pytest.mark.parametrize("body", [{}, MAIL, 7, {"messages": [MAIL], "mode": "strict"}])
async def test_another_body_is_no_batch(api: ApiClient, body: object) -> None:
    """A body of another form is a 422 that names the forms."""
    answer = await api.post(PATH, body)

    assert answer.status == 422
    assert '"template"' in answer.json["detail"]


@pytest.mark.parametrize("query", ["mode=loose", "mode=strict&mode=strict", "strict=1"])
async def test_a_wrong_mode_is_refused(api: ApiClient, query: str) -> None:
    """A mode that is not known is not taken for the other one."""
    assert (await api.post(f"{PATH}?{query}", [MAIL])).status == 422


async def test_one_content_is_sent_to_each_recipient(api: ApiClient, vhost: str) -> None:
    """Each recipient gets a message of its own with its variables, in HTML escaped."""
    more = {"from": "Shop <a@shop.example>", "tags": [{"name": "a", "value": "b"}]}
    async with tapped(vhost, topology.COMMANDS) as tap:
        answer = await api.post(PATH, MAILING | more)
        ann, bob = sorted(await sent(tap, 2), key=lambda each: each.to)

    assert answer.status == 202
    assert ids(answer) == [ann.id, bob.id]
    assert bob.id == "bob-17"
    assert (ann.to, ann.subject) == (("ann@example.com",), "Hello Ann <3")
    assert (ann.text, ann.html) == ("Dear Ann <3,\n- Tea\n- Cup\n", "<p>Dear Ann &lt;3")
    assert (bob.to, bob.subject, bob.text) == (("bob@example.com",), "Hello Bob", "Dear Bob,\n")
    assert {each.from_ for each in (ann, bob)} == {"Shop <a@shop.example>"}
    assert {each.tags for each in (ann, bob)} == {ann.tags} != {()}


async def test_a_mistake_of_one_recipient_is_answered_for_it(api: ApiClient, vhost: str) -> None:
    """A variable that is missing, or a wrong address, does not stop the other recipients."""
    wrong = [{"to": "eve@example.com"}, {"to": "nobody", "variables": {"name": "E", "orders": []}}]
    mailing = MAILING | {"recipients": [*MAILING["recipients"], *wrong]}

    answer = await api.post(PATH, mailing)
    strict = await api.post(STRICT, mailing)

    assert answer.status == 207
    assert statuses(answer) == ["accepted", "accepted", "refused", "refused"]
    assert answer.json["messages"][2]["errors"] == [
        {
            "pointer": "#/variables",
            "detail": "line 1 of the subject: name is not among the variables",
        }
    ]
    assert [each["pointer"] for each in strict.json["errors"]] == [
        "#/recipients/2/variables",
        "#/recipients/3/to/0",
    ]
    assert await depth(vhost, TRANSACTIONAL) == 2


async def test_a_template_that_cannot_be_read_is_one_422(api: ApiClient, vhost: str) -> None:
    """A mistake in the template is reported once, with its part, line and reason."""
    template = MAILING["template"] | {"html": "<p>\n{{ name }"}

    answer = await api.post(PATH, MAILING | {"template": template})

    assert (answer.status, answer.json["code"]) == (422, "template-invalid")
    assert answer.json["errors"] == [
        {"pointer": "#/template/html", "detail": "line 2: unexpected '}'"}
    ]
    assert await depth(vhost, TRANSACTIONAL) == 0


async def test_other_requests_go_on_between_the_messages_of_a_batch(
    api: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each message of a template lets the event loop run, also one that is refused."""
    passes: list[int] = []
    rendered = MailTemplate.render
    passed = 0

    async def count() -> None:
        nonlocal passed
        while True:
            passed += 1
            await asyncio.sleep(0)

    def render(template: MailTemplate, variables: Variables) -> RenderedMail:
        passes.append(passed)
        return rendered(template, variables)

    monkeypatch.setattr(MailTemplate, "render", render)
    counting = asyncio.create_task(count())
    answer = await api.post(PATH, MAILING | {"recipients": [{"to": "ann@example.com"}] * 10})
    counting.cancel()

    assert set(statuses(answer)) == {"refused"}
    assert len(set(passes)) == 10


async def test_the_memory_of_rendered_messages_is_bounded(
    vhost: str, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    """Rendered messages count in the budget of large bodies, until they are answered."""
    await declare(vhost)
    given = settings(vhost, tmp_path, gateway_max_bodies=1024, gateway_max_body=64 * 1024)
    large = MAILING["template"] | {"text": "x" * 20_000, "html": None}
    async with running(given, http) as api:
        small = await api.post(PATH, MAILING)
        several = MAILING | {"template": large, "recipients": MAILING["recipients"] * 3}
        refused = await api.post(PATH, several)
        again = await api.post(PATH, MAILING)

    assert (small.status, again.status) == (202, 202)
    assert (refused.status, refused.json["code"]) == (503, "overloaded")
    assert await depth(vhost, TRANSACTIONAL) == 4
