"""The pages behind the links in mails, on a real broker."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import markupsafe
import pytest
from structlog.testing import capture_logs

from services.gateway.api.links import MAX_FORM_BYTES, MAX_USES
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


MULTIPART = (
    b'--b\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--b--\r\n'
)
FACTS: dict[str, Any] = {
    "kind": LinkKind.UNSUBSCRIBE,
    "client": "shop",
    "email": "ann@example.org",
    "content_type": "news",
}


def link(kind: LinkKind = LinkKind.UNSUBSCRIBE, **more: object) -> str:
    """Return the path of a link."""
    fields = {"kind": kind, "expires_at": datetime.now(UTC) + timedelta(days=1)}
    return LINKS.to(LinkedSubscription.model_validate(FACTS | fields | more))


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
async def ledger(vhost: str, api: ApiClient) -> AsyncIterator[FakeService]:
    """Run a ledger that keeps what it is asked to, once its queue is there."""
    del api
    service = FakeService(lambda asked: [SuppressionsChanged(id=asked.id, suppressions=())])
    kinds: dict[type[Contract], Handler] = dict.fromkeys(
        (AddSuppressions, RemoveSuppressions), service
    )
    async with running_service(vhost, topology.LEDGER_QUESTIONS, kinds):
        yield service


async def test_only_a_post_unsubscribes(api: ApiClient, ledger: FakeService) -> None:
    """A scanner of mails, which follows each link, changes nothing (issue 13)."""
    path = link()
    answers = await asyncio.gather(*(api.call("GET", path) for _ in range(50)))

    assert {answer.status for answer in answers} == {200}
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


@pytest.mark.parametrize(
    ("locale", "accepted", "heading"),
    [
        (None, "", "Unsubscribe from News &lt;1&gt;?"),
        (None, "xx, de-AT;q=0.8, en;q=0.7", "News &lt;1&gt; abbestellen?"),
        ("fr", "de", "Se désabonner de News &lt;1&gt;\N{NO-BREAK SPACE}?"),
    ],
)
async def test_the_language_of_the_page(
    api: ApiClient, vhost: str, locale: str | None, accepted: str, heading: str
) -> None:
    """The page is in the language of the subscription, or in one that the reader accepts."""
    scheduler = FakeService(lambda it: [content_type("News <1>").model_copy(update={"id": it.id})])
    async with running_service(
        vhost, topology.SCHEDULER_QUESTIONS, {DescribeContentType: scheduler}
    ):
        answer = await api.call("GET", link(locale=locale), headers={"Accept-Language": accepted})

    assert f"<h1>{heading}</h1>" in answer.content.decode()
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Referrer-Policy"] == "no-referrer"


def content_type(title: str) -> ContentTypeAnswered:
    """Return the answer with a content type of a title."""
    at = datetime(2026, 11, 1, tzinfo=UTC)
    fields = {"name": "news", "version": 1, "subject": "s", "html": "h", "title": title}
    found = ContentType.model_validate(fields | {"created_at": at, "changed_at": at})
    return ContentTypeAnswered(id="q", result=ContentResult.FOUND, content_type=found)


@pytest.mark.parametrize("kind", LinkKind)
@pytest.mark.parametrize(
    "title", ["<script>alert(1)</script>", "\"'><b>", "{0.__class__}{x}", "&lt;"]
)
async def test_a_title_is_text_alone(
    api: ApiClient, vhost: str, ledger: FakeService, kind: LinkKind, title: str
) -> None:
    """Readers see the characters of a list's name, and no program in it runs."""
    del ledger
    scheduler = FakeService(lambda it: [content_type(title).model_copy(update={"id": it.id})])
    async with running_service(
        vhost, topology.SCHEDULER_QUESTIONS, {DescribeContentType: scheduler}
    ):
        pages = [await api.call("GET", link(kind))]
        if kind is LinkKind.UNSUBSCRIBE:
            pages.append(await api.call("POST", link(), data="choice=one", headers=FORM))

    for page in pages:
        assert str(markupsafe.escape(title)) in page.content.decode()
        assert "<script" not in page.content.decode()
        assert "script-src" not in page.headers["Content-Security-Policy"]  # so none, by default


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", link()), ("POST", "/unsubscribe/unknown"), ("GET", "/unsubscribe/unknown")],
)
async def test_a_link_that_is_used_too_often_waits(
    api: ApiClient, ledger: FakeService, method: str, path: str
) -> None:
    """The link of a subscription asks other services so often at most; an unknown one is alike."""
    async with asyncio.TaskGroup() as group:
        calls = [
            group.create_task(api.call(method, path, data=b"", headers=FORM))
            for _ in range(2 * MAX_USES)
        ]
    answers = [call.result() for call in calls]
    refused = [each for each in answers if each.status == 429]
    other = await api.call("POST", link(email="bob@example.org"), data=ONE_CLICK, headers=FORM)

    assert len(refused) >= MAX_USES // 2
    assert len(ledger.got) <= 2 * MAX_USES - len(refused) + 1
    assert {int(each.headers["Retry-After"]) for each in refused} <= {1, 2}
    assert all(b"Please try again" in each.content for each in refused)
    assert other.status == 200


DISGUISES: Sequence[tuple[str, dict[str, str]]] = [
    ("?_method=POST", {}),
    ("?choice=all", {}),
    ("", {"X-HTTP-Method-Override": "POST"}),
    ("", {"X-HTTP-Method": "POST", "X-Method-Override": "POST"}),
    ("", {"Purpose": "prefetch", "Sec-Purpose": "prefetch;prerender"}),
]


