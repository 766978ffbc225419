"""The publishings of a delivery: its results, its copies, its answers."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from shared import delivery, topology
from shared.contracts import (
    Answer,
    Contract,
    DomainDescribed,
    Question,
    decode,
    encode,
)
from shared.delivery import Delivery, Jitter, dead, failed, finished, publishing
from shared.errors import Undecodable
from shared.identity import USER, Identity
from shared.retry import DELAYS, MAX_ATTEMPTS, Reschedule
from tests.shared.golden.examples import EXAMPLES

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)
JITTER = Jitter(chance=0.5, turn=0.99)  # no spread, and the shorter of the two delays around a wait
SEND, DELIVERED = EXAMPLES[:2]
CODE = next(each for each in EXAMPLES if type(each).__name__ == "VerifyCode")
ANSWER = next(each for each in EXAMPLES if isinstance(each, DomainDescribed))
PUBLISHED = [each for each in EXAMPLES if not isinstance(each, Answer)]
TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
HERE = Delivery(
    queue="sender.bulk",
    type="email.send.bulk",
    body=encode(SEND),
    message_id=SEND.id,
    correlation_id="c1",
    reply_to=None,
    attempt=1,
    trace=TRACE,
    publisher=Identity("gateway", names_clients=True),
)
COPIED = {**TRACE, USER: "gateway"}  # headers of a copy
ASKED = replace(HERE, reply_to="shop.replies")


def test_a_delivery_has_one_of_the_expected_contracts() -> None:
    """An unknown type and a contract of another queue are undecodable."""
    assert delivery.contract(HERE, (type(CODE), type(SEND))) == SEND
    with pytest.raises(Undecodable, match="has no handler for"):
        delivery.contract(HERE, (type(CODE),))
    with pytest.raises(Undecodable, match="JSON"):
        delivery.contract(replace(HERE, body=b"{"), (type(SEND),))


def test_a_message_with_a_forbidden_reply_to_is_undecodable() -> None:
    """It is refused before it is handled, and its dead letter has no `reply_to`."""
    poison = replace(HERE, reply_to="delay.5s")

    with pytest.raises(Undecodable, match=r"reply_to: 'delay\.5s'"):
        delivery.contract(poison, (type(SEND),))
    assert dead(poison, "undecodable", "reply_to", AT).reply_to is None


@pytest.mark.parametrize("message", PUBLISHED, ids=lambda message: type(message).__name__)
def test_a_publishing_has_the_type_and_id_of_its_message(message: Contract) -> None:
    """Type and body together are all that a reader needs; the id is the message's own."""
    made = publishing(message)

    assert decode(made.type, made.body) == message
    assert made.type == message.routing_key
    assert made.routing_key == topology.routing_key(message)
    assert made.message_id == made.correlation_id == message.id
    assert made.mandatory is message.must_arrive
    assert made.persistent is not isinstance(message, Question)
    assert made.exchange == topology.exchange_of(message)


def test_an_answer_has_no_exchange() -> None:
    """An answer goes to its asker alone, never to an exchange."""
    with pytest.raises(TypeError, match="DomainDescribed"):
        publishing(ANSWER)


def test_results_keep_the_correlation_id_and_the_trace() -> None:
    """Every result has the correlation id and the trace of the delivery."""
    made = finished(HERE, [DELIVERED, SEND], lambda: JITTER)

    assert [item.type for item in made] == [DELIVERED.routing_key, SEND.routing_key]
    assert {item.correlation_id for item in made} == {"c1"}
    assert all(item.headers == TRACE for item in made)
    assert all(item.reply_to is None for item in made)


def test_nothing_returned_is_nothing_published() -> None:
    """A handler may return nothing."""
    assert finished(ASKED, [], lambda: JITTER) == []


def test_the_asker_gets_copies_of_events_and_answers() -> None:
    """Events go to their exchange, and then to the asker; an answer goes to the asker alone."""
    made = finished(ASKED, [ANSWER, DELIVERED, SEND], lambda: JITTER)

    assert [(item.exchange, item.routing_key) for item in made] == [
        (topology.EVENTS, "email.delivered"),
        (topology.exchange_of(SEND), topology.routing_key(SEND)),
        ("", ASKED.reply_to),
        ("", ASKED.reply_to),
    ]
    assert [item.type for item in made[2:]] == ["domain.described", "email.delivered"]


def test_without_an_asker_an_answer_goes_nowhere() -> None:
    """The answer to a question without `reply_to` is dropped."""
    assert finished(HERE, [ANSWER], lambda: JITTER) == []


