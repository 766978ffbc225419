"""Tests of when a relay that does not serve us is tried again."""

import pytest

from services.sender import outcome
from services.sender.outcome import FailureReason
from services.sender.schedule import Backoff, RetrySchedule
from services.sender.smtp.circuit_breaker import (
    MAX_SENDERS,
    REFUSED_SECONDS,
    CircuitBreaker,
    SenderRefusals,
)
from shared.contracts import EmailDeferred, EmailFailed, Outcome, Reply, ReplyClass, Stage
from shared.replies import reply as replies
from tests.sender.commands import NOW, a_command

MIDDLE = 0.5  # the chance that spreads nothing


def a_breaker() -> CircuitBreaker:
    """Return the breaker of a relay with pauses of 5, 10, 20 and at most 30 seconds."""
    return CircuitBreaker(Backoff(5, 30))


def failed(breaker: CircuitBreaker, now: float, times: int) -> float:
    """Record a failure after each pause, and return the end of the last one."""
    for _ in range(times):
        now += breaker.wait(now)
        breaker.begin()
        breaker.failed(now, MIDDLE)
        breaker.end()
    return now + breaker.wait(now)


def test_fresh() -> None:
    """A relay without a history is tried at once."""
    assert a_breaker().wait(0) == 0


@pytest.mark.parametrize(("times", "end"), [(1, 5), (2, 15), (3, 35), (4, 65), (5, 95)])
def test_doubling(times: int, end: float) -> None:
    """Each pause is twice as long as the last one, up to the longest."""
    assert failed(a_breaker(), 0, times) == end


def test_never_too_long() -> None:
    """A relay that is away for ever is tried for ever, once in the longest pause."""
    breaker = a_breaker()
    before = failed(breaker, 0, 2000)

    assert failed(breaker, before, 1) == before + 30


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, 3.75), (0.999999, 6.25)])
def test_spread(chance: float, seconds: float) -> None:
    """Replicas that failed at once do not come back at once."""
    breaker = a_breaker()
    breaker.failed(100, chance)

    assert breaker.wait(100) == pytest.approx(seconds, abs=0.001)


def test_side_by_side() -> None:
    """Attempts that fail at the same time are one failure."""
    breaker = a_breaker()

    assert [breaker.failed(1, MIDDLE) for _ in range(3)] == [True, False, False]
    assert breaker.wait(1) == 5


def test_half_open() -> None:
    """After a pause one attempt is let through; the others wait for its end."""
    breaker = a_breaker()
    breaker.failed(0, MIDDLE)
    breaker.begin()

    assert breaker.wait(5) == 5
    breaker.end()
    assert breaker.wait(5) == 0


def test_served_again() -> None:
    """One success ends the history of failures."""
    breaker = a_breaker()
    failed(breaker, 0, 3)
    breaker.succeeded()
    breaker.begin()

    assert breaker.wait(0) == 0
    assert failed(breaker, 0, 1) == 5


def test_doubts() -> None:
    """A refusal that may be caused by one mail counts if the next mail is refused too."""
    breaker = a_breaker()

    assert not breaker.doubted(0, MIDDLE)
    breaker.succeeded()
    assert not breaker.doubted(0, MIDDLE)
    assert breaker.doubted(0, MIDDLE)
    assert breaker.wait(0) == 5


@pytest.mark.parametrize(("failures", "seconds"), [(0, 5), (1, 10), (3, 40), (4, 60), (10**6, 60)])
def test_backoff(failures: int, seconds: float) -> None:
    """Each wait is twice the one before, up to the longest, after any number of failures."""
    assert Backoff(5, 60).after(failures) == seconds


SCHEDULE = RetrySchedule(first=15, longest=3600, give_up=86_400, retries_uncertain=True)
ANNA, BEN, EVE = "anna@our.example", "ben@our.example", "eve@our.example"


def a_memory(*taken: str) -> SenderRefusals:
    """Return the history of a relay that accepted these senders."""
    senders = SenderRefusals()
    for each in taken:
        senders.accepted(each, 0)
    return senders


def test_made_up_senders() -> None:
    """Refusals of senders that the relay never accepted make it not suspect, however many."""
    for senders in (a_memory(), a_memory(ANNA), a_memory(ANNA, BEN)):
        for number in range(100):
            assert not senders.refused(f"{number}@evil.example", 1)
            assert not senders.suspects(f"{number}@evil.example")
        assert not senders.suspicious


def test_one_of_many() -> None:
    """One sender that is refused suddenly does not make the relay suspect."""
    senders = a_memory(ANNA, BEN, EVE)

    assert not senders.refused(ANNA, 1)
    assert not senders.refused(ANNA, 2)
    assert senders.suspects(ANNA)
    assert not senders.suspects("new@our.example")


def test_several() -> None:
    """A relay that refuses several senders that it accepted before is suspect."""
    senders = a_memory(ANNA, BEN, EVE)

    assert [senders.refused(each, 1) for each in (ANNA, BEN, EVE)] == [False, True, True]
    assert senders.suspects("new@our.example")
    assert not senders.refused("new@our.example", 1)


