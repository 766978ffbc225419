"""Exchanges, queues, bindings, users and their rights, as data; the only place with their names.

Every queue is declared so that it means the same on RabbitMQ 3.10 and 4.x: an explicit delivery
limit (endless before 4.0, 20 after), `reject-publish` and at-least-once dead lettering together
(one without the other silently falls back to at-most-once).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from shared.contracts import (
    CONTRACTS,
    CancelCode,
    Category,
    Command,
    Contract,
    CountDomains,
    DescribeDomain,
    EmailBounced,
    EmailDelivered,
    Event,
    FeedbackReported,
    IssueCode,
    ListDomains,
    Question,
    VerifyCode,
)
from shared.retry import DELAYS, Delay

COMMANDS = "mail.commands"
EVENTS = "mail.events"
DEAD = "mail.dead"
UNROUTED = "mail.unrouted"

DELIVERY_LIMIT = 20  # returns to the queue: after so many crashes a message is poison
# A person who looks at dead letters returns them, and on 4.x each look counts. Unlimited cannot
# be said in a way that both 3.10 and 4.x understand (-1 discards at once on 3.10).
DEAD_DELIVERY_LIMIT = 1_000_000
MAX_WAITING = 2_000_000  # messages a queue; past it publishers are refused and the gateway says 503
QUESTION_SECONDS = 10  # an older question has no asker any more
MAX_QUESTIONS = 10_000
MAX_PROGRAM_EVENTS = 100_000  # in a program's queue; the oldest go first


class Owner(StrEnum):
    """The services that own queues; the name is also that of the broker's user."""

    GATEWAY = "gateway"
    SENDER = "sender"
    OTP = "otp"
    CLASSIFIER = "classifier"
    SCHEDULER = "scheduler"
    LEDGER = "ledger"


# The first words of queue names that are no program's: those above, of the road, of the broker, and
# of the services that do not exist yet.
RESERVED = frozenset({*Owner, "mail", "delay", "amq", "inbound", "webhooks", "console"})

# The broker's administrator, who replays dead letters; `make up` and compose.yaml name it so.
OPERATOR = "postrider"
# The users whose messages name the client they are for; any other user is a client itself.
CLIENT_NAMING = frozenset({Owner.GATEWAY, Owner.OTP, Owner.SCHEDULER, OPERATOR})

RUNNING = (Owner.GATEWAY, Owner.SENDER, Owner.OTP, Owner.CLASSIFIER)  # those that exist so far


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange; what it cannot route goes to `alternate`, if it has one."""

    name: str
    kind: str = "topic"
    alternate: str | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """Messages of `exchange` whose key matches `key` go to the queue."""

    exchange: str
    key: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue with one owner, None for those that belong to the road itself."""

    name: str
    owner: Owner | None
    bindings: tuple[Binding, ...]
    arguments: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class User:
    """The rights of a user: two patterns (configure is always nothing), and keys by exchange."""

    name: str
    write: str
    read: str
    topics: Mapping[str, str]


def dead_queue(queue: str) -> str:
    """Name the queue that holds the dead letters of `queue`."""
    return f"{queue}.dead"


def is_reserved(queue: str) -> bool:
    """Return whether a queue of this name is the pipeline's or the broker's, or may become so."""
    return queue.partition(".")[0] in RESERVED


def may_name_clients(user: str) -> bool:
    """Return whether a message of the broker's user `user` may be for any client."""
    return user in CLIENT_NAMING


def may_copy(queue: str, user: str) -> bool:
    """Return whether a broker's user writes copies into `queue`, headers of ours included.

    Those are the queue's owner, by way of the delay queues and the dead letters, and the operator.
    What was unroutable there was any service's.
    """
    owner = queue.partition(".")[0]
    return user in (OPERATOR, owner) or (queue == UNROUTED and user in set(Owner))


def exchange_of(message: Contract) -> str:
    """Name the exchange that a message is published to. Raises TypeError for an answer."""
    match message:
        case Command() | Question():
            return COMMANDS
        case Event():
            return EVENTS
        case _:
            raise TypeError(f"{type(message).__name__} goes to its asker, not to an exchange")


def sending_queue(category: Category) -> str:
    """Name the sender's queue for one category."""
    return f"{Owner.SENDER}.{category}"