@pytest.mark.parametrize("kind", LinkKind)
async def test_nothing_makes_a_post_of_another_method(
    api: ApiClient, ledger: FakeService, kind: LinkKind
) -> None:
    """No query, header field or body by which frameworks change the method changes anything."""
    requests = [
        (method, f"{link(kind)}{query}", FORM | headers)
        for method in ("GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE")
        for query, headers in DISGUISES
    ]
    answers = await asyncio.gather(
        *(
            api.call(method, path, data=ONE_CLICK, headers=headers)
            for method, path, headers in requests
        )
    )

    for (method, *_), answer in zip(requests, answers, strict=True):
        assert answer.status == (200 if method in {"GET", "HEAD"} else 405)
    assert ledger.got == []


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/x-www-form-urlencoded", ONE_CLICK.encode()),
        ("Application/X-WWW-Form-Urlencoded; charset=UTF-8", b"List-Unsubscribe=One-Click&x=%FF"),
        ("application/x-www-form-urlencoded", b"\xff=\xfe&&&=choice"),
        ("application/x-www-form-urlencoded", b""),
        ("multipart/form-data; boundary=b", MULTIPART),
        ("multipart/form-data", b"no boundary"),
        ("text/plain", b"x"),
    ],
)
async def test_every_form_of_a_mail_program(
    api: ApiClient, ledger: FakeService, kind: str, body: bytes
) -> None:
    """The POST of a mail program opts out of the one list, whatever its body (RFC 8058 3.2)."""
    answer = await api.call("POST", link(), data=body, headers={"Content-Type": kind})

    assert (answer.status, len(ledger.got)) == (200, 1)
    assert ledger.got[0].suppressions == (opt_out(),)


async def test_a_mail_program_learns_nothing(api: ApiClient, ledger: FakeService) -> None:
    """Its answer is the same for each list, each reader and a token that was never made."""
    paths = [link(), link(email="bob@example.org", content_type="offers"), "/unsubscribe/unknown"]
    answers = [await api.call("POST", path, data=ONE_CLICK, headers=FORM) for path in paths]

    assert {answer.status for answer in answers} == {200}
    assert len({answer.content.partition(b"<body>")[2] for answer in answers}) == 1
    assert len(ledger.got) == 2


def titled(question: DescribeContentType) -> Sequence[Contract]:
    """Return the answer with a content type."""
    return [content_type("News").model_copy(update={"id": question.id})]


@dataclass
class Deciding:
    """The answers of a scheduler to a confirmation, and the order of all questions."""

    result: SubscriptionResult
    asked: list[ConfirmSubscription | RemoveSuppressions] = field(default_factory=list)

    def confirm(self, question: ConfirmSubscription) -> Sequence[Contract]:
        """Answer a confirmation."""
        self.asked.append(question)
        return [SubscriptionAnswered(id=question.id, result=self.result)]

    def lift(self, question: RemoveSuppressions) -> Sequence[Contract]:
        """Answer that an opt-out is lifted."""
        self.asked.append(question)
        return [SuppressionsChanged(id=question.id, suppressions=())]

    @asynccontextmanager
    async def answering(self, url: str) -> AsyncIterator[None]:
        """Run both services."""
        scheduler: dict[type[Contract], Handler] = {
            ConfirmSubscription: FakeService(self.confirm),
            DescribeContentType: FakeService(titled),
        }
        ledger: dict[type[Contract], Handler] = {RemoveSuppressions: FakeService(self.lift)}
        async with (
            running_service(url, topology.SCHEDULER_QUESTIONS, scheduler),
            running_service(url, topology.LEDGER_QUESTIONS, ledger),
        ):
            yield


async def test_the_opt_out_is_lifted_last(api: ApiClient, vhost: str) -> None:
    """Only a subscription that is there lifts an opt-out; a link without one says so."""
    path = link(LinkKind.CONFIRM)
    active = Deciding(SubscriptionResult.CONFIRMED)
    async with active.answering(vhost):
        page = await api.call("GET", path, headers={"Accept-Language": "de"})
        assert ">Abonnieren</button>" in page.content.decode()
        assert active.asked == []
        confirmed = await api.call("POST", path, data="choice=confirm", headers=FORM)
    ended = Deciding(SubscriptionResult.UNKNOWN)
    async with ended.answering(vhost):
        gone = await api.call("POST", path, data="choice=confirm", headers=FORM)

    assert confirmed.status == 200
    assert active.asked == [
        ConfirmSubscription(
            id=active.asked[0].id,
            subscription_id=subscription_id("shop", "news", "ann@example.org"),
        ),
        RemoveSuppressions(
            id=active.asked[1].id,
            emails=("ann@example.org",),
            client="shop",
            origin=SuppressionOrigin.UNSUBSCRIBE,
            list_id="news",
        ),
    ]
    assert (gone.status, [*map(type, ended.asked)]) == (404, [ConfirmSubscription])
    assert b"does not work any more" in gone.content


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_unknown_link_confirms_nothing(api: ApiClient, vhost: str, method: str) -> None:
    """A reader whose link is too old, or of another kind, is not told that it worked."""
    past = datetime.now(UTC) - timedelta(seconds=1)
    paths = ["/subscribe/abc", link(LinkKind.CONFIRM, expires_at=past)]
    paths.append(link().replace("/unsubscribe/", "/subscribe/"))
    services = Deciding(SubscriptionResult.CONFIRMED)
    async with services.answering(vhost):
        answers = [await api.call(method, path, data=b"", headers=FORM) for path in paths]

    assert {answer.status for answer in answers} == {404}
    assert len({answer.content.partition(b"<body>")[2] for answer in answers}) == 1
    assert services.asked == []
