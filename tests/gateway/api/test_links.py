"""The pages behind the links in mails, on a real broker."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from structlog.testing import capture_logs

from services.gateway.api.links import MAX_FORM_BYTES, TEXTS
from shared import topology
from shared.consumer import Handler
from shared.contracts import (
    AddSuppressions,
    Category,
    ConfirmSubscription,
    ContentResult,
    ContentType,
    ContentTypeAnswered,
    Contract,
    DescribeContentType,
    NewSuppression,
    RemoveSuppressions,
    SubscriptionAnswered,
    SubscriptionResult,
    SuppressionOrigin,
    SuppressionsChanged,
)
from shared.contracts.schedule import subscription_id
from shared.links import LinkedSubscription, LinkKind, Links
from shared.runtime.sealing import Sealer
from tests.gateway.api_client import LINK_KEY, ApiClient
from tests.gateway.fake_service import FakeService, running_service

LINKS = Links("", Sealer.from_text(LINK_KEY))
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
ONE_CLICK = "List-Unsubscribe=One-Click"


def link(kind: LinkKind = LinkKind.UNSUBSCRIBE, **more: object) -> str:
    """Return the path of a link."""
    fields = {
        "kind": kind,
        "client": "shop",
        "email": "ann@example.org",
        "content_type": "news",
        "expires_at": datetime.now(UTC) + timedelta(days=1),
    }
    return LINKS.to(LinkedSubscription.model_validate(fields | more))


def opt_out(list_id: str | None = "news") -> NewSuppression:
    """Return the entry of an opt-out."""
    return NewSuppression(
        email="ann@example.org",
        client="shop",
        list_id=list_id,
        categories=(Category.BULK,),
        origin=SuppressionOrigin.UNSUBSCRIBE,
    )


@pytest.fixture
async def ledger(vhost: str) -> AsyncIterator[FakeService]:
    """Run a ledger that keeps what it is asked to."""
    service = FakeService(lambda asked: [SuppressionsChanged(id=asked.id, suppressions=())])
    kinds: dict[type[Contract], Handler] = dict.fromkeys(
        (AddSuppressions, RemoveSuppressions), service
    )
    async with running_service(vhost, topology.LEDGER_QUESTIONS, kinds):
        yield service


async def test_only_a_post_unsubscribes(api: ApiClient, ledger: FakeService) -> None:
    """A scanner of mails, which follows each link, changes nothing (issue 13)."""
    path = link()
    requests = [("GET", path), ("HEAD", path), ("OPTIONS", path), ("GET", f"{path}?{ONE_CLICK}")]
    answers = await asyncio.gather(
        *(api.call(*each) for each in requests), *(api.call("GET", path) for _ in range(50))
    )

    assert {answer.status for answer in answers} == {200, 405}  # OPTIONS is not known
    assert ledger.got == []
    first = await api.call("POST", path, data=ONE_CLICK, headers=FORM)
    again = await api.call("POST", path, data=ONE_CLICK, headers=FORM)
    assert (first.status, again.status) == (200, 200)
    assert [each.suppressions for each in ledger.got] == [(opt_out(),)] * 2


async def test_a_mail_program_needs_no_key(api: ApiClient, ledger: FakeService) -> None:
    """The POST of RFC 8058 works without a login, as a form of either type."""
    form = aiohttp.FormData([("List-Unsubscribe", "One-Click")], default_to_multipart=True)
    answer = await api.with_key("").call("POST", link(), data=form, headers={"Authorization": ""})

    assert answer.status == 200
    assert "Set-Cookie" not in answer.headers
    assert len(ledger.got) == 1


async def test_all_lists(api: ApiClient, ledger: FakeService) -> None:
    """The second button opts out of all lists of the client, and the page says so."""
    answer = await api.call("POST", link(), data="choice=all", headers=FORM)

    assert answer.status == 200
    assert b"any list of this sender" in answer.content
    assert [each.suppressions for each in ledger.got] == [(opt_out(None),)]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_unknown_token_has_the_same_answer(
    api: ApiClient, ledger: FakeService, method: str
) -> None:
    """A token that was never made, is too old or of another kind, is told apart by nobody."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    paths = ["/unsubscribe/abc", link(expires_at=past), f"/unsubscribe/{'x' * 3000}"]
    paths.append(link(LinkKind.CONFIRM).replace("/subscribe/", "/unsubscribe/"))
    answers = [await api.call(method, path, data=b"", headers=FORM) for path in paths]

    assert {answer.status for answer in answers} == {200}
    assert len({answer.content.partition(b"<body>")[2] for answer in answers}) == 1
    assert ledger.got == []


