"""The classification of a domain by delivery events."""

import asyncio

import pytest

from tests.journeys.user import User

pytestmark = [pytest.mark.journey, pytest.mark.timeout(180)]


async def test_one_more_than_a_thousand_is_catch_all(user: User) -> None:
    """Exactly 1000 deliveries are `unknown`, 1001 `catch-all`; one bounce refutes it for good."""
    path = "/v1/events/Catch.Example/delivered"
    answers = await asyncio.gather(*(user.ask("PUT", path) for _ in range(1000)))
    at_threshold = await user.wait_for_domain("catch.example", 1000)
    await user.ask("PUT", path)
    above = await user.wait_for_domain("catch.example", 1001)
    await user.ask("PUT", "/v1/events/catch.example/bounced")
    refuted = await user.wait_for_domain("catch.example", 1002)

    assert {answer.status for answer in answers} == {202}
    assert (at_threshold["domain"], at_threshold["status"]) == ("catch.example", "unknown")
    assert (at_threshold["delivered"], at_threshold["bounced"]) == (1000, 0)
    assert at_threshold["reason"].startswith("unknown: 1000 delivered")
    assert above["status"] == "catch-all"
    assert refuted["status"] == "not-catch-all"


async def test_an_event_reported_twice_counts_once(user: User) -> None:
    """An event counts once by its key or id, and so do the others of its request."""
    once = {"Idempotency-Key": "once"}
    path = "/v1/events/twice.example/delivered"
    events = [
        {"domain": "twice.example", "kind": "delivered", "id": "mine"},
        {"domain": "twice.example", "kind": "delivered"},
    ]
    for _ in range(3):
        await user.ask("PUT", path, headers=once)
        await user.ask("POST", "/v1/events", events, headers=once)
    await user.ask("PUT", path)
    await user.ask("PUT", "/v1/events/last.example/delivered")
    await user.wait_for_domain("last.example", 1)

    described = await user.wait_for_domain("twice.example", 4)

    assert (described["delivered"], described["bounced"]) == (4, 0)
    counted = (await user.ask("GET", "/v1/domains/stats")).body
    assert counted["delivered"] >= 4
    listed = (await user.ask("GET", "/v1/domains?after=twice.exampl.example&limit=1")).body
    assert listed["domains"] == [described]


async def test_our_own_mail_is_evidence(user: User) -> None:
    """A delivery counts; of refusals only `no such mailbox` counts, a policy block does not."""
    await user.send("someone@evidence.example")
    await user.send("reply-rcpt-550-5-7-1@evidence.example")
    await user.wait_for_domain("evidence.example", 1)
    await user.send("reply-rcpt-550-5-1-1@evidence.example")

    described = await user.wait_for_domain("evidence.example", 2)

    assert (described["delivered"], described["bounced"]) == (1, 1)
    assert described["status"] == "not-catch-all"


async def test_a_domain_never_seen_is_unknown(user: User) -> None:
    """An unknown domain is an answer, not an error."""
    answer = await user.ask("GET", "/v1/domains/never.example")

    assert answer.status == 200
    assert answer.body["status"] == "unknown"
