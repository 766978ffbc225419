"""Runs of content types over HTTP, on a real broker with a fake scheduler and a fake ledger."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared import topology
from shared.contracts import (
    Category,
    ContentResult,
    ContentRun,
    ContentType,
    ContentTypeAnswered,
    Contract,
    CountEmails,
    DescribeContentType,
    DescribeEmail,
    EmailCounts,
    EmailDescribed,
    EmailRecord,
    EmailsCounted,
    EmailsListed,
    EmailsRepeated,
    EmailStatus,
    ListEmails,
    ListRuns,
    RecipientStatus,
    RepeatEmails,
    RunsListed,
)
from shared.contracts.content import NewsletterId, run_id
from tests.gateway.api_client import ApiClient
from tests.gateway.fake_service import NOW, FakeService, running_service

PERIOD = datetime(2026, 11, 2, 7, 30, tzinfo=UTC)
RUN = run_id("news", PERIOD)
PATH = f"/v1/content-types/news/runs/{RUN}"
NEWS = ContentType(
    name="news", client="shop", version=1, subject="N", html="N", created_at=NOW, changed_at=NOW
)
CONTENT_RUN = ContentRun(
    run_id=RUN,
    content_type="news",
    client="shop",
    period_at=PERIOD,
    published=100,
    unknown_mailboxes=3,
    complaints=1,
    unfit=3,
)
SHOWN_RUN = {
    "run": RUN,
    "content_type": "news",
    "client": "shop",
    "period": "2026-11-02T07:30:00Z",
    "published": 100,
    "unknown_mailboxes": 3,
    "complaints": 1,
    "unfit": 3,
}
COUNTS = EmailCounts(since=PERIOD, accepted=101, delivered=96, bounced_permanent=3, failed=2)
CURSOR = "0" * 16


def newsletter(number: int, period: datetime = PERIOD) -> NewsletterId:
    """Return the id of a mail of the run."""
    return NewsletterId(f"{number:032x}", period)


class FakeScheduler(FakeService):
    """A scheduler with some runs, which repeats what is subscribed to."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.runs: list[ContentRun] = [CONTENT_RUN]
        self.content_type: ContentType | None = NEWS
        self.ended: set[str] = set()

    def _answer(self, question: Contract) -> Sequence[Contract]:
        match question:
            case ListRuns():
                found = [each for each in self.runs if each.client == question.client]
                if question.after is not None:
                    found = [each for each in found if each.period_at < question.after]
                page = tuple(found[: question.limit])
                following = page[-1].period_at if len(found) > len(page) else None
                return [RunsListed(id=question.id, runs=page, next=following)]
            case DescribeContentType():
                found_type = self.content_type if question.client == "shop" else None
                result = ContentResult.FOUND if found_type else ContentResult.UNKNOWN
                return [ContentTypeAnswered(id=question.id, result=result, content_type=found_type)]
            case RepeatEmails():
                done = tuple(each for each in question.email_ids if each not in self.ended)
                return [EmailsRepeated(id=question.id, email_ids=done)]
        raise AssertionError(question)

    @property
    def repeated(self) -> list[str]:
        """The ids that it was asked to repeat."""
        asked = [each for each in self.got if isinstance(each, RepeatEmails)]
        return [identifier for each in asked for identifier in each.email_ids]


class FakeLedger(FakeService):
    """A ledger with some mails of the client `shop`."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.emails: dict[str, EmailRecord] = {}

    def add(self, identifier: object, status: EmailStatus, run: str = RUN) -> None:
        """Keep a mail of a run."""
        recipient = RecipientStatus(recipient="ann@example.com", status=status, attempts=1)
        self.emails[str(identifier)] = EmailRecord(
            email_id=str(identifier),
            client="shop",
            category=Category.BULK,
            tags={"run": run},
            size_bytes=1,
            accepted_at=PERIOD,
            recipients=(recipient,),
        )

    def _answer(self, question: Contract) -> Sequence[Contract]:
        match question:
            case DescribeEmail():
                email = self.emails.get(question.email_id) if question.client == "shop" else None
                return [EmailDescribed(id=question.id, email=email)]
            case CountEmails():
                return [EmailsCounted(id=question.id, periods=(), total=COUNTS)]
            case ListEmails():
                found = tuple(self.emails.values())
                return [EmailsListed(id=question.id, emails=found, next=CURSOR)]
        raise AssertionError(question)

    def last(self, kind: type[Contract]) -> Any:  # noqa: ANN401 -- a contract of the kind
        """Return the last question of a kind."""
        return next(each for each in reversed(self.got) if isinstance(each, kind))


@pytest.fixture
async def scheduler(vhost: str, api: ApiClient) -> AsyncIterator[FakeScheduler]:
    """Run a scheduler, once its queue is there."""
    del api
    fake = FakeScheduler()
    contracts = (ListRuns, RepeatEmails, DescribeContentType)
    async with running_service(vhost, topology.SCHEDULER_QUESTIONS, dict.fromkeys(contracts, fake)):
        yield fake


@pytest.fixture
async def ledger(vhost: str, api: ApiClient) -> AsyncIterator[FakeLedger]:
    """Run a ledger, once its queue is there."""
    del api
    fake = FakeLedger()
    contracts = (DescribeEmail, CountEmails, ListEmails)
    async with running_service(vhost, topology.LEDGER_QUESTIONS, dict.fromkeys(contracts, fake)):
        yield fake


async def test_runs_are_listed(api: ApiClient, scheduler: FakeScheduler) -> None:
    """A page has the runs of the client's content type, and the cursor of the next page."""
    before = CONTENT_RUN.model_copy(update={"period_at": PERIOD - timedelta(days=7)})
    scheduler.runs.append(before)
    first = await api.call("GET", "/v1/content-types/news/runs?limit=1")
    second = await api.call("GET", f"/v1/content-types/news/runs?after={first.json['next']}")

    assert (first.status, first.json["runs"]) == (200, [SHOWN_RUN])
    assert [each["period"] for each in second.json["runs"]] == ["2026-10-26T07:30:00Z"]
    assert "next" not in second.json
    assert {each.client for each in scheduler.got} == {"shop"}


