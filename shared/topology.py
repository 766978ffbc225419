"""Exchanges, queues and bindings as data; no other module but `shared.rights` names them.

Every queue is declared so that it means the same on RabbitMQ 3.10 and 4.x: an explicit delivery
limit (endless before 4.0, 20 after), `reject-publish` and at-least-once dead lettering together
(one without the other silently falls back to at-most-once).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from typing import TypeGuard

from shared.contracts import (
    WEBHOOK_NOUNS,
    AnnounceSuppressions,
    CancelCode,
    Category,
    ClientRemoved,
    Command,
    Contract,
    EmailBounced,
    EmailDelivered,
    Event,
    FeedbackReported,
    ForgetAddress,
    IssueCode,
    Question,
    ReportBounced,
    ReportComplained,
    SendEmail,
    SuppressionAdded,
    SuppressionRemoved,
)
from shared.retry import DELAYS, Delay

COMMANDS = "mail.commands"
SHARDED_MAILS = "mail.shards"
EVENTS = "mail.events"
DEAD = "mail.dead"
UNROUTED = "mail.unrouted"

DELIVERY_LIMIT = 20  # returns to a queue; a message that crashed so many consumers is poison
# Browsing returns dead letters to their queue, and on 4.x each return counts. No argument means
# unlimited to both 3.10 and 4.x (-1 discards at once on 3.10).
DEAD_DELIVERY_LIMIT = 1_000_000
MAX_WAITING = 2_000_000  # messages of a queue; past it publishers are refused, HTTP answers 503
QUESTION_SECONDS = 10  # after which nothing waits for the answer to a question
MAX_QUESTIONS = 10_000

# A queue is served in its order: behind 100,000 mails of one client waits the first one of another.
# So a class has several queues, its shards, and a client's mails are in one of them. The sender
# serves the queues in turn. The shard is in the routing key alone: the AMQP type stays that of the
# contract.
# One of so many clients shares a shard with a client that has a backlog. A quorum queue costs the
# broker 15 ms once and no processor time while it is empty (seen on 3.10.8).
SHARDS = 16
SHARD_PATTERN = "[0-9]{1,2}"  # in a routing key
SHARDED = (Category.TRANSACTIONAL, Category.BULK)  # a code is wanted within seconds or not at all
_TYPES = frozenset(f"email.send.{category}" for category in SHARDED)
SHARD_KEYS = tuple(f"{each}.{shard}" for each in sorted(_TYPES) for shard in range(SHARDS))


class Owner(StrEnum):
    """The services, which own queues or none; the broker's user of a service has the same name."""

    GATEWAY = "gateway"
    SENDER = "sender"
    OTP = "otp"
    CLASSIFIER = "classifier"
    SCHEDULER = "scheduler"
    LEDGER = "ledger"
    INBOUND = "inbound"
    WEBHOOKS = "webhooks"
    CONSOLE = "console"


# The first words of queue names that no program may have: of services, the pipeline, the broker.
RESERVED = frozenset({*Owner, "mail", "delay", "amq"})

# The broker's administrator; `make up` and compose.yaml name it so.
OPERATOR = "postrider"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange; a message that it cannot route goes to `alternate`, if it has one."""

    name: str
    kind: str = "topic"
    alternate: str | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """A binding of a queue to the messages of `exchange` whose routing key matches `key`."""

    exchange: str
    key: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue with its owner, which is None for a queue of the pipeline itself."""

    name: str
    owner: Owner | None
    bindings: tuple[Binding, ...]
    arguments: Mapping[str, str | int] = field(default_factory=dict)


def dead_queue(queue: str) -> str:
    """Return the name of the queue of the dead letters of `queue`; shards of a class share one."""
    return f"{_CLASS_QUEUES.get(queue, queue)}.dead"


def is_reserved(queue: str) -> bool:
    """Return whether the pipeline or the broker has, or may have, a queue of this name."""
    return queue.partition(".")[0] in RESERVED


