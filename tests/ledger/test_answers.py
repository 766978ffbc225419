"""Answers made of rows: the facts of a mail, its states and its history."""

from datetime import timedelta
from typing import Any

from services.ledger import answers
from services.ledger.answers import KeptMail, MessageRow
from services.ledger.mails import (
    RecordedOutcome,
    early_outcome,
    first_number,
    milliseconds,
    waiting,
)
from shared.contracts import (
    Category,
    EmailDeferred,
    EmailDelivered,
    EmailDescribed,
    EmailStatus,
    EmailSuppressed,
    EmailUncertain,
    Outcome,
    ReplyClass,
    SuppressionOrigin,
    decode,
    encode,
)
from shared.contracts.ledger import MAX_HISTORY
from tests.ledger.books import ADA, AT, BOB, event

MESSAGE = MessageRow(
    number=first_number(milliseconds(AT)) + 17,
    email_id="m-1",
    client="",
    category=1,
    sender="shop@shop.example",
    subject="Hello",
    list_id=None,
    tags='{"campaign":"spring"}',
    metadata=None,
    size_bytes=1234,
    expires_at=milliseconds(AT) + 1000,
)


def kept(kind: type[Outcome], attempt: int = 1, **more: Any) -> RecordedOutcome:  # noqa: ANN401 -- the fields of an outcome
    """Return an outcome as it is kept."""
    return early_outcome(event(kind, attempt=attempt, **more)).outcome


def described(mail: KeptMail) -> EmailDescribed:
    """Return the answer about a mail, as its asker decodes it."""
    answer = EmailDescribed.model_construct(
        id="q-1", email=answers.record(mail), history=tuple(answers.history(mail))
    )
    read = decode(answer.routing_key, encode(answer))
    assert isinstance(read, EmailDescribed)
    return read


def test_a_mail_has_its_facts_and_states() -> None:
    """The facts come back as they were recorded; the Message-ID comes with the first outcome."""
    email = described(KeptMail(MESSAGE, [kept(EmailDelivered), waiting(BOB)])).email

    assert email is not None
    assert (email.email_id, email.client, email.category) == ("m-1", None, Category.TRANSACTIONAL)
    assert (email.from_, email.subject, email.size_bytes) == ("shop@shop.example", "Hello", 1234)
    assert (email.tags, email.metadata) == ({"campaign": "spring"}, {})
    assert email.accepted_at == AT
    assert email.expires_at == AT + timedelta(seconds=1)
    assert email.message_id == "<m-1@shop.example>"
    ada, bob = email.recipients
    assert (ada.status, ada.attempts) == (EmailStatus.DELIVERED, 1)
    assert ada.at == AT + timedelta(seconds=1)
    assert ada.reply is not None
    assert ada.reply.code == 250
    assert (bob.status, bob.attempts, bob.at) == (EmailStatus.WAITING, 0, None)
    assert described(KeptMail(MESSAGE, [waiting(BOB)])).email.message_id is None  # type: ignore[union-attr] # it is there


def test_a_history_has_each_outcome_once_and_the_oldest_first() -> None:
    """An earlier copy of the outcome that counts is left out, and waiting is no outcome."""
    deferred = kept(EmailDeferred, 1, reply_class=ReplyClass.TEMPORARY, retry_after=15)
    delivered = kept(EmailDelivered, 2)
    copy = delivered._replace(at=delivered.at + 5)
    mail = KeptMail(MESSAGE, [delivered, waiting(BOB)], [copy, deferred])

    first, second = described(mail).history

    assert (first.status, first.attempt, first.retry_after) == (EmailStatus.DEFERRED, 1, 15)
    assert first.reply_class is ReplyClass.TEMPORARY
    assert (second.status, second.attempt, second.recipient) == (EmailStatus.DELIVERED, 2, ADA)


def test_an_uncertain_outcome_that_is_tried_again_is_shown_as_it_was() -> None:
    """The state is deferred, since another attempt follows, and the history says uncertain."""
    answer = described(KeptMail(MESSAGE, [kept(EmailUncertain, retry_after=15)]))

    assert answer.email is not None
    assert answer.email.recipients[0].status is EmailStatus.DEFERRED
    assert [each.status for each in answer.history] == [EmailStatus.UNCERTAIN]


def test_a_suppressed_mail_has_its_reason() -> None:
    """The reason begins with the origin of the entry that stopped the mail."""
    outcome = kept(
        EmailSuppressed, origin=SuppressionOrigin.BOUNCE, reason="550 no such user", reply=None
    )
    answer = described(KeptMail(MESSAGE, [outcome]))

    assert answer.email is not None
    assert answer.email.recipients[0].reason == "bounce: 550 no such user"


def test_a_long_history_has_the_newest_outcomes() -> None:
    """An answer holds so many outcomes, the newest of them."""
    earlier = [kept(EmailDeferred, attempt) for attempt in range(1, MAX_HISTORY + 10)]
    mail = KeptMail(MESSAGE, [kept(EmailDelivered, MAX_HISTORY + 10)], earlier)

    history = answers.history(mail)

    assert len(history) == MAX_HISTORY
    assert history[-1].status is EmailStatus.DELIVERED