async def test_the_administrator_names_the_client(api: ApiClient, scheduler: FakeScheduler) -> None:
    """Names are the clients' own; a client cannot name another one."""
    del scheduler
    seen = await api.admin.call("GET", "/v1/content-types/news/runs?client=shop")
    unnamed = await api.admin.call("GET", "/v1/content-types/news/runs")
    other = await api.registered("other")
    foreign = await other.call("GET", "/v1/content-types/news/runs?client=shop")

    assert (seen.status, seen.json["runs"]) == (200, [SHOWN_RUN])
    assert [each.json["code"] for each in (unnamed, foreign)] == ["no-such-content-type"] * 2


async def test_a_content_type_without_runs(api: ApiClient, scheduler: FakeScheduler) -> None:
    """It has an empty page; a content type that is not there is a 404."""
    scheduler.runs.clear()
    empty = await api.call("GET", "/v1/content-types/news/runs")
    scheduler.content_type = None
    missing = await api.call("GET", "/v1/content-types/news/runs")

    assert (empty.status, empty.json) == (200, {"runs": []})
    assert (missing.status, missing.json["code"]) == (404, "no-such-content-type")


@pytest.mark.parametrize("status", ["failed", "expired", "bounced"])
async def test_a_run_has_its_sums_and_what_did_not_arrive(
    api: ApiClient, scheduler: FakeScheduler, ledger: FakeLedger, status: str
) -> None:
    """The sums are of all mails with the run's tag from its period to now, since a run is spread.

    The page has the messages of one status.
    """
    del scheduler
    ledger.add(newsletter(1), EmailStatus(status))
    query = f"status={status}&after={CURSOR}&limit=7"
    answer = await api.call("GET", f"{PATH}?{query}")

    assert answer.status == 200
    assert answer.json["run"] == RUN
    assert (answer.json["counts"]["accepted"], answer.json["counts"]["failed"]) == (101, 2)
    assert [each["id"] for each in answer.json["messages"]] == [str(newsletter(1))]
    assert answer.json["next"] == CURSOR
    counted, listed = ledger.last(CountEmails), ledger.last(ListEmails)
    assert (counted.client, counted.tag) == ("shop", f"run:{RUN}")
    assert counted.since == PERIOD.replace(minute=0)
    assert counted.until > datetime.now(UTC)
    assert (listed.client, listed.tag, listed.status) == ("shop", f"run:{RUN}", status)
    assert (listed.since, listed.after, listed.limit) == (PERIOD, CURSOR, 7)


@pytest.mark.parametrize(
    "run",
    ["1", RUN[:-1], RUN.replace("2026", "9999"), run_id("other", PERIOD), "20261132T073000Z-0"],
)
async def test_an_unknown_run_is_a_404(
    api: ApiClient, scheduler: FakeScheduler, ledger: FakeLedger, run: str
) -> None:
    """The id of a run belongs to one content type, and no ledger is asked about another id."""
    del scheduler
    path = f"/v1/content-types/news/runs/{run}"
    read = await api.call("GET", path)
    repeated = await api.post(f"{path}/repeat", {"messages": [str(newsletter(1))]})

    assert [(each.status, each.json["code"]) for each in (read, repeated)] == [
        (404, "no-such-run")
    ] * 2
    assert ledger.got == []


@pytest.mark.parametrize(
    ("query", "pointer"), [("status=delivered", "#/status"), ("after=x", "#/after")]
)
async def test_a_mistake_in_the_query_is_a_422(api: ApiClient, query: str, pointer: str) -> None:
    """It names its place."""
    answer = await api.call("GET", f"{PATH}?{query}")

    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, pointer)


