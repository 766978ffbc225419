"""Whether the books add up: the sums, the mails one by one, the queues and the dead letters."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ops import books
from ops.books import SHOWN_IDS, Books, Recount
from shared.contracts import (
    Category,
    EmailCounts,
    EmailRecord,
    EmailStatus,
    HistoryEntry,
    RecipientStatus,
    Reply,
    ReplyClass,
    Stage,
)

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
PATIENCE = dict.fromkeys(Category, timedelta(days=1))
EMPTY = {"sender.bulk": 0, "ledger.mail": 0}


def mail(email_id: str, *statuses: EmailStatus, age: timedelta = timedelta(0)) -> EmailRecord:
    """Return a mail with a recipient of each status."""
    return EmailRecord(
        email_id=email_id,
        client="shop",
        category=Category.BULK,
        size_bytes=1,
        accepted_at=NOW - age,
        recipients=tuple(
            RecipientStatus(recipient=f"r{place}@one.example", status=status, attempts=1)
            for place, status in enumerate(statuses)
        ),
    )


def counts(**numbers: int) -> EmailCounts:
    """Return sums that add up."""
    return EmailCounts(since=NOW, accepted=sum(numbers.values()), **numbers)


DELIVERED = mail("m-1", EmailStatus.DELIVERED, EmailStatus.BOUNCED)
WAITING = mail("m-2", EmailStatus.WAITING, EmailStatus.DEFERRED, EmailStatus.DELIVERED)
SUMS = counts(delivered=2, bounced_permanent=1, waiting=2)


def evidence(*mails: EmailRecord, **changes: Any) -> Books:  # noqa: ANN401 -- the fields of Books
    """Return evidence of these mails, with empty queues and no dead letters."""
    recount = Recount()
    for each in mails:
        recount.add(each)
    values: Mapping[str, Any] = {
        "before": SUMS,
        "after": SUMS,
        "forgotten": (counts(), counts()),
        "still_waiting": recount.waiting.keys(),
        "queues": EMPTY,
        "dead": {},
        "unknown": set(),
    }
    return Books(recount=recount, **{**values, **changes})


def faults(found: Books) -> list[str]:
    """Return the faults of the books."""
    return list(books.faults(found, NOW, PATIENCE))


def test_waiting_mails_in_dead_letters_add_up() -> None:
    """Each recipient that waits is in a dead letter, and the equation shows it as dead."""
    found = evidence(DELIVERED, WAITING, dead={"sender.bulk.dead": {("m-2", "shop")}})

    assert faults(found) == []
    assert books.equation(found) == (
        "5 accepted = 2 delivered + 1 bounced + 0 failed + 0 expired + 0 suppressed + 0 cancelled"
        " + 0 uncertain + 0 waiting + 2 dead"
    )


def test_a_mail_for_later_is_not_lost() -> None:
    """It waits at the scheduler until its time, and beyond it is late: no scheduler may run."""

    def found(since: timedelta, **changes: object) -> Books:
        return evidence(WAITING.model_copy(update={"scheduled_at": NOW - since}), **changes)

    soon, over = found(-timedelta(days=3)), found(timedelta(hours=1))
    attempted = found(timedelta(hours=1), queues={"delay.5s": 1})
    late = found(timedelta(days=2), queues={"delay.5s": 1})
    names = ("m-2 (client shop, bulk, accepted 2026-11-29 12:00:00+0000, for 2026-11-",)

    assert (books.for_later(soon, NOW), books.for_later(over, NOW)) == (2, 0)
    assert [each for each in faults(soon) if "m-2" in each] == []
    assert [each for each in faults(attempted) if "m-2" in each] == []
    for each in (over, late):
        [fault] = [line for line in faults(each) if "m-2" in line]
        assert fault.startswith(f"late: {names[0]}")


def test_a_dead_letter_of_another_client_is_another_mail() -> None:
    """A mail is lost although another client's mail of the same id is in a dead letter."""
    found = evidence(DELIVERED, WAITING, dead={"sender.bulk.dead": {("m-2", "bakery")}})

    [fault] = faults(found)
    assert fault.startswith("lost: m-2 (client shop")


def test_forgotten_recipients_are_in_the_sums_alone() -> None:
    """The mails and the forgotten recipients are the sums, also while people are forgotten."""
    ada = counts(delivered=1)
    sums = counts(delivered=3, bounced_permanent=1, waiting=2)
    quiet = evidence(
        DELIVERED, WAITING, before=sums, after=sums, forgotten=(ada, ada), still_waiting=set()
    )
    meanwhile = evidence(
        DELIVERED,
        WAITING,
        before=counts(delivered=3, bounced_permanent=1, waiting=3),
        after=sums,
        forgotten=(counts(), ada),
        still_waiting=set(),
    )

    assert faults(quiet) == faults(meanwhile) == []
    assert faults(evidence(DELIVERED, WAITING, forgotten=(ada, ada), still_waiting=set())) == [
        "delivered: the sums have 1, the mails 2",
        "accepted: the sums have 4, the mails 5",
    ]


def test_a_waiting_mail_that_is_nowhere_is_listed() -> None:
    """With empty queues each mail that waits, and is in no dead letter, is lost."""
    assert faults(evidence(DELIVERED, WAITING)) == [
        "lost: m-2 (client shop, bulk, accepted 2026-11-29 12:00:00+0000)"
    ]


def test_a_mail_that_waits_no_more_is_not_lost() -> None:
    """A mail that had its outcome before the second look was on its way at the first."""
    assert faults(evidence(DELIVERED, WAITING, still_waiting=set())) == []


