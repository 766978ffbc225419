"""Newsletters: from a subscription to the mailbox, and out again by the link."""

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.journeys.stack import Stack, fresh_environ, running
from tests.journeys.user import CODE, User
from tests.sender.keys import RSA, write_key
from tests.sender.verifier import signatures, verifies
from tests.waiting import until

pytestmark = [pytest.mark.journey, pytest.mark.timeout(400)]

ADA, BOB = "ada@reader.example", "bob@reader.example"
SLOW = "slow-10000-dot+x@reader.example"  # holds the only connection for bulk mail
LINK = re.compile(r"<(https://mail\.shop\.example(/\S+))>")
PERIOD = re.compile(r"\.(\d{8}T\d{6}Z)")  # in the id of a newsletter
NEXT_SECONDS = 100.0  # until the next minute, and its mail
ONE_CLICK = {"List-Unsubscribe": "One-Click"}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Start a stack that signs, has one connection for bulk mail, and is behind https."""
    write_key(tmp_path / "dkim" / "shop.example" / "r1.pem")
    own = {
        "SCHEDULER_PUBLIC_URL": "https://mail.shop.example",
        "SCHEDULER_SPREAD_SECONDS": "0",
        "SCHEDULER_FROM": "The Shop <news@shop.example>",
        "SENDER_CONNECTIONS_BULK": "1",
        "SENDER_DKIM_KEYS": str(tmp_path / "dkim"),
    }
    with running(tmp_path / "run", fresh_environ(tmp_path / "run") | own) as started:
        yield started


@pytest.fixture
async def user(stack: Stack) -> AsyncIterator[User]:
    """Return a user of that stack."""
    async with User.of(stack.record) as somebody:
        yield somebody


async def subscribe(user: User, email: str, name: str, **more: object) -> str:
    """Subscribe an address to a content type, to be mailed each minute; return the id."""
    content = {"content_type": name, "title": f"The {name}", "subject": name, "content": "<p>Hi."}
    await user.ask("POST", "/v1/content-types", content)
    body = {"email": email, "content_type": name, "frequency": "* * * * *", "locale": "de"}
    answer = await user.ask("POST", "/v1/subscriptions", body | more)
    assert answer.status == 201, answer
    identifier: str = answer.body["id"]
    return identifier


async def newsletters(user: User, name: str) -> dict[str, dict[str, Any]]:
    """Return the newsletters of a list to Ada by their periods, the newest first."""
    mails = [mail for mail in await user.mails(ADA) if mail["subject"] == name]
    periods = [
        found[1] for each in mails if (found := PERIOD.search(each["headers"]["Message-ID"]))
    ]
    assert len({*periods}) == len(mails)  # one mail each period
    return dict(zip(periods, mails, strict=True))


async def next_newsletter(user: User, name: str, after: str = "") -> dict[str, Any]:
    """Wait for the first newsletter of a list to Ada that is of a later period."""

    async def has_come() -> bool:
        return max(await newsletters(user, name), default="") > after

    await until(has_come, within=NEXT_SECONDS)
    return next(iter((await newsletters(user, name)).values()))


async def page(stack: Stack, method: str, path: str, form: object = None) -> tuple[int, str]:
    """Open a page as a reader does, without a key."""
    url = f"{stack.record['gateway_url']}{path}"
    async with aiohttp.request(method, url, data=form) as answer:
        return answer.status, await answer.text()


async def status_of(user: User, identifier: str) -> str:
    """Return the state of a subscription."""
    found = await user.ask("GET", f"/v1/subscriptions/{identifier}")
    return str(found.body["status"])


async def test_a_newsletter_comes_until_its_reader_opts_out(stack: Stack, user: User) -> None:
    """A newsletter is signed with its headers; the opt-out stops it, queued too, and no other mail.

    Looking at the link changes nothing.
    """
    await subscribe(user, ADA, "news")
    await subscribe(user, ADA, "offers")
    newsletter = await next_newsletter(user, "news")
    await next_newsletter(user, "offers")

    raw = await user.source(newsletter)
    (signature,) = signatures(raw)
    field = newsletter["headers"]["List-Unsubscribe"]
    found = LINK.fullmatch(field)
    assert found, field
    link, path = found.groups()
    assert newsletter["headers"]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert newsletter["headers"]["List-Id"] == "<news.local.mail.shop.example>"
    assert {"list-unsubscribe", "list-unsubscribe-post", "list-id"} <= {*signature.names}
    assert verifies(raw, signature, RSA.public_key())
    assert f'<a href="{link}">Abbestellen</a>' in newsletter["html"]
    assert link in newsletter["text"]

    for method, expected in (("GET", 200), ("HEAD", 200), ("OPTIONS", 405)):
        assert (await page(stack, method, path))[0] == expected
    assert "The news abbestellen?" in (await page(stack, "GET", path))[1]
    assert len((await user.ask("GET", f"/v1/subscriptions?email={ADA}")).body["subscriptions"]) == 2

    await user.send(SLOW, category="bulk")
    queued = await user.send(ADA, subject="queued", category="bulk", list_id="news")
    status, text = await page(stack, "POST", path, ONE_CLICK)
    assert status == 200
    assert "Sie sind abgemeldet" in text
    last = max(await newsletters(user, "offers"))

    async def is_suppressed() -> bool:
        answer = await user.ask("GET", f"/v1/messages/{queued.body['id']}")
        return [each["status"] for each in answer.body["recipients"]] == ["suppressed"]

    await until(is_suppressed, within=60)
    left = (await user.ask("GET", f"/v1/subscriptions?email={ADA}")).body["subscriptions"]
    assert [each["content_type"] for each in left] == ["offers"]

    await user.send(ADA, subject="a bill")
    await user.ask("POST", "/v1/otp", {"email": ADA})
    await next_newsletter(user, "offers", after=f"{last[:-1]}~")
    assert max(await newsletters(user, "news")) <= last

    async def have_come() -> bool:
        mails = await user.mails(ADA)
        return "a bill" in {mail["subject"] for mail in mails} and any(
            CODE.search(mail["text"]) for mail in mails
        )

    await until(have_come)
    assert "queued" not in {mail["subject"] for mail in await user.mails(ADA)}
    assert path.rpartition("/")[2] not in (stack.run_dir / "logs" / "gateway.log").read_text()

    answer = await user.ask(
        "POST",
        "/v1/subscriptions",
        {"email": ADA, "content_type": "news", "frequency": "@daily"},
    )
    assert (answer.status, answer.body["code"]) == (409, "opted-out")


async def test_a_subscriber_confirms_by_the_button_alone(stack: Stack, user: User) -> None:
    """A pending subscription is mailed nothing but a link, and only its POST makes it active."""
    identifier = await subscribe(user, BOB, "news", confirm=True)
    (mail,) = await user.wait_for_mails(BOB)
    found = re.search(r"https://mail\.shop\.example(/subscribe/\S+)", mail["text"])
    assert found, mail["text"]

    assert "List-Unsubscribe" not in mail["headers"]
    assert "The news abonnieren?" in (await page(stack, "GET", found[1]))[1]
    assert await status_of(user, identifier) == "pending"
    assert (await page(stack, "POST", found[1]))[0] == 200
    assert await status_of(user, identifier) == "active"