@pytest.mark.parametrize("kind", LinkKind)
async def test_without_an_answer_the_page_says_try_again(api: ApiClient, kind: LinkKind) -> None:
    """An opt-out that was not kept is a 503: a reader sees a page, a mail program tries again."""
    answer = await api.call("POST", link(kind), data=ONE_CLICK, headers=FORM)

    assert answer.status == 503
    assert "Retry-After" in answer.headers
    assert b"Please try again" in answer.content


async def test_a_large_form_is_refused(api: ApiClient, ledger: FakeService) -> None:
    """The pages, which need no key, read 4 KiB at most."""
    answer = await api.call("POST", link(), data="x" * (MAX_FORM_BYTES + 1), headers=FORM)

    assert answer.status == 413
    assert ledger.got == []


async def test_the_log_has_no_token(api: ApiClient) -> None:
    """A link is a capability: the log has its kind alone, also where no route is."""
    path = link()
    token = path.rpartition("/")[2]
    with capture_logs() as lines:
        for each in (path, f"{path}/", path.replace("/unsubscribe/", "/unsubscribe%2F")):
            await api.call("GET", each)

    logged = [line["path"] for line in lines if line["event"] == "request"]
    assert logged == ["/unsubscribe/***"] * 3
    assert token not in json.dumps(lines)


def test_each_language_has_all_texts() -> None:
    """No text of a page is missing in a language."""
    assert all(all(texts) for texts in TEXTS.values())
    assert all(
        "{title}" in text for each in TEXTS.values() for text in (each.unsubscribe, each.confirm)
    )


@pytest.mark.parametrize(
    ("locale", "accepted", "heading"),
    [
        (None, "", "Unsubscribe from News &lt;1&gt;?"),
        (None, "xx, de-AT;q=0.8, en", "News &lt;1&gt; abbestellen?"),
        ("fr", "de", "Se désabonner de News &lt;1&gt;\N{NO-BREAK SPACE}?"),
    ],
)
async def test_the_language_of_the_page(
    api: ApiClient, vhost: str, locale: str | None, accepted: str, heading: str
) -> None:
    """The page is in the language of the subscription, or in one that the reader accepts."""
    at = datetime(2026, 11, 1, tzinfo=UTC)
    found = ContentType(
        name="news",
        version=1,
        subject="s",
        html="h",
        title="News <1>",
        created_at=at,
        changed_at=at,
    )
    scheduler = FakeService(
        lambda asked: [
            ContentTypeAnswered(
                id=asked.id,
                result=ContentResult.FOUND,
                content_type=found,
            )
        ]
    )
    async with running_service(
        vhost, topology.SCHEDULER_QUESTIONS, {DescribeContentType: scheduler}
    ):
        answer = await api.call("GET", link(locale=locale), headers={"Accept-Language": accepted})

    assert f"<h1>{heading}</h1>" in answer.content.decode()
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Referrer-Policy"] == "no-referrer"


async def test_a_subscription_is_confirmed_by_a_post(
    api: ApiClient, vhost: str, ledger: FakeService
) -> None:
    """The button makes the subscription active, and lifts an earlier opt-out of its list."""
    path = link(LinkKind.CONFIRM)
    scheduler = FakeService(
        lambda asked: [SubscriptionAnswered(id=asked.id, result=SubscriptionResult.CONFIRMED)]
    )
    async with running_service(
        vhost, topology.SCHEDULER_QUESTIONS, {ConfirmSubscription: scheduler}
    ):
        page = await api.call("GET", path, headers={"Accept-Language": "de"})
        assert ">Abonnieren</button>" in page.content.decode()
        assert scheduler.got == []
        answer = await api.call("POST", path, data="choice=confirm", headers=FORM)

    (asked,) = scheduler.got
    assert answer.status == 200
    assert asked.subscription_id == subscription_id("shop", "news", "ann@example.org")
    assert [type(each) for each in ledger.got] == [RemoveSuppressions]
