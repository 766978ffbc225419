"""The events of a run: those that are sent, those that are expected, and the table."""

from collections import Counter
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from ops.load.events import (
    EventCounts,
    EventLoad,
    EventPlan,
    count_events,
    read_counts,
)
from ops.load.http import GatewayClient, LoadError
from ops.simulator.simulator import Simulator, SimulatorSettings
from shared import contracts
from shared.contracts import FeedbackReported, Kind, address
from tests.ops.load.gateway import KEY, Gateway

AT = datetime(2026, 1, 1, tzinfo=UTC)
PLANS = st.builds(
    EventPlan,
    run=st.just("0a1b2c3d"),
    at=st.just(AT),
    events=st.integers(1, 300),
    domains=st.integers(1, 20),
    bounced=st.integers(0, 100),
    batch=st.integers(1, 100),
)
PLAN = EventPlan("0a1b2c3d", datetime(2026, 1, 1, tzinfo=UTC), events=7, domains=5, bounced=0)


def counted(plan: EventPlan) -> EventCounts:
    """Count the events in the messages of a run, as the classifier does."""
    found: EventCounts = Counter()
    for batch in plan.batches():
        report = contracts.decode("feedback.reported", contracts.encode(plan.message(batch)))
        assert isinstance(report, FeedbackReported)
        found.update((each.domain, each.kind) for each in report.sightings)
    return found


def text(delivered: int, bounced: int) -> str:
    """Return how many events there are, as a person reads it."""
    return f"{delivered:,} delivered and {bounced:,} bounced"


def load_of(plan: EventPlan) -> EventLoad:
    """Return the load of a plan, to no gateway."""
    return EventLoad(plan, GatewayClient(URL()), 0)


def expected(plan: EventPlan) -> EventLoad:
    """Return what is expected after a whole run."""
    filled = load_of(plan)
    for batch in plan.batches():
        filled.sent(batch)
    return filled


@given(PLANS)
def test_all_sent_events_are_expected(plan: EventPlan) -> None:
    """Every event is valid, is sent once, and is expected once."""
    filled, table = expected(plan), counted(plan)
    total = Counter(kind for _, kind in table.elements())

    assert filled.done == plan.events
    assert not filled.compare(table, ())
    sent = text(total[Kind.DELIVERED], total[Kind.BOUNCED])
    assert filled.summary() == [f"{min(plan.domains, plan.events)} domains, {sent}"]


@given(PLANS)
def test_a_request_tells_the_same_as_a_message(plan: EventPlan) -> None:
    """HTTP and AMQP carry the same events."""
    for batch in plan.batches():
        asked, report = plan.request(batch), plan.message(batch)
        if plan.batch == 1:
            (seen,) = report.sightings
            assert asked.path == f"/v1/events/{seen.domain}/{seen.kind}"
            assert asked.key == seen.id
        else:
            events = orjson.loads(asked.body)["events"]
            reported = orjson.loads(contracts.encode(report))["sightings"]
            assert [each | {"at": AT} for each in events] == [
                each | {"at": AT} for each in reported
            ]


@given(PLANS)
def test_ids_are_all_different(plan: EventPlan) -> None:
    """No two events have one id, for they would count as one."""
    ids = [each.id for batch in plan.batches() for each in plan.message(batch).sightings]

    assert len(set(ids)) == plan.events


def test_the_domains_are_found_by_name() -> None:
    """All domains of a run sort together, right after the one that a page begins at."""
    plan = EventPlan("0a1b2c3d", AT, events=3, domains=3)

    assert address.check_domain(plan.before) == plan.before
    assert plan.before < plan.domain(0) < plan.domain(1) < plan.domain(2)
    assert plan.domain(0).startswith(plan.prefix)


@pytest.mark.parametrize("bounced", [0, 1, 50, 100])
def test_so_many_percent_bounce(bounced: int) -> None:
    """The share of bounces holds over all domains, and each round bounces other ones."""
    plan = EventPlan("0a1b2c3d", AT, events=10_000, domains=100, bounced=bounced)
    counts = text(10_000 - 100 * bounced, 100 * bounced)

    assert expected(plan).summary() == [f"100 domains, {counts}"]


def test_a_difference_is_reported_by_its_domain() -> None:
    """Missing events, doubled ones and those of an unknown domain are differences."""
    plan = EventPlan("0a1b2c3d", AT, events=4, domains=4, bounced=0)
    table = Counter({(plan.domain(number), Kind.DELIVERED): number + 1 for number in (0, 1)})
    table["other", Kind.BOUNCED] = 1

    assert expected(plan).compare(table, ()) == [
        f"{plan.domain(1)}: 2 delivered and 0 bounced, sent were 1 delivered and 0 bounced",
        f"{plan.domain(2)}: 0 delivered and 0 bounced, sent were 1 delivered and 0 bounced",
        f"{plan.domain(3)}: 0 delivered and 0 bounced, sent were 1 delivered and 0 bounced",
        "other: 0 delivered and 1 bounced, sent were 0 delivered and 0 bounced",
    ]


def test_an_unanswered_event_may_be_counted_or_not() -> None:
    """An event without a response may be counted or not, but not twice."""
    plan = EventPlan("0a1b2c3d", AT, events=2, domains=1, bounced=0)
    filled = load_of(plan)
    filled.sent(range(1))
    unsure = [range(1, 2)]
    key = plan.domain(0), Kind.DELIVERED

    assert not filled.compare(Counter({key: 1}), unsure)
    assert not filled.compare(Counter({key: 2}), unsure)
    assert filled.compare(Counter({key: 3}), unsure)
    assert filled.compare(Counter(), unsure)


async def test_all_of_a_run_and_nothing_else_is_read() -> None:
    """All pages of a run are read, and no domain of another run."""
    async with Gateway.serving() as gateway, GatewayClient.open(gateway.url, KEY) as client:
        for batch in PLAN.batches():
            await client.send(PLAN.request(batch))
        await client.send(EventPlan("0a1b2c3e", PLAN.at, 1, 1).request(range(1)))

        found = await read_counts(client, PLAN)
        events = await count_events(client)

    wanted = {PLAN.domain(number): 2 if number < 2 else 1 for number in range(5)}
    assert found == Counter({(each, Kind.DELIVERED): count for each, count in wanted.items()})
    assert events == 8


async def test_a_run_that_is_not_there_is_empty() -> None:
    """Reading stops at the first domain of another run."""
    async with Gateway.serving() as gateway, GatewayClient.open(gateway.url, KEY) as client:
        assert not await read_counts(client, PLAN)


async def test_another_server_is_no_gateway() -> None:
    """A server that is no gateway is an error in one line."""
    async with (
        Simulator(SimulatorSettings()) as simulator,
        GatewayClient.open(URL(simulator.web_url)) as client,
    ):
        with pytest.raises(LoadError, match=r"the gateway answers 404|is no gateway"):
            await count_events(client)