def test_no_more_mails_wait_than_there_are_messages() -> None:
    """While queues hold messages the numbers are compared, since no id can be read there."""
    other = mail("m-3", EmailStatus.WAITING)
    sums = counts(delivered=2, bounced_permanent=1, waiting=3)
    two = evidence(DELIVERED, WAITING, other, before=sums, after=sums, queues={"sender.bulk": 2})
    one = evidence(DELIVERED, WAITING, other, before=sums, after=sums, queues={"delay.4h": 1})

    assert faults(two) == []
    [fault] = faults(one)
    assert fault.startswith("lost: 1 or more mails, of 2 that wait with 1 messages in queues")


def test_a_mail_that_waits_longer_than_its_schedule_is_listed() -> None:
    """It is listed although there are messages that it could be."""
    old = mail(
        "m-2",
        EmailStatus.WAITING,
        EmailStatus.WAITING,
        EmailStatus.DELIVERED,
        age=timedelta(days=2),
    )

    [fault] = faults(evidence(DELIVERED, old, queues={"sender.bulk": 9}))

    assert fault.startswith("late: m-2 ")


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        (SUMS, SUMS, []),
        (counts(), counts(delivered=3, bounced_permanent=1, waiting=9), []),
        (
            counts(delivered=3, bounced_permanent=1, waiting=1),
            counts(delivered=3, bounced_permanent=1, waiting=1),
            ["delivered: the sums have 3, the mails 2"],
        ),
        (
            counts(bounced_permanent=1),
            counts(delivered=1, bounced_permanent=1, waiting=3),
            ["delivered: the sums have 0 to 1, the mails 2"],
        ),
        # A mail that was delivered before may have bounced since: it was counted as one or both.
        (counts(delivered=3), counts(delivered=1, bounced_permanent=1, waiting=3), []),
        (
            counts(delivered=4),
            counts(delivered=4, bounced_permanent=1, waiting=0),
            ["delivered: the sums have 3 to 5, the mails 2"],
        ),
        (
            counts(delivered=2, bounced_permanent=1, waiting=1),
            counts(delivered=2, bounced_permanent=1, waiting=1),
            ["accepted: the sums have 4, the mails 5"],
        ),
        (
            SUMS,
            SUMS.model_copy(update={"accepted": 6}),
            ["accepted: 6 are not the sum of all states, 5"],
        ),
    ],
)
def test_the_sums_are_those_of_the_mails(
    before: EmailCounts, after: EmailCounts, found: list[str]
) -> None:
    """A recount of all mails is between the sums before and after it: equal if nothing comes."""
    assert (
        faults(evidence(DELIVERED, WAITING, before=before, after=after, still_waiting=set()))
        == found
    )


def test_a_dead_letter_that_the_ledger_does_not_know_is_listed() -> None:
    """A mail that no sender could send was accepted, so the ledger must have it."""
    found = evidence(DELIVERED, WAITING, still_waiting=set(), unknown={("m-9", None)})

    assert faults(found) == ["not in the ledger: m-9 (no client), which is in a dead letter"]


def test_a_long_list_has_an_end() -> None:
    """Of each kind the oldest are listed, with the number of the others."""
    mails = [
        mail(f"m-{number}", EmailStatus.WAITING, age=timedelta(minutes=number))
        for number in range(SHOWN_IDS + 2)
    ]
    sums = counts(waiting=len(mails))

    found = faults(evidence(*mails, before=sums, after=sums))

    assert len(found) == SHOWN_IDS + 1
    assert found[0].startswith(f"lost: m-{SHOWN_IDS + 1} ")
    assert found[-1] == "lost: 2 more"


AT = datetime(2026, 11, 29, 12, tzinfo=UTC)
ADA, BOB = "ada@one.example", "bob@two.example"


def test_a_life_has_the_facts_and_each_outcome() -> None:
    """Each recipient has its outcomes in order; facts that are absent have no line."""
    email = EmailRecord(
        email_id="m-1",
        client="shop",
        category=Category.BULK,
        subject="Hello",
        tags={"campaign": "spring"},
        size_bytes=17,
        accepted_at=AT,
        recipients=(
            RecipientStatus(recipient=ADA, status=EmailStatus.DELIVERED, attempts=2),
            RecipientStatus(recipient=BOB, status=EmailStatus.WAITING, attempts=0),
        ),
    )
    refusal = Reply(stage=Stage.RCPT, code=451, enhanced="4.7.1", text="later")
    history = [
        HistoryEntry(
            recipient=ADA,
            status=EmailStatus.DEFERRED,
            attempt=1,
            at=AT + timedelta(seconds=1),
            reply=refusal,
            reply_class=ReplyClass.TEMPORARY,
            retry_after=15,
        ),
        HistoryEntry(
            recipient=ADA,
            status=EmailStatus.DELIVERED,
            attempt=2,
            at=AT + timedelta(seconds=16),
            reply=Reply(stage=Stage.DOT, code=250),
        ),
    ]

    assert books.life(email, history).splitlines() == [
        "id          m-1",
        "client      shop",
        "category    bulk",
        "subject     Hello",
        "tags        campaign:spring",
        "size        17 bytes",
        "accepted    2026-11-29 12:00:00+00:00",
        "",
        "ada@one.example: delivered",
        "  2026-11-29 12:00:01+00:00  attempt 1  deferred; 451 4.7.1 later; temporary; again in 15 s",  # noqa: E501 -- a line of the output
        "  2026-11-29 12:00:16+00:00  attempt 2  delivered; 250",
        "",
        "bob@two.example: waiting",
    ]
