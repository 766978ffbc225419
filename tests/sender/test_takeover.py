"""Claims that are lost to another sender, in both databases, and the outcomes that are kept."""

import pytest
from structlog.testing import capture_logs

from services.sender.claims import LEASE_MARGIN_SHARE, LEASE_SECONDS
from services.sender.store import ClaimStore
from shared.contracts import Outcome, SendEmail, Stage
from shared.replies import reply as replies
from shared.storage.database import Database
from tests.clock import Clock, Watch
from tests.sender.commands import a_command, outcomes
from tests.sender.senders import HASHER

ANNA, BEN = "anna@x.example", "ben@x.example"
HEARD = {
    "delivered": replies.received(Stage.DOT, 250, "2.0.0 Queued"),
    "deferred": replies.received(Stage.RCPT, 451, "4.3.2 Busy"),
    "bounced": replies.received(Stage.RCPT, 550, "5.1.1 Unknown"),
    "uncertain": replies.no_reply(Stage.DOT, "no reply in time"),
}


def came_to(command: SendEmail, kind: str, by: str) -> tuple[Outcome, ...]:
    """Return the outcome of an attempt, with the name of its sender in the reply."""
    reply = HEARD[kind].model_copy(update={"text": f"{HEARD[kind].text} ({by})"})
    return outcomes(command, reply, retries_uncertain=False)  # as bulk: uncertain is final


@pytest.mark.parametrize(
    ("ends", "kept"),
    [
        # A sender that has lost its claim neither keeps nor reports its outcome.
        (["old deferred", "new delivered"], ["new delivered"]),
        (["old bounced", "new delivered"], ["new delivered"]),
        (["old uncertain", "new delivered"], ["new delivered"]),
        (["old bounced", "new deferred"], ["new deferred"]),
        (["new deferred", "old deferred"], ["new deferred"]),
        (["new deferred", "old bounced"], ["new deferred"]),
        # A delivery is true whoever has the claim, and is kept unless there is a final outcome.
        (["old delivered", "new uncertain"], ["old delivered"]),
        (["old delivered", "new bounced"], ["old delivered"]),
        (["old delivered", "new deferred"], ["old delivered"]),
        (["old delivered", "new delivered"], ["old delivered"]),
        (["new deferred", "old delivered"], ["new deferred", "old delivered"]),
        # The first final outcome counts, true or not: it has been published.
        (["new uncertain", "old delivered"], ["new uncertain"]),
        (["new bounced", "old delivered"], ["new bounced"]),
        (["new delivered", "old delivered"], ["new delivered"]),
        (["new delivered", "old bounced"], ["new delivered"]),
    ],
    ids=", ".join,
)
async def test_taken_over(
    store: ClaimStore, replica: ClaimStore, clock: Clock, ends: list[str], kept: list[str]
) -> None:
    """Two senders that settle one attempt publish no contradicting final outcomes."""
    command = a_command()
    senders = {"old": (store, await store.claim(command))}
    clock.seconds += LEASE_SECONDS
    senders["new"] = (replica, await replica.claim(command))
    outcomes: list[Outcome] = []
    for end in ends:
        by, _, kind = end.partition(" ")
        claims, claim = senders[by]
        outcomes += await claims.settle(claim, came_to(command, kind, by))

    expected = [event for end in kept for event in came_to(command, end[4:], end[:3])]
    assert outcomes == expected
    assert [*(await store.claim(command)).settled] == expected[-1:]


async def test_settled_twice(store: ClaimStore) -> None:
    """An outcome that is kept already, with the same text, counts as kept."""
    command = a_command()
    claim = await store.claim(command)
    events = came_to(command, "delivered", "me")

    assert [await store.settle(claim, events) for _ in range(2)] == [events, events]


async def test_a_delivery_ends_the_next_attempt(store: ClaimStore, replica: ClaimStore) -> None:
    """A sender with a claim on the next attempt loses it to the delivery of the one before."""
    first, second = a_command(), a_command(attempt=2)
    slow, next_claim = await store.claim(first), await replica.claim(second)
    kept = await store.settle(slow, came_to(first, "delivered", "old"))
    await replica.renew()

    assert kept == came_to(first, "delivered", "old")
    assert not replica.holds(next_claim)
    assert await replica.settle(next_claim, came_to(second, "bounced", "new")) == ()


async def test_a_lease_ends_for_its_holder_first(each_database: Database, clock: Clock) -> None:
    """A lease ends by its holder's clock before another sender may take over."""
    watch = Watch()
    store = ClaimStore(each_database, HASHER, clock=clock, steady=watch)
    claim = await store.claim(a_command())
    held = [store.holds(claim)]
    watch.now += LEASE_SECONDS * (1 - LEASE_MARGIN_SHARE)
    held.append(store.holds(claim))
    await store.renew()
    held.append(store.holds(claim))

    assert held == [True, False, True]


async def test_taken_over_while_stopped(
    each_database: Database, replica: ClaimStore, clock: Clock
) -> None:
    """A claim that another sender has taken over cannot be renewed."""
    store = ClaimStore(each_database, HASHER, clock=clock)
    claim = await store.claim(a_command(ANNA, BEN))
    clock.seconds += LEASE_SECONDS
    await replica.claim(a_command(ANNA, BEN, pending=(BEN,)))
    with capture_logs() as logs:
        await store.renew()
        await store.renew()

    assert not store.holds(claim)
    assert [entry["count"] for entry in logs] == [1]
    await store.give_back(claim)
    assert (await store.claim(a_command(ANNA, BEN))).busy == (BEN,)


async def test_a_claim_on_nothing_is_not_renewed(store: ClaimStore) -> None:
    """A copy of a command without fresh recipients holds no claim."""
    await store.claim(a_command())
    await store.claim(a_command())

    assert len(store._held) == 1