def exchange_of(message: Contract) -> str:
    """Return the exchange that a message is published to. Raises TypeError for an answer."""
    match message:
        case Command() if is_sharded(message):
            return SHARDED_MAILS
        case Command() | Question():
            return COMMANDS
        case Event():
            return EVENTS
        case _:
            raise TypeError(f"{type(message).__name__} goes to its asker, not to an exchange")


@lru_cache(maxsize=4096)  # a hash costs a microsecond, and a client publishes many mails
def shard_of(client: str) -> int:
    """Return the shard of a client, from 0 to below SHARDS; the same in every process for ever."""
    return sha256(client.encode(errors="replace")).digest()[0] % SHARDS


def is_sharded(message: Contract) -> TypeGuard[SendEmail]:
    """Return whether a message is a client's mail, for now, of a class with shards."""
    return (
        isinstance(message, SendEmail)
        and message.client is not None
        and message.category in SHARDED
        and message.scheduled_at is None
    )


def routing_key(message: Contract) -> str:
    """Return the routing key of a message: its type, for a client's mail with the shard."""
    key = message.routing_key
    return f"{key}.{shard_of(message.client or '')}" if is_sharded(message) else key


def type_of(key: str) -> str:
    """Return the type that a routing key stands for, which a publisher may leave out."""
    type_, _, last = key.rpartition(".")
    return type_ if last.isdecimal() and type_ in _TYPES else key


def sending_queue(category: Category) -> str:
    """Return the name of the sender's queue for a category."""
    return f"{Owner.SENDER}.{category}"


def queue_to_send(key: str) -> str | None:
    """Return the queue that sends or keeps a mail of a routing key, None if it is no mail's key.

    The ledger has a copy of each such command: the broker confirms one that its queue alone takes.
    """
    if key.startswith("email.schedule."):
        return SCHEDULER_MAIL
    kind = key.removeprefix("email.send.")
    return None if kind == key else f"{Owner.SENDER}.{kind}"


def shard_queues(category: Category) -> Sequence[str]:
    """Return the names of the queues of a category's shards, in order; codes have none."""
    name = sending_queue(category)
    return [f"{name}.{shard}" for shard in range(SHARDS)] if category in SHARDED else []


_CLASS_QUEUES = {
    queue: sending_queue(category) for category in Category for queue in shard_queues(category)
}

GATEWAY_QUESTIONS = "gateway.questions"
OTP_COMMANDS = "otp.commands"
OTP_QUESTIONS = "otp.questions"
SENDER_ADDRESSES = "sender.addresses"
SENDER_QUESTIONS = "sender.questions"
EVIDENCE = "classifier.evidence"
CLASSIFIER_QUESTIONS = "classifier.questions"
SCHEDULER_MAIL = "scheduler.mail"
SCHEDULER_ADDRESSES = "scheduler.addresses"
SCHEDULER_QUESTIONS = "scheduler.questions"
LEDGER_MAIL = "ledger.mail"
LEDGER_COMMANDS = "ledger.commands"
LEDGER_QUESTIONS = "ledger.questions"
WEBHOOK_EVENTS = "webhooks.events"
WEBHOOK_COMMANDS = "webhooks.commands"
WEBHOOK_QUESTIONS = "webhooks.questions"

# The queues whose deliveries wait in delay queues of their own. A delay queue repeats for ever a
# message that its target refuses, and others wait behind it: no code may wait for bulk mail.
CODE_QUEUES = frozenset({sending_queue(Category.OTP), OTP_COMMANDS})


def delay_exchange(delay: Delay, queue: str) -> str:
    """Return the exchange and queue in which a delivery of `queue` waits for its next attempt."""
    return f"{delay.name}.codes" if queue in CODE_QUEUES else delay.name


