"""Content types over HTTP, on a real broker with a fake scheduler."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from shared import topology
from shared.contracts import (
    ContentRendered,
    ContentResult,
    ContentSummary,
    ContentType,
    ContentTypeAnswered,
    ContentTypesListed,
    Contract,
    DeleteContentType,
    DescribeContentType,
    ListContentTypes,
    RenderContent,
    ResumeContentType,
    SaveContentType,
)
from tests.gateway.api_client import ApiClient
from tests.gateway.fake_service import NOW, FakeService, running_service

NEWS = {
    "content_type": "news",
    "subject": "News for {{ name }}",
    "content": "<p>Hello {{ name }}</p>",
    "title": "News of the shop",
}
CHANGE = {"subject": "More for {{ name }}", "content": "<p>Hello again</p>", "text": "Hello again"}
SHOWN_NEWS = {
    **NEWS,
    "client": "shop",
    "version": 1,
    "created_at": "2026-11-01T00:00:00Z",
    "changed_at": "2026-11-01T00:00:00Z",
}
PATH = "/v1/content-types/news"
CONTRACTS = (
    *(SaveContentType, DescribeContentType, DeleteContentType, ResumeContentType),
    *(ListContentTypes, RenderContent),
)


class FakeScheduler(FakeService):
    """A scheduler that keeps content types by client and name."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.kept: dict[tuple[str | None, str], ContentType] = {}
        self.used: set[str] = set()
        self.mistake: str | None = None
        self.busy = False

    def _answer(self, question: Contract) -> Sequence[Contract]:
        match question:
            case ListContentTypes():
                return [self._page(question)]
            case RenderContent():
                return [self._render(question)]
            case SaveContentType():
                return [self._save(question)]
            case DeleteContentType():
                return [self._delete(question)]
            case DescribeContentType() | ResumeContentType():
                return [self._found(question)]
        raise AssertionError(question)

    def _page(self, asked: ListContentTypes) -> ContentTypesListed:
        found = [each for each in self.kept.values() if asked.client in {each.client, None}]
        page = tuple(ContentSummary(**dict(each)) for each in found[: asked.limit])
        more = len(found) > len(page)
        following = f"{page[-1].client}/{page[-1].name}" if more else None
        return ContentTypesListed(id=asked.id, content_types=page, next=following)

    def _render(self, asked: RenderContent) -> ContentRendered:
        if (asked.client, asked.name) not in self.kept:
            return ContentRendered(id=asked.id)
        if self.mistake:
            return ContentRendered(id=asked.id, version=1, mistake=self.mistake)
        if self.busy:
            return ContentRendered(id=asked.id, version=1, busy=True)
        return ContentRendered(id=asked.id, version=1, subject="S", html="<p>H</p>", text="H")

    def _save(self, asked: SaveContentType) -> ContentTypeAnswered:
        key = asked.client, asked.name
        old = self.kept.get(key)
        result = ContentResult.CHANGED if asked.replaces else ContentResult.CREATED
        if (old is None) is asked.replaces:
            result = ContentResult.EXISTS if old else ContentResult.UNKNOWN
            return ContentTypeAnswered(id=asked.id, result=result, content_type=old)
        new = ContentType(
            **asked.model_dump(include={"name", "client", "subject", "title", "html", "text"}),
            version=old.version + 1 if old else 1,
            created_at=NOW,
            changed_at=NOW,
        )
        self.kept[key] = new
        return ContentTypeAnswered(id=asked.id, result=result, content_type=new)

    def _delete(self, asked: DeleteContentType) -> ContentTypeAnswered:
        if asked.name in self.used:
            return ContentTypeAnswered(id=asked.id, result=ContentResult.IN_USE)
        found = self.kept.pop((asked.client, asked.name), None)
        result = ContentResult.DELETED if found else ContentResult.UNKNOWN
        return ContentTypeAnswered(id=asked.id, result=result)

    def _found(self, asked: DescribeContentType | ResumeContentType) -> ContentTypeAnswered:
        found = self.kept.get((asked.client, asked.name))
        if found and isinstance(asked, ResumeContentType):
            found = found.model_copy(update={"paused_at": None, "paused_for": None})
            self.kept[asked.client, asked.name] = found
        result = ContentResult.FOUND if found else ContentResult.UNKNOWN
        return ContentTypeAnswered(id=asked.id, result=result, content_type=found)


@pytest.fixture
async def scheduler(vhost: str, api: ApiClient) -> AsyncIterator[FakeScheduler]:
    """Run a scheduler without content types, once its queue is there."""
    del api
    fake = FakeScheduler()
    async with running_service(vhost, topology.SCHEDULER_QUESTIONS, dict.fromkeys(CONTRACTS, fake)):
        yield fake


