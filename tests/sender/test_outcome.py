"""Tests of what the replies of an attempt mean for the mail."""

from datetime import timedelta

import pytest

from services.sender import outcome
from services.sender.outcome import Attempt, AttemptResult, FailureReason
from services.sender.schedule import RetrySchedule
from shared.contracts import (
    Category,
    EmailBounced,
    EmailDeferred,
    EmailDelivered,
    EmailExpired,
    EmailFailed,
    EmailUncertain,
    NotAccepted,
    Outcome,
    Reply,
    ReplyClass,
    SendEmail,
    Stage,
    decode,
    encode,
)
from shared.replies import reply as replies
from shared.retry import Reschedule
from tests.sender.commands import NOW, a_command

ANNA, BEN, EVE = "anna@x.example", "ben@x.example", "eve@x.example"
SCHEDULE = RetrySchedule(first=15, longest=3600, give_up=86_400, retries_uncertain=True)
HOLDING = RetrySchedule(first=15, longest=3600, give_up=86_400, retries_uncertain=False)
LATE = NOW + timedelta(days=2)

ACCEPTED = replies.received(Stage.DOT, 250, "2.0.0 Queued")
LOST_AFTER_DOT = replies.no_reply(Stage.DOT, "connection lost")


def settle(
    reply: Reply, command: SendEmail | None = None, schedule: RetrySchedule = SCHEDULE
) -> tuple[Outcome, Reschedule | None]:
    """Return the event for anna and the next attempt, if any."""
    asked = command or a_command()
    (event,) = Attempt(asked, NOW).settle({ANNA: reply}, schedule).events
    later = outcome.next_attempts(asked, [event])
    assert len(later) <= 1
    return event, later[0] if later else None


@pytest.mark.parametrize(
    ("stage", "code", "text", "kind"),
    [
        (Stage.CONNECT, 421, "Busy", EmailDeferred),
        (Stage.CONNECT, 554, "5.7.1 Blocked", EmailDeferred),
        (Stage.EHLO, 550, "5.7.1 Blocked", EmailDeferred),
        (Stage.TLS, 454, "No TLS now", EmailDeferred),
        (Stage.AUTH, 535, "5.7.8 No", EmailDeferred),
        (Stage.AUTH, 454, "4.7.0 No", EmailDeferred),
        (Stage.MAIL, 451, "", EmailDeferred),
        (Stage.MAIL, 530, "5.7.0 Log in", EmailDeferred),
        (Stage.MAIL, 550, "5.1.1 Not you", EmailFailed),
        (Stage.RCPT, 450, "4.2.0 Greylisted", EmailDeferred),
        (Stage.RCPT, 452, "4.5.3 Too many", EmailDeferred),
        (Stage.RCPT, 552, "5.5.3 Too many", EmailDeferred),
        (Stage.RCPT, 552, "5.2.2 Full", EmailBounced),
        (Stage.RCPT, 550, "5.1.1 No such user", EmailBounced),
        (Stage.DATA, 451, "", EmailDeferred),
        (Stage.DATA, 554, "", EmailBounced),
        (Stage.DATA, 250, "This is no answer to DATA", EmailDeferred),
        (Stage.DOT, 452, "", EmailDeferred),
        (Stage.DOT, 554, "5.7.1 Spam", EmailBounced),
        (Stage.DOT, 250, "2.0.0 Queued", EmailDelivered),
        (Stage.DOT, 999, "", EmailDeferred),
        (Stage.DOT, 354, "", EmailDeferred),
    ],
)
def test_replies(stage: Stage, code: int, text: str, kind: type[Outcome]) -> None:
    """Each reply leads to one kind of event, and only a deferred mail is tried again."""
    reply = replies.received(stage, code, text)

    event, again = settle(reply)

    assert type(event) is kind
    assert event.reply == reply
    assert (again is not None) is (kind is EmailDeferred)


@pytest.mark.parametrize("stage", [stage for stage in Stage if stage is not Stage.DOT])
def test_lost_before_the_dot(stage: Stage) -> None:
    """A connection that is lost before the dot means a deferral, not uncertainty."""
    event, again = settle(replies.no_reply(stage, "connection lost"))

    assert isinstance(event, EmailDeferred)
    assert again is not None