# For each delay one for codes and one for all other messages.
DELAY_EXCHANGES: Mapping[str, Delay] = {
    delay_exchange(delay, queue): delay
    for delay in DELAYS
    for queue in (OTP_COMMANDS, sending_queue(Category.BULK))
}

EXCHANGES: tuple[Exchange, ...] = (
    Exchange(UNROUTED, kind="fanout"),
    # No alternate: a message that it takes counts as routed, and `mandatory` would never tell a
    # publisher that no queue takes its command.
    Exchange(COMMANDS),
    # The mails that the gateway accepts, by the same keys. Routing them by topic would take a third
    # of what a mail costs the broker: 35 of 110 µs, seen on 3.10.8. It knows no rights by key.
    Exchange(SHARDED_MAILS, kind="direct"),
    Exchange(EVENTS),
    Exchange(DEAD, alternate=UNROUTED),
    *(Exchange(name, alternate=UNROUTED) for name in DELAY_EXCHANGES),
)


def _quorum(**more: str | int) -> Mapping[str, str | int]:
    limits: dict[str, str | int] = {
        "x-queue-type": "quorum",
        "x-overflow": "reject-publish",
        "x-max-length": MAX_WAITING,
        "x-delivery-limit": DELIVERY_LIMIT,
    }
    return limits | {f"x-{name.replace('_', '-')}": value for name, value in more.items()}


def _work(name: str, owner: Owner, *bindings: Binding) -> tuple[Queue, Queue]:
    """Return a work queue and the queue of its dead letters."""
    return _work_queue(name, owner, *bindings), _dead_queue(name, owner, Binding(DEAD, name))


def _work_queue(name: str, owner: Owner, *bindings: Binding) -> Queue:
    arguments = _quorum(
        dead_letter_exchange=DEAD,
        dead_letter_routing_key=name,
        dead_letter_strategy="at-least-once",
    )
    return Queue(name, owner, bindings, arguments)


def _dead_queue(name: str, owner: Owner, *bindings: Binding) -> Queue:
    return Queue(dead_queue(name), owner, bindings, _quorum(delivery_limit=DEAD_DELIVERY_LIMIT))


def _sending(category: Category) -> Iterator[Queue]:
    """Yield the queue of a category, the queues of its shards, and that of all dead letters.

    The queue without a shard has the mails of no client, and those of programs that know no shards.
    """
    name, key = sending_queue(category), f"email.send.{category}"
    shards = shard_queues(category)
    yield _work_queue(name, Owner.SENDER, Binding(COMMANDS, key))
    for shard, queue in enumerate(shards):
        bindings = (Binding(each, f"{key}.{shard}") for each in (COMMANDS, SHARDED_MAILS))
        yield _work_queue(queue, Owner.SENDER, *bindings)
    origins = (name, f"{name}.*") if shards else (name,)
    yield _dead_queue(name, Owner.SENDER, *(Binding(DEAD, origin) for origin in origins))


def _questions(name: str, owner: Owner, *keys: str) -> Queue:
    """Return a classic queue, which is cheap: a question is worthless after its deadline."""
    arguments: Mapping[str, str | int] = {
        "x-queue-type": "classic",
        "x-message-ttl": QUESTION_SECONDS * 1000,
        "x-max-length": MAX_QUESTIONS,
        "x-overflow": "reject-publish",
    }
    return Queue(name, owner, tuple(Binding(COMMANDS, key) for key in keys), arguments)


def _bindings(*contracts: type[Contract]) -> tuple[Binding, ...]:
    """Return the bindings of a queue to all messages of some contracts."""
    return tuple(
        Binding(EVENTS if issubclass(each, Event) else COMMANDS, key)
        for each in contracts
        for key in each.keys
    )


def _delay(name: str, delay: Delay, scale: float) -> Queue:
    """Return a delay queue. Without a dead-letter key the routing key names the next queue."""
    arguments = _quorum(
        message_ttl=max(1, round(delay.seconds * scale * 1000)),
        dead_letter_exchange="",
        dead_letter_strategy="at-least-once",
    )
    return Queue(name, None, (Binding(name, "#"),), arguments)


