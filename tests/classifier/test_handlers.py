"""What the classifier answers and announces, on a real store."""

import asyncio
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.classifier.evidence import Evidence, Rule
from services.classifier.handlers import Classifier
from services.classifier.service import MIGRATIONS
from services.classifier.store import EvidenceStore
from shared.contracts import (
    Category,
    Contract,
    DescribeDomain,
    DomainClassified,
    DomainDescribed,
    EmailBounced,
    EmailDelivered,
    FeedbackBounced,
    FeedbackDelivered,
    ReplyClass,
    Verdict,
)
from shared.database import Database
from shared.errors import Reject

AT = datetime(2030, 1, 1, tzinfo=UTC)
RULE = Rule(3)
DOMAINS = ("a.example", "b.example")


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Classifier]:
    """Open a classifier as one process has it."""
    async with Database.open("classifier", None, folder, MIGRATIONS) as database:
        yield Classifier(EvidenceStore(database, RULE), RULE)


@pytest.fixture
async def classifier(tmp_path: Path) -> AsyncIterator[Classifier]:
    """Give the handlers of one test."""
    async with opened(tmp_path) as handlers:
        yield handlers


def outcome(number: int, domain: str) -> dict[str, Any]:
    """Give the fields that our own outcomes share."""
    return {
        "id": f"e-{number}",
        "at": AT,
        "email_id": f"m-{number}",
        "category": Category.TRANSACTIONAL,
        "recipient": f"somebody@{domain}",
        "attempt": 1,
    }


def delivery(number: int, domain: str = "a.example") -> EmailDelivered:
    """Give a delivery of our own."""
    return EmailDelivered(**outcome(number, domain))


def bounce(
    number: int, domain: str = "a.example", reply_class: ReplyClass = ReplyClass.MAILBOX_UNKNOWN
) -> EmailBounced:
    """Give a bounce of our own."""
    return EmailBounced(**outcome(number, domain), reply_class=reply_class)


async def handle(classifier: Classifier, event: Contract) -> Sequence[Contract]:
    """Handle an event as the queue's subscription does."""
    match event:
        case EmailDelivered():
            return await classifier.on_email_delivered(event)
        case EmailBounced():
            return await classifier.on_email_bounced(event)
        case FeedbackDelivered():
            return await classifier.on_feedback_delivered(event)
        case FeedbackBounced():
            return await classifier.on_feedback_bounced(event)
        case _:
            raise TypeError(event)


async def describe(classifier: Classifier, domain: str = "a.example") -> DomainDescribed:
    """Ask for the evidence on a domain."""
    (answer,) = await classifier.on_describe_domain(DescribeDomain(id="q-1", domain=domain))
    assert isinstance(answer, DomainDescribed)
    return answer


async def test_never_seen(classifier: Classifier) -> None:
    """A domain never seen is unknown, not an error."""
    answer = await describe(classifier)

    assert (answer.status, answer.delivered, answer.bounced) == (Verdict.UNKNOWN, 0, 0)


async def test_every_kind_counts(classifier: Classifier) -> None:
    """Our own outcomes and others' feedback add up in one sum."""
    await handle(classifier, delivery(1))
    await handle(classifier, bounce(2))
    await handle(classifier, FeedbackDelivered(id="e-3", at=AT, domain="A.example."))
    await handle(classifier, FeedbackBounced(id="e-4", at=AT, domain="a.example"))
    answer = await describe(classifier)

    assert (answer.status, answer.delivered, answer.bounced) == (Verdict.NOT_CATCH_ALL, 2, 2)


async def test_other_refusals_do_not_count(classifier: Classifier) -> None:
    """A bounce that does not say "no such mailbox" changes nothing and announces nothing."""
    refused = bounce(1, reply_class=ReplyClass.UNDETERMINED)

    assert await handle(classifier, refused) == []
    assert (await describe(classifier)).bounced == 0


async def test_a_change_is_announced(classifier: Classifier) -> None:
    """The event that turns the verdict announces it, and again with the same id when it returns."""
    announced = [await handle(classifier, delivery(number)) for number in range(5)]
    again = await handle(classifier, delivery(3))

    assert [len(messages) for messages in announced] == [0, 0, 0, 1, 0]
    (change,) = announced[3]
    assert isinstance(change, DomainClassified)
    assert (change.domain, change.status) == ("a.example", Verdict.CATCH_ALL)
    assert again == [change]


async def test_what_has_no_domain_is_rejected(classifier: Classifier) -> None:
    """An outcome whose recipient has no domain goes to the dead letters with the reason."""
    with pytest.raises(Reject, match="domain"):
        await handle(classifier, delivery(1, "[192.0.2.1]"))


def event_of(number: int, kind: int, domain: str) -> Contract:
    """Give event `number`, of one of the kinds that count or do not."""
    kinds: tuple[Contract, ...] = (
        delivery(number, domain),
        delivery(number, domain),
        delivery(number, domain),
        bounce(number, domain),
        bounce(number, domain, ReplyClass.UNDETERMINED),
        FeedbackDelivered(id=f"e-{number}", at=AT, domain=domain),
        FeedbackBounced(id=f"e-{number}", at=AT, domain=domain),
    )
    return kinds[kind]


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Contract], list[Contract]]:
    """Draw a set of events, and a history of them: in some order, some of them more than once."""
    picks = draw(st.lists(st.tuples(st.integers(0, 6), st.sampled_from(DOMAINS)), max_size=12))
    events = [event_of(number, *pick) for number, pick in enumerate(picks)]
    copies = draw(st.lists(st.sampled_from(events), max_size=8)) if events else []
    return events, draw(st.permutations([*events, *copies]))


@settings(max_examples=15, deadline=None)
@given(histories())
def test_order_and_copies_change_nothing(
    events_and_history: tuple[list[Contract], list[Contract]],
) -> None:
    """The verdicts are a function of the set of events, however two replicas got them."""
    events, history = events_and_history
    asyncio.run(_check(events, history))


async def _check(events: list[Contract], history: list[Contract]) -> None:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        both = [await stack.enter_async_context(opened(folder)) for _ in range(2)]
        returned = await asyncio.gather(
            *(handle(both[turn % 2], event) for turn, event in enumerate(history))
        )
        for domain in DOMAINS:
            evidence = recount(events, domain)
            answer = await describe(both[0], domain)
            assert Evidence(answer.delivered, answer.bounced) == evidence
            assert answer.status == RULE.verdict(evidence)
            assert last_announced(returned, domain) == answer.status


def recount(events: list[Contract], domain: str) -> Evidence:
    """Count the plain way what each event says of a domain."""
    kinds = Counter(
        type(event)
        for event in events
        if domain in (getattr(event, "domain", ""), getattr(event, "recipient", "")[9:])
        and getattr(event, "reply_class", None) != ReplyClass.UNDETERMINED
    )
    return Evidence(
        kinds[EmailDelivered] + kinds[FeedbackDelivered],
        kinds[EmailBounced] + kinds[FeedbackBounced],
    )


def last_announced(returned: Sequence[Sequence[Contract]], domain: str) -> Verdict:
    """Give the verdict that a listener believes in the end: a bounce is never taken back."""
    heard = {
        item.status
        for items in returned
        for item in items
        if isinstance(item, DomainClassified) and item.domain == domain
    }
    order = (Verdict.NOT_CATCH_ALL, Verdict.CATCH_ALL)
    return next((verdict for verdict in order if verdict in heard), Verdict.UNKNOWN)
