"""Pure: what came from a queue, and what is to be published when its handling has ended.

A handler ends in one of four ways: it returned messages, it wants to be asked again later, it
refused the message for good, or it was cancelled. The first three are publishings, made here; the
fourth is no answer at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from shared import asker, retry, topology
from shared.contracts import Answer, Contract, Event, Question, decode, encode
from shared.errors import Undecodable
from shared.identity import USER, Identity, attributed

ATTEMPT = "x-attempt"  # of handling this message, counted by us: brokers disagree on theirs
CAUSE = "x-cause"
REASON = "x-reason"
ORIGIN = "x-origin"
DIED_AT = "x-died-at"
MAX_REASON_CHARS = 1000
UNKNOWN = Identity()
# All other headers stay behind on a copy: a 3.x broker believes a client's `x-death` and drops
# the message as a cycle.
TRACE = ("traceparent", "tracestate")  # W3C Trace Context


@dataclass(frozen=True, slots=True)
class Publishing:
    """One message on its way to the broker."""

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


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it came from `queue`, at its `attempt` (from 1)."""

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
    """Two uniform numbers in [0, 1): the jitter of one delay."""

    chance: float
    turn: float


def contract(delivery: Delivery, kinds: tuple[type[Contract], ...]) -> Contract:
    """Decode the message of a delivery.

    Raises Undecodable, also when it is none of `kinds`, when no reply may go where it asks for one,
    and when its publisher may not name its client.
    """
    asker.check(delivery.reply_to, delivery.publisher)
    message = decode(delivery.type, delivery.body)
    if not isinstance(message, kinds):
        raise Undecodable(f"nobody here takes {delivery.type}")
    return attributed(message, delivery.publisher)


def publishing(
    message: Contract,
    correlation_id: str | None = None,
    reply_to: str | None = None,
    trace: Mapping[str, str] | None = None,
) -> Publishing:
    """Give the publishing of a command, question or event. Raises TypeError for an answer."""
    return Publishing(
        exchange=topology.exchange_of(message),
        routing_key=message.routing_key,
        type=message.routing_key,
        body=encode(message),
        message_id=message.id,
        correlation_id=correlation_id or message.id,
        reply_to=reply_to,
        headers=trace or {},
        mandatory=message.must_arrive,
        persistent=not isinstance(message, Question),
    )


def reply(delivery: Delivery, message: Contract, to: str) -> Publishing:
    """Give the copy of a returned message for whoever asked."""
    return Publishing(
        exchange="",
        routing_key=to,
        type=message.routing_key,
        body=encode(message),
        message_id=message.id,
        correlation_id=delivery.correlation_id,
        headers=delivery.trace,
        # Before 4.2 a reply by direct reply-to is returned as unroutable although it arrived;
        # and an asker who has gone is no trouble of ours.
        mandatory=False,
        persistent=False,
    )


def finished(
    delivery: Delivery, returned: Sequence[Contract | retry.Reschedule], jitter: Jitter
) -> list[Publishing]:
    """Give what a handler's return value asks to be published, copies for the asker last."""
    messages = [item for item in returned if isinstance(item, Contract)]
    later = [item for item in returned if isinstance(item, retry.Reschedule)]
    to = delivery.reply_to
    return [
        *(
            publishing(message, delivery.correlation_id, trace=delivery.trace)
            for message in messages
            if not isinstance(message, Answer)
        ),
        *(_back(delivery, item, jitter) for item in later),
        *(
            reply(delivery, message, to)
            for message in messages
            if to and isinstance(message, Event | Answer)
        ),
    ]


def failed(
    delivery: Delivery, reason: str, wish: float | None, jitter: Jitter, at: datetime
) -> Publishing:
    """Give the copy for the ladder, or for the dead letters when no attempt is left."""
    seconds = retry.wait_after(delivery.attempt, wish)
    if seconds is None:
        return dead(delivery, "exhausted", reason, at)
    return _delayed(delivery, seconds, jitter, delivery.attempt + 1)


def dead(delivery: Delivery, cause: str, reason: str, at: datetime) -> Publishing:
    """Return the copy for the dead letters, with its story in the headers.

    It has no reply_to: a replay is not answered, and a wrong address must not come back.
    """
    story: dict[str, str | int] = {
        CAUSE: cause,
        # It may quote what is no Unicode, which no header could hold.
        REASON: reason[:MAX_REASON_CHARS].encode(errors="replace").decode(),
        ORIGIN: delivery.queue,
        ATTEMPT: delivery.attempt,
        DIED_AT: at.isoformat(),
    }
    return _copy(replace(delivery, reply_to=None), topology.DEAD, story)


def _back(delivery: Delivery, later: retry.Reschedule, jitter: Jitter) -> Publishing:
    """Give the message that comes back in place of the delivered one, with a fresh count."""
    copy = _delayed(delivery, later.seconds, jitter, 1)
    message = later.message
    return replace(copy, type=message.routing_key, body=encode(message), message_id=message.id)


def _delayed(delivery: Delivery, seconds: float, jitter: Jitter, attempt: int) -> Publishing:
    delay = retry.choose_delay(seconds, jitter.chance, jitter.turn)
    exchange = topology.delay_exchange(delay, delivery.queue)
    return _copy(delivery, exchange, {ATTEMPT: attempt})


def _copy(delivery: Delivery, exchange: str, story: Mapping[str, str | int]) -> Publishing:
    """Return the delivered message again, for an exchange that routes by the queue's name.

    The broker knows it as ours; a header of ours names its first publisher.
    """
    return Publishing(
        exchange=exchange,
        routing_key=delivery.queue,
        type=delivery.type,
        body=delivery.body,
        message_id=delivery.message_id,
        correlation_id=delivery.correlation_id,
        reply_to=delivery.reply_to,
        headers={**delivery.trace, USER: delivery.publisher.user or "", **story},
    )
