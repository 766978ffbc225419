"""Dead letters: their cause by the headers of a service or of the broker, and their replay."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from shared import dead_letter, delivery
from shared.delivery import Delivery
from shared.identity import Identity
from shared.retry import DELAYS

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LAIN = Delivery(
    queue="sender.bulk.dead",
    type="email.send.bulk",
    body=b'{"id": "m-1"}',
    message_id="m-1",
    correlation_id="c-1",
    reply_to="amq.rabbitmq.reply-to.x",
    attempt=3,
    trace={"traceparent": "00-1-2-01"},
    publisher=Identity("shop", is_copy=True),
)
WAITED = {"queue": "delay.5s", "reason": "expired", "routing-keys": ["sender.bulk"]}
RETURNED = {
    "queue": "sender.bulk",
    "reason": "delivery_limit",
    "routing-keys": ["email.send.bulk"],
    "time": MOMENT,
}


def test_the_headers_of_a_service_are_read() -> None:
    """Cause, reason, origin and time are read as a service wrote them."""
    died = delivery.dead(replace(LAIN, queue="sender.bulk"), "rejected", "no such class", MOMENT)

    read = dead_letter.read(LAIN, died.headers)

    assert (read.cause, read.reason) == ("rejected", "no such class")
    assert (read.origin, read.died_at) == ("sender.bulk", MOMENT)


def test_the_headers_of_the_broker_are_read() -> None:
    """The newest entry of `x-death` counts, not that of a delay queue from before."""
    read = dead_letter.read(
        LAIN, {"x-death": [RETURNED, WAITED], "x-first-death-queue": "delay.5s"}
    )

    assert (read.cause, read.origin, read.died_at) == ("delivery_limit", "sender.bulk", MOMENT)


def test_a_message_that_a_consumer_rejected_was_not_read() -> None:
    """Consumers reject only what is too large or unreadable, so the reason is known."""
    read = dead_letter.read(LAIN, {"x-death": [RETURNED | {"reason": "rejected"}]})

    assert (read.cause, read.reason) == ("rejected", dead_letter.UNREAD_REASON)


def test_the_broker_s_headers_go_before_a_publisher_s() -> None:
    """A message that the broker gave up may have forged headers of a service: they do not count."""
    read = dead_letter.read(
        LAIN, {"x-death": [RETURNED], "x-cause": "x", "x-origin": "otp.commands"}
    )

    assert (read.cause, read.origin) == ("delivery_limit", "sender.bulk")


def test_a_message_without_a_type_keeps_its_first_key() -> None:
    """The routing key stands for a missing type, and dead-lettering changes the key."""
    read = dead_letter.read(replace(LAIN, type="sender.bulk"), {"x-death": [RETURNED]})

    assert read.delivery.type == "email.send.bulk"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-death": []},
        {"x-death": "sender.bulk"},
        {"x-death": ["sender.bulk"]},
        {"x-cause": 7, "x-origin": b"sender.bulk", "x-died-at": "yesterday"},
        {"x-died-at": "2026-01-02T03:04:05"},
    ],
)
def test_what_cannot_be_read_is_unknown(headers: dict[str, object]) -> None:
    """A dead letter without readable headers has an unknown cause."""
    read = dead_letter.read(LAIN, headers)

    assert (read.cause, read.origin, read.died_at) == ("unknown", None, None)


def test_a_replay_is_the_same_message_at_its_first_attempt() -> None:
    """A replay goes to the same queue, unchanged, without `reply_to`."""
    back = dead_letter.replay(dead_letter.read(LAIN, {"x-origin": "sender.bulk"}))

    assert (back.exchange, back.routing_key) == ("", "sender.bulk")
    assert (back.type, back.body) == (LAIN.type, LAIN.body)
    assert (back.message_id, back.correlation_id, back.reply_to) == ("m-1", "c-1", None)
    assert back.headers == {"traceparent": "00-1-2-01", "x-user": "shop", "x-attempt": 1}
    assert back.mandatory
    assert back.persistent


def test_a_replay_by_a_delay_comes_back_to_the_same_queue() -> None:
    """A delay's exchange, one of its own for codes, routes by the name of the queue."""
    mail = dead_letter.replay(dead_letter.read(LAIN, {"x-origin": "sender.bulk"}), DELAYS[0])
    code = dead_letter.replay(dead_letter.read(LAIN, {"x-origin": "sender.otp"}), DELAYS[0])

    assert (mail.exchange, mail.routing_key) == ("delay.5s", "sender.bulk")
    assert (code.exchange, code.routing_key) == ("delay.5s.codes", "sender.otp")


def test_an_unknown_origin_cannot_be_replayed() -> None:
    """A dead letter of unknown origin is an error and is not published."""
    with pytest.raises(ValueError, match="is unknown"):
        dead_letter.replay(dead_letter.read(LAIN, {}))


@pytest.mark.parametrize(
    ("queue", "cause", "is_mail"),
    [
        ("sender.bulk.dead", "exhausted", True),
        ("sender.otp.dead", "rejected", True),
        ("sender.bulk.dead", dead_letter.UNDECODABLE, False),
        ("ledger.mail.dead", "exhausted", False),
        ("webhooks.events.dead", "exhausted", False),
    ],
)
def test_a_mail_of_a_sender_has_no_outcome_without_its_letter(
    queue: str, cause: str, is_mail: object
) -> None:
    """The ledger knows no message that cannot be decoded, and its copies are not sent."""
    letter = dead_letter.DeadLetter(replace(LAIN, queue=queue), cause, "", None, None)

    assert dead_letter.is_mail(letter) is is_mail