async def test_a_content_type_is_created_once(api: ApiClient, scheduler: FakeScheduler) -> None:
    """A POST creates it; one of the same name is a 409, and changes nothing."""
    created = await api.post("/v1/content-types", NEWS)
    again = await api.post("/v1/content-types", {**NEWS, "subject": "Other"})
    read = await api.call("GET", PATH)

    assert (created.status, created.json) == (201, SHOWN_NEWS)
    assert created.headers["Location"] == PATH
    assert (again.status, again.json["code"]) == (409, "content-type-exists")
    assert (read.status, read.json) == (200, SHOWN_NEWS)
    assert [each.client for each in scheduler.got] == ["shop"] * 3


async def test_a_content_type_is_replaced(api: ApiClient, scheduler: FakeScheduler) -> None:
    """A PUT makes a new version, and creates none."""
    missing = await api.call("PUT", PATH, CHANGE)
    await api.post("/v1/content-types", NEWS)
    replaced = await api.call("PUT", PATH, CHANGE)

    assert (missing.status, missing.json["code"]) == (404, "no-such-content-type")
    assert replaced.status == 200
    assert (replaced.json["version"], replaced.json["text"]) == (2, "Hello again")
    assert "title" not in replaced.json
    assert scheduler.got[-1].replaces


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"subject": "{{ name"}, "line 1"),
        ({"content": "<p>\n{% if name %}\n</p>"}, "line 3"),
        ({"text": "a\n{{ name | nothing }}"}, "line 2"),
        ({"content": "{{ name() }}"}, "line 1"),
        ({"content": "{% include 'x' %}"}, "include"),
    ],
    ids=str,
)
async def test_a_template_that_cannot_be_read_is_not_kept(
    api: ApiClient, scheduler: FakeScheduler, change: dict[str, str], words: str
) -> None:
    """It is a 422 with the field, the line and the reason, before the scheduler is asked."""
    created = await api.post("/v1/content-types", {**NEWS, **change})
    replaced = await api.call("PUT", PATH, {**CHANGE, **change})

    for answer in (created, replaced):
        assert (answer.status, answer.json["code"]) == (422, "template-invalid")
        [mistake] = answer.json["errors"]
        assert [mistake["pointer"]] == [f"#/{name}" for name in change]
        assert words in mistake["detail"]
    assert scheduler.got == []


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"content_type": "a b"}, "#/content_type"),
        ({"content_type": None}, "#/content_type"),
        ({"subject": "x" * 5000}, "#/subject"),
        ({"content": "x" * (128 * 1024 + 1)}, "#/content"),
        ({"content": ""}, "#/content"),
        ({"content": " \n\u00a0\t"}, "#/content"),
        ({"text": "a\0"}, "#/text"),
        ({"title": ""}, "#/title"),
        ({"title": "a\nb"}, "#/title"),
        ({"html": "<p>"}, "#/html"),
    ],
)
async def test_a_mistake_in_a_field_is_a_422(
    api: ApiClient, scheduler: FakeScheduler, change: dict[str, Any], pointer: str
) -> None:
    """It names its place, and nothing is asked."""
    answer = await api.post("/v1/content-types", {**NEWS, **change})

    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, pointer)
    blank = pointer == "#/content" and not change["content"].strip()
    assert (answer.json["errors"][0]["detail"] == "must not be blank") is blank
    assert scheduler.got == []


async def test_content_types_are_listed_by_cursor(api: ApiClient, scheduler: FakeScheduler) -> None:
    """A page has no templates but the subjects, and the cursor of the next page."""
    for name in ("news", "offers"):
        await api.post("/v1/content-types", {**NEWS, "content_type": name})
    page = await api.call("GET", "/v1/content-types?limit=1")
    await api.call("GET", f"/v1/content-types?after={page.json['next']}")
    wrong = await api.call("GET", "/v1/content-types?after=x")

    shown = {name: value for name, value in SHOWN_NEWS.items() if name != "content"}
    assert (page.status, page.json) == (200, {"content_types": [shown], "next": "shop/news"})
    assert scheduler.got[-1].after == "shop/news"
    assert (wrong.status, wrong.json["errors"][0]["pointer"]) == (422, "#/after")


async def test_a_content_type_is_deleted_unless_it_is_used(
    api: ApiClient, scheduler: FakeScheduler
) -> None:
    """While there are subscriptions it is a 409; then it is deleted, once."""
    await api.post("/v1/content-types", NEWS)
    scheduler.used = {"news"}
    used = await api.call("DELETE", PATH)
    scheduler.used = set()
    answers = [await api.call("DELETE", PATH) for _ in range(2)]

    assert (used.status, used.json["code"]) == (409, "content-type-in-use")
    assert [each.status for each in answers] == [204, 404]
    assert answers[0].content == b""


async def test_a_preview(api: ApiClient, scheduler: FakeScheduler) -> None:
    """It is the mail that the variables make, whose link to unsubscribe leads nowhere."""
    await api.post("/v1/content-types", NEWS)
    answer = await api.post(f"{PATH}/preview", {"variables": {"name": "Ada"}})

    assert (answer.status, answer.json) == (200, {"subject": "S", "html": "<p>H</p>", "text": "H"})
    assert scheduler.got[-1].variables == {"name": "Ada", "unsubscribe_url": "#"}