def test_a_reply_is_never_mandatory() -> None:
    """Brokers before 4.2 return it as unroutable although it arrived."""
    [made] = finished(ASKED, [ANSWER], lambda: JITTER)

    assert not made.mandatory
    assert not made.persistent
    assert made.correlation_id == ASKED.correlation_id
    assert decode(made.type, made.body) == ANSWER


def test_a_rescheduled_message_comes_back_to_its_queue() -> None:
    """A rescheduled message waits with a fresh count, and keeps its reply address."""
    request = Reschedule(SEND.model_copy(update={"id": "m2", "attempt": 3}), seconds=60)

    (made,) = finished(replace(ASKED, attempt=4), [request], lambda: JITTER)

    assert (made.exchange, made.routing_key) == ("delay.1m", ASKED.queue)
    assert made.headers == {**COPIED, delivery.ATTEMPT: 1}
    assert made.message_id == "m2"
    assert decode(made.type, made.body) == request.message
    assert made.reply_to == ASKED.reply_to
    assert made.mandatory
    assert made.persistent


@pytest.mark.parametrize("attempt", range(1, MAX_ATTEMPTS))
def test_a_failure_comes_again(attempt: int) -> None:
    """The copy has the same body and goes back to its queue, with the next attempt."""
    made = failed(replace(ASKED, attempt=attempt), "broken", None, JITTER, AT)

    assert made.exchange in {delay.name for delay in DELAYS}
    assert made.headers == {**COPIED, delivery.ATTEMPT: attempt + 1}
    assert (made.routing_key, made.body, made.type, made.message_id) == (
        ASKED.queue,
        ASKED.body,
        ASKED.type,
        ASKED.message_id,
    )
    assert made.reply_to == ASKED.reply_to
    assert made.mandatory
    assert made.persistent


@pytest.mark.parametrize("queue", ["sender.otp", "otp.commands"])
def test_codes_wait_apart(queue: str) -> None:
    """A queue that others have filled does not hold up the delay queues of codes."""
    made = failed(replace(HERE, queue=queue), "busy", 900, JITTER, AT)

    assert (made.exchange, made.routing_key) == ("delay.15m.codes", queue)
    assert made.exchange in topology.DELAY_EXCHANGES


def test_a_requested_delay_is_used() -> None:
    """The delay that a handler requests gets the nearest delay queue."""
    assert failed(HERE, "busy", 900, JITTER, AT).exchange == "delay.15m"


def test_the_last_failure_is_a_dead_letter() -> None:
    """After the last attempt the message is a dead letter with the reason of that attempt."""
    made = failed(replace(HERE, attempt=MAX_ATTEMPTS), "broken", 5.0, JITTER, AT)

    assert made.exchange == topology.DEAD
    assert made.headers[delivery.CAUSE] == "exhausted"
    assert made.headers[delivery.REASON] == "broken"


def test_a_dead_letter_has_its_cause_in_its_headers() -> None:
    """Cause, reason, origin, attempts and time are in the headers; the message is untouched."""
    made = dead(replace(HERE, attempt=3), "rejected", "no such template", AT)

    assert made.headers == {
        **COPIED,
        delivery.CAUSE: "rejected",
        delivery.REASON: "no such template",
        delivery.ORIGIN: "sender.bulk",
        delivery.ATTEMPT: 3,
        delivery.DIED_AT: "2026-11-21T12:00:00+00:00",
    }
    assert (made.exchange, made.routing_key) == (topology.DEAD, "sender.bulk")
    assert (made.type, made.body, made.message_id) == (HERE.type, HERE.body, HERE.message_id)
    assert made.mandatory
    assert made.persistent


def test_a_reason_is_cut() -> None:
    """A reason is cut to MAX_REASON_BYTES: the broker keeps headers in memory."""
    made = dead(HERE, "rejected", "x" * 10**6, AT)

    assert made.headers[delivery.REASON] == "x" * delivery.MAX_REASON_BYTES


def test_a_reason_that_is_no_text_can_be_sent() -> None:
    """Surrogates in a reason are replaced: a header that cannot be sent would fail for ever."""
    made = dead(HERE, "rejected", "550 caf\udce9", AT)

    assert made.headers[delivery.REASON] == "550 caf?"


def test_no_body_is_in_the_text_of_a_delivery() -> None:
    """The body, which may be a code or a mail, is not in tracebacks and log lines."""
    assert "body" not in repr(replace(HERE, body=encode(CODE)))
    assert "body" not in repr(publishing(CODE))