def test_lost_after_the_dot() -> None:
    """When the reply to the dot is lost the mail is uncertain: tried again or not, by class."""
    event, again = settle(LOST_AFTER_DOT)
    held, never = settle(LOST_AFTER_DOT, schedule=HOLDING)

    assert isinstance(event, EmailUncertain)
    assert (event.retry_after, event.final) == (15, False)
    assert again is not None
    assert isinstance(held, EmailUncertain)
    assert (held.retry_after, held.final) == (None, True)
    assert never is None


def test_uncertain_at_the_end() -> None:
    """A mail that may have arrived is uncertain, never expired."""
    event, again = settle(LOST_AFTER_DOT, a_command(created_at=NOW - timedelta(days=2)))

    assert isinstance(event, EmailUncertain)
    assert event.final
    assert again is None


def test_classes() -> None:
    """Each refusal has a class and its rule; a refusal of the mail blames none of several."""
    refusal = replies.received(Stage.DOT, 550, "5.1.1 No such user")
    deferred, _ = settle(replies.received(Stage.RCPT, 450, "4.2.0 Greylisted"))
    bounced, _ = settle(refusal)
    among_others, _ = settle(refusal, a_command(ANNA, BEN))

    told = [each for each in (deferred, bounced, among_others) if isinstance(each, NotAccepted)]
    assert [each.reply_class for each in told] == [
        ReplyClass.TEMPORARY,
        ReplyClass.MAILBOX_UNKNOWN,
        ReplyClass.UNDETERMINED,
    ]
    assert all(each.rule for each in told)


@pytest.mark.parametrize(
    ("host", "found"),
    [("mta5.am0.yahoodns.net", ReplyClass.AUTH_SENDER), ("mx.x.example", ReplyClass.POLICY)],
)
def test_the_server_s_name_decides_ambiguous_words(host: str, found: ReplyClass) -> None:
    """The name of the server determines the meaning of words that other providers use too."""
    reply = replies.received(Stage.DOT, 554, "5.7.9 Message not accepted for policy reasons")

    (event,) = Attempt(a_command(), NOW, host=host).settle({ANNA: reply}, SCHEDULE).events

    assert isinstance(event, NotAccepted)
    assert event.reply_class is found


@pytest.mark.parametrize(
    ("code", "reason"), [(550, FailureReason.SENDER_REFUSED), (552, FailureReason.TOO_BIG)]
)
def test_reasons(code: int, reason: FailureReason) -> None:
    """A refusal of MAIL is a failure with a reason, no bounce."""
    event, _ = settle(replies.received(Stage.MAIL, code, ""))

    assert isinstance(event, EmailFailed)
    assert event.reason == reason


def test_next_attempt() -> None:
    """The next attempt is the command for the deferred recipients, with the mail's age."""
    command = a_command(ANNA, BEN, EVE)
    greylisted = replies.received(Stage.RCPT, 451, "4.7.1 Later")
    unknown = replies.received(Stage.RCPT, 550, "5.1.1 No")

    heard = {ANNA: ACCEPTED, BEN: greylisted, EVE: unknown}
    events = Attempt(command, NOW).settle(heard, SCHEDULE).events

    assert [type(event) for event in events] == [EmailDelivered, EmailDeferred, EmailBounced]
    assert outcome.next_attempts(command, events) == [
        Reschedule(
            command.model_copy(update={"pending": (BEN,), "attempt": 2, "created_at": NOW}), 15
        )
    ]


def test_the_next_attempt_has_all_that_came_with_the_mail() -> None:
    """Labels, list and invitation are there when a sender reads the next attempt."""
    content = "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR"
    labels = {"tags": ({"name": "a", "value": "b"},), "metadata": {"order": "17"}}
    more = {"list_id": "news", "reply_to": ["a@x.example", "b@x.example"]}
    calendar = {"method": "REQUEST", "content": content}
    command = a_command(ANNA, category=Category.BULK, calendar=calendar, **labels, **more)

    _, later = settle(replies.received(Stage.RCPT, 451, "4.7.1 Later"), command)

    assert later is not None
    changed = {"pending": (ANNA,), "attempt": 2, "created_at": NOW}
    read = decode("email.send.bulk", encode(later.message))
    assert read == command.model_copy(update=changed)