OTP_COMMANDS = "otp.commands"
OTP_QUESTIONS = "otp.questions"
EVIDENCE = "classifier.evidence"
CLASSIFIER_QUESTIONS = "classifier.questions"

# The queues whose deliveries wait in delay queues of their own. A delay queue tries for ever what
# its target refuses, and others wait behind that: no code may wait for room among bulk mail.
CODE_QUEUES = frozenset({sending_queue(Category.OTP), OTP_COMMANDS})


def delay_exchange(delay: Delay, queue: str) -> str:
    """Name the exchange, and its queue, where a delivery of `queue` waits for its next attempt."""
    return f"{delay.name}.codes" if queue in CODE_QUEUES else delay.name


# Of each delay one for codes and one for all else.
DELAY_EXCHANGES: Mapping[str, Delay] = {
    delay_exchange(delay, queue): delay
    for delay in DELAYS
    for queue in (OTP_COMMANDS, sending_queue(Category.BULK))
}

EXCHANGES: tuple[Exchange, ...] = (
    Exchange(UNROUTED, kind="fanout"),
    # No alternate: what it routes counts as routed, so `mandatory` would never tell a publisher
    # that nobody takes its command.
    Exchange(COMMANDS),
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
    """Give a work queue and the queue of its dead letters."""
    arguments = _quorum(
        dead_letter_exchange=DEAD,
        dead_letter_routing_key=name,
        dead_letter_strategy="at-least-once",
    )
    return (
        Queue(name, owner, bindings, arguments),
        Queue(
            dead_queue(name),
            owner,
            (Binding(DEAD, name),),
            _quorum(delivery_limit=DEAD_DELIVERY_LIMIT),
        ),
    )


def _questions(name: str, owner: Owner, *contracts: type[Question]) -> Queue:
    """Give a classic queue: a question is worth nothing after its deadline, so keep it cheap."""
    arguments: Mapping[str, str | int] = {
        "x-queue-type": "classic",
        "x-message-ttl": QUESTION_SECONDS * 1000,
        "x-max-length": MAX_QUESTIONS,
        "x-overflow": "reject-publish",
    }
    keys = (key for contract in contracts for key in contract.keys)
    return Queue(name, owner, tuple(Binding(COMMANDS, key) for key in keys), arguments)


def _delay(name: str, delay: Delay, scale: float) -> Queue:
    """Return a delay queue: without a dead-letter key, the routing key names what comes next."""
    arguments = _quorum(
        message_ttl=max(1, round(delay.seconds * scale * 1000)),
        dead_letter_exchange="",
        dead_letter_strategy="at-least-once",
    )
    return Queue(name, None, (Binding(name, "#"),), arguments)


def queues(owners: Sequence[Owner] = RUNNING, scale: float = 1.0) -> tuple[Queue, ...]:
    """Give the queues of `owners` and of the road itself; `scale` shortens the ladder in tests.

    A queue that nobody empties would fill up and, with `reject-publish`, stop its publishers. So
    the queues of a service that is not deployed are not declared.
    """
    owned = (
        # No time to live, not for codes either: one that is too late would be a dead letter, of
        # which nobody is told. The sender looks at its expiry, and the code is sealed in both.
        *(
            queue
            for category in Category
            for queue in _work(
                sending_queue(category),
                Owner.SENDER,
                Binding(COMMANDS, f"email.send.{category}"),
            )
        ),
        *_work(
            OTP_COMMANDS,
            Owner.OTP,
            *(Binding(COMMANDS, key) for key in (*IssueCode.keys, *CancelCode.keys)),
        ),
        _questions(OTP_QUESTIONS, Owner.OTP, VerifyCode),
        *_work(
            EVIDENCE,
            Owner.CLASSIFIER,
            *(
                Binding(EVENTS, key)
                for key in (*EmailDelivered.keys, *EmailBounced.keys, *FeedbackReported.keys)
            ),
        ),
        _questions(
            CLASSIFIER_QUESTIONS, Owner.CLASSIFIER, DescribeDomain, ListDomains, CountDomains
        ),
        *_work("scheduler.commands", Owner.SCHEDULER, Binding(COMMANDS, "schedule.*")),
        *_work(
            "ledger.mail",
            Owner.LEDGER,
            Binding(COMMANDS, "email.#"),
            Binding(EVENTS, "email.#"),
        ),
    )
    road = (
        Queue(
            UNROUTED,
            None,
            (Binding(UNROUTED, ""),),
            _quorum(delivery_limit=DEAD_DELIVERY_LIMIT),
        ),
        *(_delay(name, delay, scale) for name, delay in DELAY_EXCHANGES.items()),
    )
    return (*(queue for queue in owned if queue.owner in owners), *road)


def _user(name: Owner, *, commands: str = "", events: str = "", consumes: bool = True) -> User:
    """Give the rights of a service: its own queues to read, named keys to write.

    Who answers questions may write to the default exchange, through which replies travel; that
    also reaches any queue by name, as RabbitMQ has no finer right (access control, 2026-08).
    """
    own = rf"^{name}\."
    topics = {COMMANDS: commands or "^$", EVENTS: events or "^$", DEAD: own if consumes else "^$"}
    topics |= dict.fromkeys(DELAY_EXCHANGES, own if consumes else "^$")
    exchanges = [COMMANDS] * bool(commands) + [EVENTS] * bool(events)
    road = [DEAD, "amq.default", *DELAY_EXCHANGES] if consumes else []
    allowed = "|".join(exchange.replace(".", r"\.") for exchange in (*exchanges, *road))
    return User(name, write=f"^({allowed})$", read=own if consumes else "^$", topics=topics)


USERS: tuple[User, ...] = (
    _user(
        Owner.GATEWAY,
        commands=r"^(email\.send\.(otp|transactional|bulk)|code\.(issue|cancel|verify)|domain\.(describe|list|count))$",
        events=r"^feedback\.reported$",
        consumes=False,
    ),
    _user(Owner.SENDER, events=r"^email\."),
    _user(Owner.OTP, commands=r"^email\.send\.otp$", events=r"^code\."),
    _user(Owner.CLASSIFIER, events=r"^domain\.classified$"),
    _user(Owner.SCHEDULER, commands=r"^email\.send\.(transactional|bulk)$"),
    _user(Owner.LEDGER, events=r"^suppression\."),
)

_PROGRAM_NAME = re.compile("[a-z0-9-]{1,50}")
# What one program may open at a time (RabbitMQ, "Per-User Limits"); an operator may set others.
PROGRAM_LIMITS: Mapping[str, int] = {"max-connections": 50, "max-channels": 200}
PROGRAM_EVENTS: tuple[str, ...] = tuple(
    key
    for each in CONTRACTS
    if issubclass(each, Event)
    for key in each.keys
    if key.startswith("email.")
)
ALL_PROGRAM_EVENTS = ("email.#",)


def check_program(name: str) -> str:
    """Return the name of a program. Raises ValueError when no program may have it."""
    if not _PROGRAM_NAME.fullmatch(name):
        raise ValueError("must be 1 to 50 of a-z, 0-9 and -")
    if is_reserved(name) or name == OPERATOR:
        raise ValueError(f"{name} is a name of the pipeline or the broker")
    return name


def program_user(name: str) -> User:
    """Return the rights of a program that publishes mail, asks about domains, and reads its queue.

    It configures nothing: with a queue of its own on `mail.events` that refuses messages it would
    stop the outcomes of all, and past a dead-letter exchange no topic right holds (issue 10, A13).
    """
    commands = r"^(email\.send\.(transactional|bulk)|domain\.describe)$"
    return User(
        check_program(name),
        write=rf"^{re.escape(COMMANDS)}$",
        read=rf"^{name}\.events$",
        topics={COMMANDS: commands, EVENTS: "^$"},
    )


def program_queue(name: str, keys: Sequence[str] = ALL_PROGRAM_EVENTS) -> Queue:
    """Return the queue of a program, bound to events of mails.

    It drops the oldest event when it is full. If it refused the newest, nobody's event were kept.
    """
    arguments: Mapping[str, str | int] = {
        "x-queue-type": "quorum",
        "x-overflow": "drop-head",
        "x-max-length": MAX_PROGRAM_EVENTS,
        "x-delivery-limit": DELIVERY_LIMIT,
    }
    return Queue(
        f"{check_program(name)}.events",
        None,
        tuple(Binding(EVENTS, key) for key in keys),
        arguments,
    )
