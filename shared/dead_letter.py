"""Pure: a dead letter, the cause in its headers, its text for a person, and its replay.

A service writes the cause into headers of its own. For a message that the broker gave up, such as
after too many returns, the broker writes it into `x-death`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from shared import topology
from shared.contracts import CONTRACTS, Category
from shared.delivery import ATTEMPT, CAUSE, DIED_AT, ORIGIN, REASON, Delivery, Publishing
from shared.identity import USER
from shared.retry import Delay
from shared.topology import type_of

BROKER_REASON = "the broker's own decision"
# Our consumers reject unread a body that is too large, and a message on which reading fails.
REJECTED, UNREAD_REASON = "rejected", "it was not read: its body is too large, or see the log"
UNKNOWN = "unknown"
UNDECODABLE = "undecodable"
# The fields that a contract keeps out of its repr, except addresses, by which a letter is found.
WITHHELD = frozenset(
    declared.alias or name
    for contract in CONTRACTS
    for name, declared in contract.model_fields.items()
    if not declared.repr and name != "email"
)
_NAMES = frozenset(queue.name for queue in topology.queues())
DROPPED_MAIL = (
    "A dropped mail has no outcome, and `ops ledger check` lists it as lost. To end it as "
    "cancelled instead, cancel it on its page of the console or over HTTP, then send its letter "
    "back."
)
_MAILS = frozenset(topology.dead_queue(topology.sending_queue(each)) for each in Category)
ORIGINS = tuple(sorted(name for name in _NAMES if topology.dead_queue(name) in _NAMES))


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message in a queue of dead letters; `origin` is the queue that it came from, if known."""

    delivery: Delivery
    cause: str
    reason: str
    origin: str | None
    died_at: datetime | None


def read(delivery: Delivery, headers: Mapping[str, object]) -> DeadLetter:
    """Return the dead letter that a delivery and its headers describe."""
    death = _last_death(headers)
    if death is not None:
        return _given_up_by_broker(delivery, death)
    return DeadLetter(
        delivery,
        cause=_text(headers.get(CAUSE)) or UNKNOWN,
        reason=_text(headers.get(REASON)) or "",
        origin=_text(headers.get(ORIGIN)),
        died_at=_time(_text(headers.get(DIED_AT))),
    )


def dead_queues() -> tuple[str, ...]:
    """Return the names of the queues of dead letters."""
    return (*dict.fromkeys(map(topology.dead_queue, ORIGINS)), topology.UNROUTED)


def can_return(letter: DeadLetter) -> bool:
    """Return whether a dead letter names an origin whose dead letters belong in its queue."""
    if letter.origin not in ORIGINS:
        return False
    return letter.delivery.queue in (topology.dead_queue(letter.origin), topology.UNROUTED)


def is_mail(letter: DeadLetter) -> bool:
    """Return whether it is a mail of a sender, without which the mail has no outcome.

    The ledger's copy of a command is none: the mail is sent without it. A message that cannot be
    decoded is none either: the ledger does not know it.
    """
    return letter.delivery.queue in _MAILS and letter.cause != UNDECODABLE


def replay(letter: DeadLetter, delay: Delay | None = None) -> Publishing:
    """Return the publishing that puts a dead letter into its queue again, at the first attempt.

    With a delay it goes by that delay's exchange, whose rights know queues by name; those of the
    default exchange do not. It has no `reply_to`: its asker waits no longer. Raises ValueError when
    the origin is unknown.
    """
    if letter.origin is None:
        raise ValueError("the queue that this dead letter came from is unknown")
    delivery = letter.delivery
    return Publishing(
        exchange="" if delay is None else topology.delay_exchange(delay, letter.origin),
        routing_key=letter.origin,
        type=delivery.type,
        body=delivery.body,
        message_id=delivery.message_id,
        correlation_id=delivery.correlation_id,
        headers={**delivery.trace, USER: delivery.publisher.user or "", ATTEMPT: 1},
    )


def body_text(content: bytes, *, withhold: bool) -> str:
    """Return a body as indented JSON; `withhold` leaves out the content of mails, and codes."""
    try:
        value: object = json.loads(content)
        shown = _without_content(value) if withhold else value
    except (ValueError, RecursionError):
        value = shown = None
    if isinstance(value, dict):
        return json.dumps(shown, indent=2, ensure_ascii=False)
    if withhold:
        return f"(not a JSON object: {len(content)} bytes withheld)"
    return content.decode(errors="backslashreplace")


def _without_content(value: object) -> object:
    if isinstance(value, dict):
        return {
            key: _withheld(item) if key.casefold() in WITHHELD else _without_content(item)
            for key, item in value.items()
        }
    return [_without_content(item) for item in value] if isinstance(value, list) else value


def _withheld(value: object) -> str:
    return f"({len(str(value))} characters withheld)"


def _given_up_by_broker(delivery: Delivery, death: Mapping[str, Any]) -> DeadLetter:
    origin, time = _text(death.get("queue")), death.get("time")
    keys = death.get("routing-keys")
    if delivery.type == origin and isinstance(keys, list) and keys:
        # It had no type, and the broker has replaced the routing key that stands for it by the
        # queue's name. `x-death` has the key from before.
        delivery = replace(delivery, type=type_of(str(keys[0])))
    cause = _text(death.get("reason")) or UNKNOWN
    return DeadLetter(
        delivery,
        cause=cause,
        reason=UNREAD_REASON if cause == REJECTED else BROKER_REASON,
        origin=origin,
        died_at=time if isinstance(time, datetime) else None,
    )


def _last_death(headers: Mapping[str, object]) -> Mapping[str, Any] | None:
    """Return the newest entry of `x-death`, which the broker puts first.

    Not `x-first-death-*`: for a message that was once in a delay queue they name that queue.
    """
    deaths = headers.get("x-death")
    if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict):
        return deaths[0]
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _time(text: str | None) -> datetime | None:
    """Return a time with its zone, as our headers have it, or None for any other text."""
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return time if time.tzinfo else None