def test_waits_differ() -> None:
    """A recipient waits for as long as its server asks; the others come back together."""
    command = a_command(ANNA, BEN, EVE)
    greylisted = replies.received(Stage.RCPT, 451, "4.7.1 Greylisted, try again in 5 minutes")
    busy = replies.received(Stage.RCPT, 451, "4.3.2 Busy")

    heard = {ANNA: greylisted, BEN: busy, EVE: busy}
    events = Attempt(command, NOW).settle(heard, SCHEDULE).events
    later = outcome.next_attempts(command, events)

    assert [(item.seconds, pending_of(item)) for item in later] == [
        (375, (ANNA,)),
        (15, (BEN, EVE)),
    ]


def pending_of(later: Reschedule) -> tuple[str, ...] | None:
    """Return the recipients of the next attempt."""
    assert isinstance(later.message, SendEmail)
    return later.message.pending


@pytest.mark.parametrize("code", [451, 452, 550, 552])
def test_no_room(code: int) -> None:
    """A recipient without room in a transaction is put off; the others keep their outcomes."""
    full = replies.received(Stage.RCPT, code, f"{code // 100}.5.3 Too many recipients")
    unknown = replies.received(Stage.RCPT, 550, "5.1.1 No such user")

    settlement = Attempt(a_command(ANNA, BEN, EVE), NOW).settle(
        {ANNA: ACCEPTED, BEN: unknown, EVE: full}, SCHEDULE
    )

    assert [type(event) for event in settlement.events] == [EmailDelivered, EmailBounced]
    assert settlement.put_off == (EVE,)


def test_no_room_for_anybody() -> None:
    """When a server has room for no recipient its refusal counts."""
    full = replies.received(Stage.RCPT, 452, "4.5.3 Too many recipients")

    settlement = Attempt(a_command(ANNA, BEN), NOW).settle({ANNA: full, BEN: full}, SCHEDULE)

    assert [type(event) for event in settlement.events] == [EmailDeferred, EmailDeferred]
    assert settlement.put_off == ()


def test_postponed() -> None:
    """A mail that was not attempted is put off, uncounted, unless it would be too late."""
    command = a_command(ANNA, BEN, expires_at=NOW + timedelta(seconds=60))

    in_time = Attempt(command, NOW).postpone(30, SCHEDULE)
    too_late = Attempt(command, NOW).postpone(60, SCHEDULE)

    assert in_time == AttemptResult((), (ANNA, BEN), 30)
    assert [type(event) for event in too_late.events] == [EmailExpired, EmailExpired]


@pytest.mark.parametrize(("retries", "again"), [(0, False), (1, True), (None, True)])
def test_retries(retries: int | None, again: bool) -> None:  # noqa: FBT001 -- a case, not a switch
    """A command may limit its further attempts; the last failed one is final."""
    reply = replies.received(Stage.RCPT, 451, "4.7.1 Later")

    event, later = settle(reply, a_command(retries=retries))
    _, second = settle(reply, a_command(retries=retries, attempt=2))

    assert type(event) is (EmailDeferred if again else EmailExpired)
    assert (later is not None) is again
    assert (second is not None) is (retries is None)


def test_held() -> None:
    """A mail that a dead sender may have sent is uncertain, without a reply, and final."""
    (event,) = Attempt(a_command(), NOW).all_uncertain(a_command().recipients)

    assert isinstance(event, EmailUncertain)
    assert (event.reply, event.final) == (None, True)


def test_waits_grow() -> None:
    """The wait follows from the attempt, and the event has it."""
    event, again = settle(
        replies.no_reply(Stage.CONNECT, "refused"), a_command(attempt=3, created_at=NOW)
    )

    assert isinstance(event, EmailDeferred)
    assert event.retry_after == 60
    assert again is not None
    assert again.seconds == 60


