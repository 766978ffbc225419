"""The users of the broker and their rights, as data: of each service, and of a program.

Services may configure nothing: `ops topology` declares everything as the operator.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from shared.contracts import CONTRACTS, Category, Event
from shared.dead_letter import ORIGINS
from shared.retry import DELAYS
from shared.topology import (
    COMMANDS,
    DEAD,
    DELAY_EXCHANGES,
    DELIVERY_LIMIT,
    EVENTS,
    OPERATOR,
    SCHEDULER_MAIL,
    SHARD_PATTERN,
    SHARDED,
    SHARDED_MAILS,
    UNROUTED,
    Binding,
    Owner,
    Queue,
    delay_exchange,
    is_reserved,
    shard_of,
)

MAX_PROGRAM_EVENTS = 100_000  # in a program's queue; the oldest are dropped first


@dataclass(frozen=True, slots=True)
class User:
    """The rights of a user: patterns to write and read, none to configure, and keys by exchange."""

    name: str
    write: str
    read: str
    topics: Mapping[str, str]


_MAIL_KEYS = rf"email\.send\.({'|'.join(SHARDED)})(\.{SHARD_PATTERN})?"  # of all shards
_SENDING_QUEUES = rf"sender\.({'|'.join(Category)})(\.{SHARD_PATTERN})?"


def _user(name: Owner, *, commands: str = "", events: str = "", consumes: bool = True) -> User:
    """Return the rights of a service: to read its own queues, to write keys that are named.

    A service that answers questions may write to the default exchange, which carries replies. That
    also reaches any queue by its name: RabbitMQ has no finer right (access control, 2026-08).

    A service that publishes mail looks whether the queue to send from exists. RabbitMQ 4.3 answers
    only with some right on that queue. The right to write binds a queue only to an exchange that
    the user may read, and a service may read none.
    """
    own = rf"^{name}\."
    topics = {COMMANDS: commands or "^$", EVENTS: events or "^$", DEAD: own if consumes else "^$"}
    topics |= dict.fromkeys(DELAY_EXCHANGES, own if consumes else "^$")
    exchanges = [COMMANDS] * bool(commands) + [EVENTS] * bool(events)
    exchanges += [SHARDED_MAILS] * (_MAIL_KEYS in commands)  # where all keys are theirs
    pipeline = [DEAD, "amq.default", *DELAY_EXCHANGES] if consumes else []
    allowed = [exchange.replace(".", r"\.") for exchange in (*exchanges, *pipeline)]
    if r"email\.send" in commands:
        allowed.append(_SENDING_QUEUES)
    if r"email\.(schedule" in commands:
        allowed.append(re.escape(SCHEDULER_MAIL))
    return User(
        name, write=f"^({'|'.join(allowed)})$", read=own if consumes else "^$", topics=topics
    )


def _console() -> User:
    """Return the rights of the console: to ask, to read dead letters and to send them back.

    A replay goes by the exchange of the shortest delay, where topic rights know queues by name;
    the default exchange, which needs no such right, would reach any queue. The right to write to
    the services' queues shows how much waits there, and nothing else: it binds a queue only to an
    exchange that the user may read, and the console may read none.
    """
    commands = (
        r"^(email\.(describe|list|count|cancel|unschedule)"
        r"|suppression\.(describe|list|add|remove)|domain\.(describe|list|count)"
        r"|content\.(describe|list|render|resume)|run\.(list|repeat)"
        r"|subscription\.(describe|list|end)"
        r"|client\.(describe|list|register|change|revoke|add_key|revoke_key)|relay\.describe"
        r"|webhook\.(change|describe|list|test|replay|deliveries|tries))$"
    )
    origins = rf"^({_SENDING_QUEUES}|{_alternatives(_WORK_QUEUES)})$"
    back = dict.fromkeys((delay_exchange(DELAYS[0], each) for each in ORIGINS), origins)
    written = _alternatives((COMMANDS, *DELAY_EXCHANGES))
    return User(
        Owner.CONSOLE,
        write=rf"^({written}|({_alternatives(Owner)})\..+)$",
        read=rf"^([a-z]+\.[a-z]+\.dead|{re.escape(UNROUTED)})$",
        topics={
            **dict.fromkeys((EVENTS, DEAD, *DELAY_EXCHANGES), "^$"),
            COMMANDS: commands,
            **back,
        },
    )


def _alternatives(names: Iterable[str]) -> str:
    return "|".join(map(re.escape, names))


# Of which the sending queues are known by their pattern.
_WORK_QUEUES = tuple(name for name in ORIGINS if not re.fullmatch(_SENDING_QUEUES, name))

USERS: tuple[User, ...] = (
    _user(
        Owner.GATEWAY,
        commands=rf"^({_MAIL_KEYS}|email\.(send\.otp|cancel|describe|find|list|count)"
        r"|email\.(schedule\.(transactional|bulk)|reschedule|unschedule)"
        r"|suppression\.(describe|list|add|remove)|code\.(issue|cancel|verify)"
        r"|domain\.(describe|list|count)|run\.(list|repeat)"
        r"|content\.(save|describe|delete|resume|list|render)"
        r"|subscription\.(add|describe|confirm|end|list)"
        r"|webhook\.(create|change|describe|delete|rotate|list|test|replay|deliveries|tries))$",
        events=r"^(client\.removed|feedback\.reported"
        r"|report\.(bounced|delayed|delivered|complained))$",
    ),
    _user(Owner.SENDER, commands=r"^suppression\.announce$", events=r"^email\."),
    _user(Owner.OTP, commands=r"^email\.send\.otp$", events=r"^code\."),
    _user(Owner.CLASSIFIER, events=r"^domain\.classified$"),
    _user(
        Owner.SCHEDULER,
        commands=rf"^{_MAIL_KEYS}$",
        events=r"^(email\.(cancelled|rescheduled)|content\.paused)$",
    ),
    _user(Owner.LEDGER, events=r"^suppression\."),
    _user(
        Owner.INBOUND,
        commands=rf"^({_MAIL_KEYS}|email\.send\.otp|email\.(schedule\.(transactional|bulk))"
        r"|client\.authenticate|email\.find)$",
        events=r"^(report\.|mail\.received$)",
        consumes=False,
    ),
    _user(Owner.WEBHOOKS, events=r"^webhook\.disabled$"),
    _console(),
)

_PROGRAM_NAME = re.compile("[a-z0-9-]{1,50}")
# Of one program at a time (RabbitMQ, "Per-User Limits"); an operator may set others.
PROGRAM_LIMITS: Mapping[str, int] = {"max-connections": 50, "max-channels": 200}
PROGRAM_EVENTS: tuple[str, ...] = tuple(
    key
    for each in CONTRACTS
    if issubclass(each, Event)
    for key in each.keys
    if key.startswith(("email.", "report."))
)
ALL_PROGRAM_EVENTS = ("email.#", "report.#")


def check_program(name: str) -> str:
    """Return the name of a program. Raises ValueError if no program may have it."""
    if not _PROGRAM_NAME.fullmatch(name):
        raise ValueError("must be 1 to 50 of a-z, 0-9 and -")
    if is_reserved(name) or name == OPERATOR:
        raise ValueError(f"{name} is a name of the pipeline or the broker")
    return name


def program_user(name: str) -> User:
    """Return the rights of a program that publishes mail, asks about domains, and reads its queue.

    It may publish with the keys of its own shard, and with those that name no shard.

    It may configure nothing: a queue of its own on `mail.events` that refuses messages would stop
    the outcomes of all, and a dead-letter exchange passes topic rights by (issue 10, A13).
    """
    classes, shard = "|".join(SHARDED), shard_of(name)
    commands = rf"^(email\.send\.({classes})(\.{shard})?|domain\.describe)$"
    return User(
        check_program(name),
        write=rf"^{re.escape(COMMANDS)}$",
        read=rf"^{name}\.events$",
        topics={COMMANDS: commands, EVENTS: "^$"},
    )


def program_queue(name: str, keys: Sequence[str] = ALL_PROGRAM_EVENTS) -> Queue:
    """Return the queue of a program, bound to events of mails and to reports.

    It drops the oldest event when it is full: if it refused the newest, no queue would get one.
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
