"""The events of a run: what is sent and what has to be counted are the same."""

from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.load.sightings import Counts, Ledger, Plan
from shared import contracts
from shared.contracts import FeedbackReported, address

AT = datetime(2026, 1, 1, tzinfo=UTC)
PLANS = st.builds(
    Plan,
    run=st.just("0a1b2c3d"),
    at=st.just(AT),
    events=st.integers(1, 300),
    domains=st.integers(1, 20),
    bounced=st.integers(0, 100),
    batch=st.integers(1, 100),
)


def told(plan: Plan) -> dict[str, Counts]:
    """Count what the messages of a run tell, as the classifier would."""
    found: dict[str, Counts] = {}
    for batch in plan.batches():
        report = contracts.decode("feedback.reported", contracts.encode(plan.report(batch)))
        assert isinstance(report, FeedbackReported)
        for each in report.sightings:
            one = Counts(int(each.kind == "delivered"), int(each.kind == "bounced"))
            found[each.domain] = found.get(each.domain, Counts()) + one
    return found


def ledger(plan: Plan) -> Ledger:
    """Note all of a run."""
    filled = Ledger(plan)
    for batch in plan.batches():
        filled.add(batch)
    return filled


@given(PLANS)
def test_what_is_sent_is_what_has_to_be_there(plan: Plan) -> None:
    """Every event is valid, is sent once, and is expected once."""
    filled = ledger(plan)

    assert filled.events == plan.events
    assert not filled.differences(told(plan), ())
    assert filled.counts.delivered + filled.counts.bounced == plan.events
    assert filled.domains == min(plan.domains, plan.events)


@given(PLANS)
def test_a_request_tells_the_same_as_a_message(plan: Plan) -> None:
    """Whichever way events take, they are the same events."""
    for batch in plan.batches():
        asked, report = plan.request(batch), plan.report(batch)
        if plan.batch == 1:
            (seen,) = report.sightings
            assert asked.path == f"/v1/events/{seen.domain}/{seen.kind}"
            assert asked.key == seen.id
        else:
            events = orjson.loads(asked.body)["events"]
            told = orjson.loads(contracts.encode(report))["sightings"]
            assert [each | {"at": AT} for each in events] == [each | {"at": AT} for each in told]


@given(PLANS)
def test_ids_are_all_different(plan: Plan) -> None:
    """Two events with one id would be one."""
    ids = [each.id for batch in plan.batches() for each in plan.report(batch).sightings]

    assert len(set(ids)) == plan.events


def test_the_domains_are_found_by_name() -> None:
    """All of a run stand together, after the name that is asked for."""
    plan = Plan("0a1b2c3d", AT, events=3, domains=3)

    assert address.check_domain(plan.before) == plan.before
    assert plan.before < plan.domain(0) < plan.domain(1) < plan.domain(2)
    assert plan.domain(0).startswith(plan.prefix)


@pytest.mark.parametrize("bounced", [0, 1, 50, 100])
def test_so_many_percent_bounce(bounced: int) -> None:
    """The share holds over all domains, and no two rounds hit the same ones."""
    plan = Plan("0a1b2c3d", AT, events=10_000, domains=100, bounced=bounced)

    assert ledger(plan).counts == Counts(10_000 - 100 * bounced, 100 * bounced)


def test_a_difference_is_told_by_its_domain() -> None:
    """Too few, too many, and what nobody sent."""
    plan = Plan("0a1b2c3d", AT, events=4, domains=4, bounced=0)
    table = {plan.domain(0): Counts(1), plan.domain(1): Counts(2), "other": Counts(bounced=1)}

    assert ledger(plan).differences(table, ()) == [
        f"{plan.domain(1)}: 2 delivered and 0 bounced, sent were 1 delivered and 0 bounced",
        f"{plan.domain(2)}: 0 delivered and 0 bounced, sent were 1 delivered and 0 bounced",
        f"{plan.domain(3)}: 0 delivered and 0 bounced, sent were 1 delivered and 0 bounced",
        "other: 0 delivered and 1 bounced, sent were 0 delivered and 0 bounced",
    ]


def test_what_was_never_answered_may_be_there_or_not() -> None:
    """Nobody can tell, so neither is a difference; twice would be."""
    plan = Plan("0a1b2c3d", AT, events=2, domains=1, bounced=0)
    filled = Ledger(plan)
    filled.add(range(1))
    unsure = [range(1, 2)]

    assert not filled.differences({plan.domain(0): Counts(1)}, unsure)
    assert not filled.differences({plan.domain(0): Counts(2)}, unsure)
    assert filled.differences({plan.domain(0): Counts(3)}, unsure)
    assert filled.differences({}, unsure)