@pytest.mark.parametrize(
    "command",
    [
        a_command(created_at=NOW - timedelta(days=1)),
        a_command(expires_at=NOW + timedelta(seconds=10)),
    ],
)
def test_gives_up(command: SendEmail) -> None:
    """A mail that would be too old at its next attempt expires, with the last reply."""
    reply = replies.received(Stage.RCPT, 451, "4.7.1 Later")

    event, again = settle(reply, command)

    assert isinstance(event, EmailExpired)
    assert event.reply == reply
    assert again is None


def test_expired() -> None:
    """A mail expires exactly at its time, and never without one."""
    command = a_command(ANNA, BEN, expires_at=NOW)

    assert outcome.expired(command, NOW)
    assert not outcome.expired(command, NOW - timedelta(microseconds=1))
    assert not outcome.expired(a_command(), LATE)
    assert [type(event) for event in Attempt(command, NOW).all_expired()] == [EmailExpired] * 2


def test_all_failed() -> None:
    """A mail that cannot be sent fails for all pending recipients."""
    command = a_command(ANNA, BEN, EVE, pending=(BEN, EVE))

    events = Attempt(command, NOW).all_failed(FailureReason.SEAL_BROKEN)

    assert [(type(event), event.recipient) for event in events] == [
        (EmailFailed, BEN),
        (EmailFailed, EVE),
    ]


def test_expired_meanwhile() -> None:
    """A mail whose time ran out before MAIL is expired, also if a relay pool finds it."""
    (event,) = Attempt(a_command(), NOW).all_failed(FailureReason.EXPIRED)

    assert isinstance(event, EmailExpired)


def test_ids() -> None:
    """The id of an event follows from mail, recipient, attempt and kind, not from the time."""
    command = a_command(ANNA, BEN)
    others = (
        a_command(ANNA, BEN, id="mail-2"),
        command.model_copy(update={"attempt": 2}),
    )

    def ids(command: SendEmail, reply: Reply, days: int = 0) -> list[str]:
        at = NOW + timedelta(days=days)
        settlement = Attempt(command, at).settle({ANNA: reply, BEN: reply}, SCHEDULE)
        return [event.id for event in settlement.events]

    event_ids = ids(command, ACCEPTED)
    different = [*(ids(other, ACCEPTED) for other in others), ids(command, LOST_AFTER_DOT)]

    assert ids(command, ACCEPTED, days=1) == event_ids
    assert len({*event_ids, *(each for some in different for each in some)}) == 8


def test_what_an_event_says() -> None:
    """An event has its mail, class, recipient and attempt."""
    event, _ = settle(ACCEPTED, a_command(category=Category.OTP, attempt=2))

    assert (event.email_id, event.category, event.recipient, event.attempt, event.at) == (
        "mail-1",
        Category.OTP,
        ANNA,
        2,
        NOW,
    )


@pytest.mark.parametrize(
    ("category", "kept"),
    [
        (Category.OTP, "5.7.1 a***@x.example: forwarded to b***@y.example, Code: ***"),
        (Category.BULK, "5.7.1 a***@x.example: forwarded to b***@y.example, Code: 123456"),
    ],
)
def test_what_is_kept_of_a_reply(category: Category, kept: str) -> None:
    """Other addresses and codes in replies are masked in events."""
    said = "5.7.1 anna@x.example: forwarded to ben.b@y.example, Code: 123456"

    event, _ = settle(replies.received(Stage.DOT, 550, said), a_command(category=category))

    assert event.reply is not None
    assert event.reply.text == kept
    assert event.reply.enhanced == "5.7.1"


def test_labels_of_the_command() -> None:
    """An outcome has the client, the Message-ID, the tags and the metadata of its mail."""
    command = a_command(client="shop", tags=[{"name": "a", "value": "b"}], metadata={"order": "7"})

    (event,) = Attempt(command, NOW, "<1@our.example>").settle({ANNA: ACCEPTED}, SCHEDULE).events

    assert (event.client, event.message_id) == ("shop", "<1@our.example>")
    assert (event.tags, event.metadata) == (command.tags, command.metadata)


def test_no_labels() -> None:
    """An outcome without tags and metadata does not mention them on the wire."""
    (event,) = Attempt(a_command(), NOW).settle({ANNA: ACCEPTED}, SCHEDULE).events

    assert b"tags" not in encode(event)
    assert b"metadata" not in encode(event)
