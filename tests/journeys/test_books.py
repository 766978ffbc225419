"""The books of a stack: mails that end in every way, and where each of them is found."""

import asyncio
import itertools
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.journeys.stack import Stack, running
from tests.journeys.user import Answer, User
from tests.modules import ROOT
from tests.waiting import until

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

DELIVERED = "ada@books.example"
BOUNCED = "reply-rcpt-550-5-1-1@books.example"
DEFERRED = "reply-rcpt-451-4-3-0@books.example"
EXPIRED = "reply-rcpt-452-4-2-2@books.example"
ENDS = {
    DELIVERED: "delivered",
    BOUNCED: "bounced",
    DEFERRED: "deferred",
    EXPIRED: "expired",
}
AT_ONCE = 40  # mails to slow recipients: more than there are connections


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Start a stack that nobody else has sent anything to."""
    with running(tmp_path_factory.mktemp("books") / ".run") as started:
        yield started


async def record(user: User, identifier: str) -> dict[str, Any]:
    """Return what the API says of a message."""
    answer = await user.ask("GET", f"/v1/messages/{identifier}")
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.body
    return found


async def wait_for_status(user: User, identifier: str, status: str) -> dict[str, Any]:
    """Wait until each recipient of a message has a status; return the message."""

    async def has_it() -> bool:
        found = await record(user, identifier)
        return {each["status"] for each in found["recipients"]} == {status}

    await until(has_it, within=60)
    return await record(user, identifier)


async def send(user: User, to: str | list[str], **more: object) -> str:
    """Send a mail and return its id."""
    answer = await user.send(to, **more)
    assert answer.status == 202, answer
    identifier: str = answer.body["id"]
    return identifier


async def check(stack: Stack) -> subprocess.CompletedProcess[str]:
    """Run `ops ledger check` on the stack."""
    return await run_ops(stack, "ledger", "check")


async def run_ops(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program for operators on the stack."""
    return await asyncio.to_thread(
        subprocess.run,
        (sys.executable, "-m", "ops", *words),
        cwd=ROOT,
        env={"RUN_DIR": str(stack.run_dir), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


async def test_a_message_is_found_right_after_its_202(user: User) -> None:
    """A GET after the 202 is never a 404, whichever state the message has reached."""
    for _ in range(20):
        found = await record(user, await send(user, DELIVERED))

        assert found["recipients"][0]["status"] in {"waiting", "delivered"}


async def test_the_books_have_every_end_and_add_up(user: User, stack: Stack) -> None:
    """Status, list and sums agree on mails of every end, and `ops ledger check` adds them up."""
    tags = [{"name": "journey", "value": "books"}]
    sent = {to: await send(user, to, tags=tags, retries=0 if to == EXPIRED else 9) for to in ENDS}
    found = {to: await wait_for_status(user, sent[to], end) for to, end in ENDS.items()}
    cancelled = await user.ask("DELETE", f"/v1/messages/{sent[DEFERRED]}")
    again = await user.ask("DELETE", f"/v1/messages/{sent[DEFERRED]}")
    late = await user.ask("DELETE", f"/v1/messages/{sent[DELIVERED]}")
    during = await check(stack)
    await wait_for_status(user, sent[DEFERRED], "cancelled")
    listed = await user.ask("GET", "/v1/messages?tag=journey:books")
    bounced = await user.ask("GET", "/v1/messages?tag=journey&status=bounced")
    sums = await user.ask("GET", "/v1/stats?tag=journey:books")
    after = await check(stack)

    assert [each["status"] for each in found[DEFERRED]["recipients"][0]["history"]] == ["deferred"]
    assert found[BOUNCED]["recipients"][0]["reply_class"] == "mailbox_unknown"
    assert sent[DELIVERED] in found[DELIVERED]["message_id"]
    assert (cancelled.status, cancelled.body["cancelled"]) == (202, 1)
    assert (again.status, late.status, late.body["code"]) == (202, 409, "too-late")
    assert [each["id"] for each in listed.body["messages"]] == [*reversed(sent.values())]
    assert [each["id"] for each in bounced.body["messages"]] == [sent[BOUNCED]]
    assert {key: sums.body[key] for key in ("total", "successful", "failed")} == {
        "total": 4,
        "successful": 1,
        "failed": 3,
    }
    for outcome in (during, after):
        assert outcome.returncode == 0, outcome.stdout + outcome.stderr
        assert outcome.stdout.endswith("the books add up\n")
    assert "1 cancelled" in after.stdout
    assert "0 waiting + 0 dead" in after.stdout


async def test_the_books_add_up_after_a_person_was_forgotten(user: User, stack: Stack) -> None:
    """Sums stay, the forgotten recipients are counted, and no file of a database has the person."""
    person = "grace.hopper@books.example"
    kept, sent = await send(user, DELIVERED), await send(user, person)
    for each in (kept, sent):
        await wait_for_status(user, each, "delivered")
    before = await user.ask("GET", "/v1/stats")
    asked = await run_ops(stack, "forget", person)

    async def is_forgotten() -> bool:
        return (await user.ask("GET", f"/v1/messages/{sent}")).status == 404

    async def is_in_no_file() -> bool:
        # The sender's outcome of today answers a copy of its command.
        files = (stack.run_dir / "data").glob("ledger.sqlite*")
        return not any(b"grace.hopper" in each.read_bytes() for each in files)

    await until(is_forgotten, within=60)
    await until(is_in_no_file)
    after = await user.ask("GET", "/v1/stats")
    checked = await check(stack)

    assert asked.returncode == 0, asked.stderr
    assert after.body["counts"] == before.body["counts"]
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "forgotten: 1 of these recipients\n" in checked.stdout


async def test_no_client_sees_the_mail_of_another(user: User, stack: Stack) -> None:
    """Another client's message is a 404, and its list and sums are empty."""
    admin = stack.record["admin_token"]
    made = await user.ask("POST", "/v1/clients", {"id": "bakery"}, key=admin)
    key = made.body["api_key"]
    identifier = await send(user, DELIVERED)
    await wait_for_status(user, identifier, "delivered")

    other = await user.ask("GET", f"/v1/messages/{identifier}", key=key)
    listed = await user.ask("GET", "/v1/messages", key=key)
    sums = await user.ask("GET", "/v1/stats", key=key)
    seen = await user.ask("GET", f"/v1/messages/{identifier}", key=admin)

    assert (other.status, other.body["code"]) == (404, "no-such-message")
    assert listed.body == {"messages": []}
    assert (sums.body["total"], sums.body["counts"]["accepted"]) == (0, 0)
    assert seen.status == 200


async def test_an_answer_to_a_cancelling_is_true(user: User) -> None:
    """A 409 is never of a mail that is cancelled, and no 202 comes after it.

    The repeats of a DELETE meet mails that wait, in an attempt, and at their ends.
    """
    to = ["slow-2000-dot+ann@books.example", "slow-2000-dot+bob@books.example"]
    sent = await asyncio.gather(*(send(user, to) for _ in range(AT_ONCE)))
    got: dict[str, list[Answer]] = {each: [] for each in sent}
    left = {*sent}
    async with asyncio.timeout(60):
        while left:
            for each in sent:
                got[each].append(await user.ask("DELETE", f"/v1/messages/{each}"))
            found = await asyncio.gather(*(record(user, each) for each in left))
            left = {each["id"] for each in found if each["status"] != "final"}
    for each in sent:
        got[each].append(await user.ask("DELETE", f"/v1/messages/{each}"))
    ends = {
        each: {one["status"] for one in (await record(user, each))["recipients"]} for each in sent
    }

    assert {"cancelled"} <= {*itertools.chain(*ends.values())} <= {"cancelled", "delivered"}
    for each, answers in got.items():
        statuses = [answer.status for answer in answers]
        assert statuses == sorted(statuses)
        assert statuses[-1] == (202 if "cancelled" in ends[each] else 409)
        if any(answer.status == 202 and answer.body["cancelled"] == len(to) for answer in answers):
            assert ends[each] == {"cancelled"}
