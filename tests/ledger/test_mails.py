"""The facts that are kept of mails and outcomes, and the outcome that counts."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ledger.mails import (
    CATEGORIES,
    STATUSES,
    accepted_at,
    count_name,
    first_number,
    milliseconds,
    moment,
    rank,
    slices,
    waiting,
)
from shared.contracts import (
    Category,
    EmailBounced,
    EmailDeferred,
    EmailDelivered,
    EmailUncertain,
    ReplyClass,
)
from shared.return_path import address_hash, first_key, mail_key
from tests.ledger.books import ADA, AT, accepted, outcome


def test_the_numbers_of_the_tables_keep_their_meaning() -> None:
    """Rows that are kept have these numbers."""
    assert [each.value for each in STATUSES] == [
        *("waiting", "deferred", "delivered", "bounced", "failed"),
        *("expired", "suppressed", "cancelled", "uncertain"),
    ]
    assert [each.value for each in CATEGORIES] == ["otp", "transactional", "bulk"]


@given(st.integers(0, 2**43 - 1), st.integers(0, 2**20 - 1))
def test_a_number_begins_with_its_time(at: int, place: int) -> None:
    """Numbers are in the order of acceptance, for every time until 2248, and fit 64 bits."""
    number = first_number(at) + place

    assert accepted_at(number) == at
    assert first_number(at) <= number < first_number(at + 1) <= 2**63


def test_a_time_is_exact_to_the_millisecond() -> None:
    """A time comes back as it was, without what is less than a millisecond."""
    at = datetime(2026, 11, 29, 10, 30, 1, 234_567, tzinfo=UTC)

    assert moment(milliseconds(at)) == at.replace(microsecond=234_000)


def test_mails_of_one_id_have_one_beginning() -> None:
    """The same id of another client is another mail, and can be found without the client."""
    keys = {mail_key("m-1", client) for client in ("shop", "bank", None)}

    assert len(keys) == 3
    assert all(key.startswith(first_key("m-1")) for key in keys)


def test_an_address_is_looked_up_in_any_case() -> None:
    """The local part is kept as written; a look-up folds it."""
    assert address_hash("Ada@one.example") == address_hash("ada@ONE.example")
    assert address_hash("ada@one.example") != address_hash("ada@two.example")
    assert -(2**63) <= address_hash(ADA) < 2**63


def test_a_mail_with_a_code_keeps_no_subject() -> None:
    """The code may be in the subject."""
    assert accepted(category=Category.OTP, subject="Code 123456").subject is None
    assert accepted(subject="Hello").subject == "Hello"


def test_what_is_kept_of_an_outcome() -> None:
    """The reply and the reasons are kept, and nothing that is absent."""
    kept = outcome(EmailBounced, reply_class=ReplyClass.MAILBOX_FULL).outcome

    assert kept.detail == (
        '{"reply_class":"mailbox_full","message_id":"<m-1@shop.example>",'
        '"reply":{"stage":"dot","code":250,"text":"2.0.0 Ok"}}'
    )


def test_an_uncertain_outcome_that_is_tried_again_is_deferred() -> None:
    """The status says whether another outcome follows."""
    held, repeated = outcome(EmailUncertain), outcome(EmailUncertain, retry_after=9)

    assert STATUSES[held.outcome.status] == "uncertain"
    assert STATUSES[repeated.outcome.status] == "deferred"
    assert repeated.outcome.outcome == held.outcome.outcome


def test_the_first_final_outcome_counts_else_the_latest_attempt() -> None:
    """A final outcome is above all others, the earliest above later ones."""
    in_order = [
        waiting(ADA),
        outcome(EmailDeferred, attempt=1).outcome,
        outcome(EmailDeferred, attempt=2, at=AT.replace(minute=50)).outcome,
        outcome(EmailDeferred, attempt=2, at=AT.replace(minute=40)).outcome,
        outcome(EmailBounced, attempt=3, at=AT.replace(minute=55)).outcome,
        outcome(EmailDelivered, attempt=1, at=AT.replace(minute=45)).outcome,
    ]

    ranks = [rank(each) for each in in_order]
    assert ranks == sorted(set(ranks))


@pytest.mark.parametrize("reply_class", list(ReplyClass), ids=str)
def test_every_bounce_has_a_sum(reply_class: ReplyClass) -> None:
    """Permanent is what the next mail meets too; all else but the doubtful is transient."""
    permanent = {"mailbox_unknown", "mailbox_disabled", "domain"}
    kind = "permanent" if reply_class in permanent else "transient"
    kind = "undetermined" if reply_class == "undetermined" else kind

    assert count_name(outcome(EmailBounced, reply_class=reply_class).outcome) == f"bounced_{kind}"


def test_a_deferred_recipient_is_counted_as_waiting() -> None:
    """A sum has the ends of mails, and the rest waits."""
    assert count_name(waiting(ADA)) == "waiting"
    assert count_name(outcome(EmailDeferred).outcome) == "waiting"
    assert count_name(outcome(EmailDelivered).outcome) == "delivered"


def test_a_recipient_is_counted_over_all_by_domain_and_by_each_tag() -> None:
    """A tag is counted by its name, and by name and value."""
    assert list(slices({"kind": "news"}, ADA)) == [
        ("", ""),
        ("domain", "one.example"),
        ("tag", "kind"),
        ("tag", "kind:news"),
    ]
