"""A dead letter tells its story, whoever gave it up, and knows its way back."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from shared import dead_letter, delivery
from shared.delivery import Delivery
from shared.identity import Identity

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


def test_reads_what_the_seam_wrote() -> None:
    """The headers of our own dead letters come back as they were meant."""
    died = delivery.dead(replace(LAIN, queue="sender.bulk"), "rejected", "no such class", MOMENT)

    read = dead_letter.read(LAIN, died.headers)

    assert (read.cause, read.reason) == ("rejected", "no such class")
    assert (read.origin, read.died_at) == ("sender.bulk", MOMENT)


def test_reads_what_the_broker_wrote() -> None:
    """The last death counts: a message that once waited in the ladder did not die there."""
    read = dead_letter.read(
        LAIN, {"x-death": [RETURNED, WAITED], "x-first-death-queue": "delay.5s"}
    )

    assert (read.cause, read.origin, read.died_at) == ("delivery_limit", "sender.bulk", MOMENT)


def test_what_nobody_has_read_was_too_large() -> None:
    """Our consumers have the broker reject one thing alone, so the reason is known."""
    read = dead_letter.read(LAIN, {"x-death": [RETURNED | {"reason": "rejected"}]})

    assert (read.cause, read.reason) == ("rejected", dead_letter.TOO_LARGE_REASON)


def test_the_brokers_word_goes_before_a_publishers() -> None:
    """Headers like ours on a command that the broker gave up are somebody's invention."""
    read = dead_letter.read(
        LAIN, {"x-death": [RETURNED], "x-cause": "x", "x-origin": "otp.commands"}
    )

    assert (read.cause, read.origin) == ("delivery_limit", "sender.bulk")


def test_a_message_without_a_type_keeps_the_key_it_came_with() -> None:
    """The key stands for a missing type, and a death changes the key."""
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
    """A letter with no story, or a garbled one, is still a letter."""
    read = dead_letter.read(LAIN, headers)

    assert (read.cause, read.origin, read.died_at) == ("unknown", None, None)


def test_goes_back_as_it_came_with_all_attempts_anew() -> None:
    """A replay is the same message, to the same queue, and waited for by nobody."""
    back = dead_letter.replay(dead_letter.read(LAIN, {"x-origin": "sender.bulk"}))

    assert (back.exchange, back.routing_key) == ("", "sender.bulk")
    assert (back.type, back.body) == (LAIN.type, LAIN.body)
    assert (back.message_id, back.correlation_id, back.reply_to) == ("m-1", "c-1", None)
    assert back.headers == {"traceparent": "00-1-2-01", "x-user": "shop", "x-attempt": 1}
    assert back.mandatory
    assert back.persistent


def test_nowhere_to_go_back_to() -> None:
    """A letter of unknown origin is not sent anywhere."""
    with pytest.raises(ValueError, match="is unknown"):
        dead_letter.replay(dead_letter.read(LAIN, {}))