async def test_only_what_did_not_arrive_is_repeated(
    api: ApiClient, scheduler: FakeScheduler, ledger: FakeLedger
) -> None:
    """A message that failed, expired or bounced is sent once more; all others are refused."""
    for number, status in enumerate(EmailStatus):
        ledger.add(newsletter(number), status)
    ids = [str(newsletter(number)) for number in range(len(EmailStatus))]
    answer = await api.post(f"{PATH}/repeat", {"messages": [*ids, ids[0]]})

    not_reached = {EmailStatus.BOUNCED, EmailStatus.FAILED, EmailStatus.EXPIRED}
    wanted = [str(newsletter(n)) for n, each in enumerate(EmailStatus) if each in not_reached]
    assert answer.status == 200
    assert (answer.json["repeated"], scheduler.repeated) == (3, wanted)
    assert answer.json["refused"] == [
        {"id": each, "reason": "not-failed"} for each in ids if each not in wanted
    ]


async def test_what_is_not_of_the_run_is_refused(
    api: ApiClient, scheduler: FakeScheduler, ledger: FakeLedger
) -> None:
    """A message of another kind, run or client is unknown, whatever its id is."""
    other = PERIOD + timedelta(days=1)
    ids = ["m1", str(newsletter(1)), str(newsletter(2, other)), str(newsletter(3))]
    ledger.add("m1", EmailStatus.FAILED)
    ledger.add(newsletter(2, other), EmailStatus.FAILED, run_id("news", other))
    ledger.add(newsletter(3), EmailStatus.FAILED, run_id("other", PERIOD))
    answer = await api.post(f"{PATH}/repeat", {"messages": ids})

    assert answer.json == {
        "repeated": 0,
        "refused": [{"id": each, "reason": "unknown"} for each in ids],
    }
    assert scheduler.repeated == []


async def test_nobody_is_mailed_twice(
    api: ApiClient, scheduler: FakeScheduler, ledger: FakeLedger
) -> None:
    """A message is repeated once; its repetition may be repeated, if it failed itself.

    A sender forgets ids in time; the ledger still has the repetition.
    """
    once = newsletter(1)
    ledger.add(once, EmailStatus.FAILED)
    ledger.add(once.again(), EmailStatus.EXPIRED)
    answer = await api.post(f"{PATH}/repeat", {"messages": [str(once), str(once.again())]})

    assert answer.json == {"repeated": 1, "refused": [{"id": str(once), "reason": "repeated"}]}
    assert scheduler.repeated == [str(once.again())]


async def test_who_has_unsubscribed_is_not_mailed_again(
    api: ApiClient, scheduler: FakeScheduler, ledger: FakeLedger
) -> None:
    """The scheduler repeats mails of subscriptions that still exist; the answer names the rest."""
    gone = str(newsletter(1))
    ledger.add(gone, EmailStatus.FAILED)
    scheduler.ended.add(gone)
    answer = await api.post(f"{PATH}/repeat", {"messages": [gone]})

    assert answer.json == {"repeated": 0, "refused": [{"id": gone, "reason": "not-subscribed"}]}


async def test_a_paused_content_type_repeats_nothing(
    api: ApiClient, scheduler: FakeScheduler, ledger: FakeLedger
) -> None:
    """It is a 409 until it is resumed."""
    scheduler.content_type = NEWS.model_copy(update={"paused_at": NOW, "paused_for": "bounces"})
    answer = await api.post(f"{PATH}/repeat", {"messages": [str(newsletter(1))]})

    assert (answer.status, answer.json["code"]) == (409, "content-type-paused")
    assert (scheduler.repeated, ledger.got) == ([], [])


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "#/messages"),
        ({"messages": []}, "#/messages"),
        ({"messages": ["a", "é"]}, "#/messages/1"),
        ({"messages": [f"m{number}" for number in range(101)]}, "#/messages"),
    ],
)
async def test_a_mistake_in_a_repetition_is_a_422(
    api: ApiClient, scheduler: FakeScheduler, body: dict[str, Any], pointer: str
) -> None:
    """It names its place, and nothing is asked."""
    answer = await api.post(f"{PATH}/repeat", body)

    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, pointer)
    assert scheduler.got == []


async def test_without_a_scheduler_nothing_is_known(api: ApiClient) -> None:
    """While the scheduler does not answer each request is a 503 that may be repeated."""
    for method, path, body in (
        ("GET", "/v1/content-types/news/runs", None),
        ("GET", PATH, None),
        ("POST", f"{PATH}/repeat", {"messages": [str(newsletter(1))]}),
    ):
        answer = await api.call(method, path, body)

        assert (answer.status, answer.json["code"]) == (503, "unavailable")
        assert answer.json["detail"].endswith("Asking again does no harm.")