def queues(owners: Sequence[Owner] = tuple(Owner), scale: float = 1.0) -> tuple[Queue, ...]:
    """Return the queues of `owners` and of the pipeline itself; `scale` shortens delays in tests.

    A queue without consumers would fill up and, with `reject-publish`, stop its publishers. So the
    queues of a service that is not deployed are not declared.
    """
    owned = (
        _questions(GATEWAY_QUESTIONS, Owner.GATEWAY, "client.*"),
        # No time to live, not for codes either: a code that is too late would become a dead letter
        # without an outcome. The sender checks the expiry, and the code is sealed in both places.
        *(queue for category in Category for queue in _sending(category)),
        *_work(
            SENDER_ADDRESSES,
            Owner.SENDER,
            *_bindings(SuppressionAdded, SuppressionRemoved, ForgetAddress),
        ),
        _questions(SENDER_QUESTIONS, Owner.SENDER, "email.cancel", "relay.describe"),
        *_work(OTP_COMMANDS, Owner.OTP, *_bindings(IssueCode, CancelCode, ForgetAddress)),
        _questions(OTP_QUESTIONS, Owner.OTP, "code.verify"),
        *_work(
            EVIDENCE,
            Owner.CLASSIFIER,
            *_bindings(EmailDelivered, EmailBounced, ReportBounced, FeedbackReported),
        ),
        _questions(CLASSIFIER_QUESTIONS, Owner.CLASSIFIER, "domain.*"),
        *_work(SCHEDULER_MAIL, Owner.SCHEDULER, Binding(COMMANDS, "email.schedule.*")),
        *_work(
            SCHEDULER_ADDRESSES,
            Owner.SCHEDULER,
            *_bindings(SuppressionAdded, EmailBounced, ReportBounced, ReportComplained),
            *_bindings(ForgetAddress, ClientRemoved),
        ),
        _questions(
            SCHEDULER_QUESTIONS,
            Owner.SCHEDULER,
            *("content.*", "run.*", "subscription.*", "email.reschedule", "email.unschedule"),
        ),
        # A copy of each command: accepted and sent are facts of one publish.
        *_work(
            LEDGER_MAIL,
            Owner.LEDGER,
            Binding(COMMANDS, "email.send.#"),
            Binding(COMMANDS, "email.schedule.*"),
            *(Binding(SHARDED_MAILS, key) for key in SHARD_KEYS),
            Binding(EVENTS, "email.*"),
            Binding(EVENTS, "report.*"),
        ),
        *_work(LEDGER_COMMANDS, Owner.LEDGER, *_bindings(ForgetAddress, AnnounceSuppressions)),
        _questions(
            LEDGER_QUESTIONS,
            Owner.LEDGER,
            *("email.describe", "email.find", "email.list", "email.count"),
            "suppression.describe",
            *("suppression.list", "suppression.add", "suppression.remove"),
        ),
        *_work(WEBHOOK_EVENTS, Owner.WEBHOOKS, *(Binding(EVENTS, f"{n}.*") for n in WEBHOOK_NOUNS)),
        *_work(WEBHOOK_COMMANDS, Owner.WEBHOOKS, *_bindings(ForgetAddress, ClientRemoved)),
        _questions(WEBHOOK_QUESTIONS, Owner.WEBHOOKS, "webhook.*"),
    )
    pipeline = (
        Queue(
            UNROUTED,
            None,
            (Binding(UNROUTED, ""),),
            _quorum(delivery_limit=DEAD_DELIVERY_LIMIT),
        ),
        *(_delay(name, delay, scale) for name, delay in DELAY_EXCHANGES.items()),
    )
    return (*(queue for queue in owned if queue.owner in owners), *pipeline)