def test_the_only_one() -> None:
    """The refusal of the only sender makes the relay suspect."""
    assert a_memory(ANNA).refused(ANNA, 1)


def test_taken_since() -> None:
    """A relay that accepts a sender after it refused another is not suspect."""
    senders = a_memory(ANNA, BEN)
    senders.refused(ANNA, 1)
    senders.accepted(BEN, 2)

    assert not senders.suspects(ANNA)
    assert not senders.refused(ANNA, 3)
    senders.accepted(ANNA, 4)
    assert senders.suspects(ANNA)


def test_taken_side_by_side() -> None:
    """An acceptance in an attempt that began before the refusal ends no suspicion."""
    senders = a_memory(ANNA, BEN)
    senders.refused(ANNA, 2)
    senders.accepted(BEN, 1)

    assert senders.suspects(ANNA)
    assert senders.refused(BEN, 3)


def test_a_flood_does_not_hide_it() -> None:
    """The time of a sender's first refusal counts: later refusals do not renew the suspicion."""
    senders = a_memory(ANNA, BEN, EVE)
    senders.refused(ANNA, 1)
    senders.refused(BEN, 1)
    senders.refused(ANNA, 3)
    senders.accepted(EVE, 2)

    assert not senders.suspicious


def test_declined() -> None:
    """Only a sender that was refused twice in a row goes to other relays for a while."""
    senders = a_memory(BEN)
    for now in (0, 1):
        assert not senders.avoids(ANNA, now)
        senders.refused(ANNA, now)

    assert senders.avoids(ANNA, 2)
    assert not senders.avoids(BEN, 2)
    assert not senders.avoids(ANNA, 2 + REFUSED_SECONDS)
    senders.accepted(ANNA, 3)
    assert not senders.avoids(ANNA, 4)


def test_bounded() -> None:
    """Any number of senders, accepted or refused, needs bounded memory; the latest are kept."""
    senders = a_memory(ANNA)
    for number in range(MAX_SENDERS + 10):
        senders.accepted(f"good{number}", 1)
        senders.refused(f"bad{number}", 1)

    assert not senders.suspects(ANNA)
    assert senders.suspects(f"good{MAX_SENDERS}")
    assert len(senders._accepted) == len(senders._refused) == MAX_SENDERS


SENDER_REFUSALS = [
    (553, "5.7.1 <eve@our.example>: Sender address rejected: not owned by auth user"),
    (550, "5.7.1 As this address asks for"),
    (550, "5.7.1"),
    (550, "5.1.8 <eve@nowhere.example>: Sender address rejected: Domain not found"),
    (501, "5.1.7 Bad sender address syntax"),
    (550, "5.7.26 This mail is unauthenticated"),
    (550, "5.7.60 SMTP; Client does not have permissions to send as this sender"),
    (550, "No"),
]


def settle(reply: Reply, *, suspected: bool = False) -> Outcome:
    """Return the event of a mail to one recipient."""
    heard = {"anna@x.example": reply}
    (event,) = outcome.Attempt(a_command(), NOW, suspected=suspected).settle(heard, SCHEDULE).events
    return event


@pytest.mark.parametrize(("code", "text"), SENDER_REFUSALS)
def test_refused_sender(code: int, text: str) -> None:
    """A mail whose sender is refused fails, for any reason: the refusal concerns it alone."""
    event = settle(replies.received(Stage.MAIL, code, text))

    assert isinstance(event, EmailFailed)
    assert (event.reason, event.reply_class) == (
        FailureReason.SENDER_REFUSED,
        ReplyClass.AUTH_SENDER,
    )


@pytest.mark.parametrize(("code", "text"), SENDER_REFUSALS)
def test_suspected_relay(code: int, text: str) -> None:
    """While the relay may be the cause of a refusal the mail is deferred."""
    event = settle(replies.received(Stage.MAIL, code, text), suspected=True)

    assert isinstance(event, EmailDeferred)


@pytest.mark.parametrize(
    ("code", "text", "found"),
    [
        (552, "5.3.4 Message size exceeds fixed limit", ReplyClass.TOO_BIG),
        (555, "5.5.4 Unsupported option: SIZE", ReplyClass.PROTOCOL),
    ],
)
def test_words_of_another_cause_at_mail(code: int, text: str, found: ReplyClass) -> None:
    """A reply at MAIL whose words have another cause is classified by that."""
    event = settle(replies.received(Stage.MAIL, code, text))

    assert isinstance(event, EmailFailed)
    assert event.reply_class is found


def test_blocked() -> None:
    """A block at MAIL is about all senders: their mail is deferred."""
    event = settle(replies.received(Stage.MAIL, 554, "5.7.1 Client host [192.0.2.7] blocked"))

    assert isinstance(event, EmailDeferred)
    assert event.reply_class is ReplyClass.SPAM_BLOCK
