"""Pure: a delivery from a queue, and the publishings that follow from its handling.

A handling ends in one of four ways: the handler returned messages, asked for another attempt,
rejected the message, or was cancelled. This module makes the publishings of the first three. A
cancelled handling publishes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from shared import retry, topology
from shared.contracts import Answer, Contract, Event, Question, decode, encode
from shared.errors import Undecodable
from shared.identity import USER, Identity, attributed, check_reply_to

ATTEMPT = "x-attempt"  # from 1; our own count, since RabbitMQ 3.x and 4.x count returns differently
CAUSE = "x-cause"
REASON = "x-reason"
ORIGIN = "x-origin"
DIED_AT = "x-died-at"
# Of the smallest frame that a broker may agree on, 4,096 bytes (AMQP 0-9-1, 4.2.3), all other
# properties of a dead letter take 3,000 at most.
MAX_REASON_BYTES = 1000
UNKNOWN = Identity()
# All other headers stay behind on a copy: a 3.x broker believes a client's `x-death` and drops
# the message as a cycle.
TRACE = ("traceparent", "tracestate")  # W3C Trace Context


@dataclass(frozen=True, slots=True)
class Publishing:
    """A message to be published, with its properties."""

    exchange: str
    routing_key: str
    type: str
    body: bytes = field(repr=False)
    message_id: str
    correlation_id: str
    reply_to: str | None = None
    headers: Mapping[str, str | int] = field(default_factory=dict)
    mandatory: bool = True
    persistent: bool = True
    queue: str | None = None  # that must exist; with `mandatory` alone any queue is enough


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that was delivered from `queue`; `attempt` counts its handlings, from 1."""

    queue: str
    type: str
    body: bytes = field(repr=False)
    message_id: str
    correlation_id: str
    reply_to: str | None
    attempt: int
    trace: Mapping[str, str]
    publisher: Identity = UNKNOWN


@dataclass(frozen=True, slots=True)
class Jitter:
    """Two random numbers, uniform in [0, 1), that spread one delay: see `retry.choose_delay`."""

    chance: float
    turn: float


def contract(delivery: Delivery, kinds: tuple[type[Contract], ...]) -> Contract:
    """Decode the message of a delivery.

    Raises Undecodable when the body is not its contract, when the contract is not one of `kinds`,
    when no reply may go to its `reply_to`, and when its publisher may not name its client.
    """
    if delivery.reply_to:
        check_reply_to(delivery.reply_to, delivery.publisher)
    message = decode(delivery.type, delivery.body, kinds)
    if not isinstance(message, kinds):
        raise Undecodable(f"{delivery.queue} has no handler for {delivery.type}")
    return attributed(message, delivery.publisher)


def publishing(
    message: Contract,
    correlation_id: str | None = None,
    reply_to: str | None = None,
    trace: Mapping[str, str] | None = None,
    body: bytes | None = None,
) -> Publishing:
    """Return the publishing of a command, question or event, whose wire form may be known already.

    Raises TypeError for an answer.
    """
    key = topology.routing_key(message)
    return Publishing(
        exchange=topology.exchange_of(message),
        routing_key=key,
        type=message.routing_key,
        body=body or encode(message),
        message_id=message.id,
        correlation_id=correlation_id or message.id,
        reply_to=reply_to,
        headers=trace or {},
        mandatory=message.must_arrive,
        persistent=not isinstance(message, Question),
        queue=topology.queue_to_send(key),
    )


def finished(
    delivery: Delivery,
    returned: Sequence[Contract | retry.Reschedule],
    jitter: Callable[[], Jitter],
) -> list[Publishing]:
    """Return the publishings for what a handler returned, with the replies to the asker last."""
    made, replies = [], []
    for item in returned:
        if isinstance(item, retry.Reschedule):
            made.append(_rescheduled(delivery, item, jitter()))
            continue
        body = encode(item)
        if not isinstance(item, Answer):
            made.append(publishing(item, delivery.correlation_id, None, delivery.trace, body))
        if delivery.reply_to and isinstance(item, Event | Answer):
            replies.append(_reply(delivery, item, delivery.reply_to, body))
    return made + replies


def failed(
    delivery: Delivery, reason: str, requested: float | None, jitter: Jitter, at: datetime
) -> Publishing:
    """Return the copy for a delay queue, or for the dead letters when no attempt is left.

    `requested` is the delay that the handler asked for, in seconds.
    """
    seconds = retry.wait_after(delivery.attempt, requested)
    if seconds is None:
        return dead(delivery, "exhausted", reason, at)
    return _delayed(delivery, seconds, jitter, delivery.attempt + 1)


def dead(delivery: Delivery, cause: str, reason: str, at: datetime) -> Publishing:
    """Return the copy for the dead letters, with the cause in its headers.

    It has no reply_to: a replay is not answered, and a wrong address must not come back.
    """
    headers: dict[str, str | int] = {
        CAUSE: cause,
        # A reason may quote lone surrogates, which UTF-8 cannot encode.
        REASON: reason.encode(errors="replace")[:MAX_REASON_BYTES].decode(errors="ignore"),
        ORIGIN: delivery.queue,
        ATTEMPT: delivery.attempt,
        DIED_AT: at.isoformat(),
    }
    return _copy(replace(delivery, reply_to=None), topology.DEAD, headers)


def _reply(delivery: Delivery, message: Contract, to: str, body: bytes) -> Publishing:
    """Return the publishing of a returned message as a reply; `to` is the delivery's `reply_to`."""
    return Publishing(
        exchange="",
        routing_key=to,
        type=message.routing_key,
        body=body,
        message_id=message.id,
        correlation_id=delivery.correlation_id,
        headers=delivery.trace,
        # Before 4.2 a reply by direct reply-to is returned as unroutable although it arrived. A
        # reply whose asker has gone is dropped.
        mandatory=False,
        persistent=False,
    )


def _rescheduled(delivery: Delivery, request: retry.Reschedule, jitter: Jitter) -> Publishing:
    """Return the publishing of a rescheduled message to the same queue, at its first attempt."""
    copy = _delayed(delivery, request.seconds, jitter, 1)
    message = request.message
    return replace(copy, type=message.routing_key, body=encode(message), message_id=message.id)


def _delayed(delivery: Delivery, seconds: float, jitter: Jitter, attempt: int) -> Publishing:
    delay = retry.choose_delay(seconds, jitter.chance, jitter.turn)
    exchange = topology.delay_exchange(delay, delivery.queue)
    return _copy(delivery, exchange, {ATTEMPT: attempt})


def _copy(delivery: Delivery, exchange: str, headers: Mapping[str, str | int]) -> Publishing:
    """Return a copy of the delivered message, for an exchange that routes by the queue's name.

    Its `user_id` is that of this service, so the header USER names the first publisher.
    """
    return Publishing(
        exchange=exchange,
        routing_key=delivery.queue,
        type=delivery.type,
        body=delivery.body,
        message_id=delivery.message_id,
        correlation_id=delivery.correlation_id,
        reply_to=delivery.reply_to,
        headers={**delivery.trace, USER: delivery.publisher.user or "", **headers},
    )