async def test_a_preview_names_mistakes_in_variables(
    api: ApiClient, scheduler: FakeScheduler
) -> None:
    """It is a 422 with the mistake in words; too many of them are refused unasked."""
    unknown = await api.post(f"{PATH}/preview", {})
    await api.post("/v1/content-types", NEWS)
    scheduler.mistake = "line 1 of the html: name is not among the variables"
    wrong = await api.post(f"{PATH}/preview", {"variables": {}})
    asked = len(scheduler.got)
    deep = await api.post(f"{PATH}/preview", {"variables": {"a": [[[[[[1]]]]]]}})

    assert (unknown.status, unknown.json["code"]) == (404, "no-such-content-type")
    assert (wrong.status, wrong.json["errors"]) == (
        422,
        [{"pointer": "#/variables", "detail": scheduler.mistake}],
    )
    assert (deep.status, deep.json["errors"][0]["pointer"]) == (422, "#/variables")
    assert len(scheduler.got) == asked


async def test_too_many_previews_at_once(api: ApiClient, scheduler: FakeScheduler) -> None:
    """While too many mails are being made, a preview is a 503 that says when to come again."""
    await api.post("/v1/content-types", NEWS)
    scheduler.busy = True
    answer = await api.post(f"{PATH}/preview", {})

    assert (answer.status, answer.json["code"]) == (503, "overloaded")
    assert "Retry-After" in answer.headers


async def test_a_paused_content_type_is_resumed(api: ApiClient, scheduler: FakeScheduler) -> None:
    """Its pause and the reason are seen; the client or the administrator ends it."""
    await api.post("/v1/content-types", NEWS)
    paused = {"paused_at": NOW, "paused_for": "12 of the 100 mails of a run were reported as spam"}
    for caller, path in ((api, PATH), (api.admin, f"{PATH}/resume?client=shop")):
        key = "shop", "news"
        scheduler.kept[key] = scheduler.kept[key].model_copy(update=paused)
        seen = await api.call("GET", PATH)
        resume = f"{PATH}/resume" if caller is api else path
        answer = await caller.call("POST", resume)

        assert seen.json["paused_for"] == paused["paused_for"]
        assert (answer.status, answer.json) == (200, SHOWN_NEWS)
    missing = await api.call("POST", "/v1/content-types/other/resume")
    assert (missing.status, missing.json["code"]) == (404, "no-such-content-type")


async def test_clients_never_see_each_others(api: ApiClient, scheduler: FakeScheduler) -> None:
    """The same name is another content type for each client; the administrator sees all."""
    del scheduler
    other = await api.registered("other")
    await api.post("/v1/content-types", NEWS)
    query = f"{PATH}?client=shop"
    answers = [
        await other.call("GET", PATH),
        await other.call("GET", query),
        await other.call("PUT", PATH, CHANGE),
        await other.call("DELETE", PATH),
        await other.post(f"{PATH}/preview", {}),
        await other.call("POST", f"{PATH}/resume?client=shop"),
    ]
    listed = await other.call("GET", "/v1/content-types")
    own = await other.post("/v1/content-types", NEWS)
    all_of_them = await api.admin.call("GET", "/v1/content-types")
    seen = await api.admin.call("GET", query)

    assert {(each.status, each.json["code"]) for each in answers} == {(404, "no-such-content-type")}
    assert listed.json == {"content_types": []}
    assert own.status == 201
    assert [each["client"] for each in all_of_them.json["content_types"]] == ["shop", "other"]
    assert seen.json == SHOWN_NEWS


@pytest.mark.parametrize("name", ["a b", "%2e%2e", "n" * 101, "%00", "é"])
async def test_a_name_that_none_can_have_is_a_404(
    api: ApiClient, scheduler: FakeScheduler, name: str
) -> None:
    """The scheduler is not asked about it."""
    for method, end, body in (
        ("GET", "", None),
        ("PUT", "", CHANGE),
        ("DELETE", "", None),
        ("POST", "/preview", {}),
        ("POST", "/resume", None),
    ):
        answer = await api.call(method, f"/v1/content-types/{name}{end}", body)

        assert answer.status == 404
    assert scheduler.got == []


async def test_a_client_needs_the_scope(api: ApiClient, scheduler: FakeScheduler) -> None:
    """Content types are part of sending; their runs are only read."""
    reader = await api.registered("reader", scopes=["read"])
    answers = [
        await reader.post("/v1/content-types", NEWS),
        await reader.call("GET", "/v1/content-types"),
        await reader.call("POST", f"{PATH}/resume"),
    ]

    assert {(each.status, each.json["code"]) for each in answers} == {(403, "insufficient-scope")}
    assert scheduler.got == []


async def test_without_a_scheduler_nothing_is_known(api: ApiClient) -> None:
    """While the scheduler does not answer each request is a 503."""
    for method, where, body in (
        ("POST", "/v1/content-types", NEWS),
        ("PUT", PATH, CHANGE),
        ("GET", PATH, None),
        ("DELETE", PATH, None),
    ):
        answer = await api.call(method, where, body)

        assert (answer.status, answer.json["code"]) == (503, "unavailable")
