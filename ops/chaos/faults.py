"""The faults, as data: what each does to a stack, how it is undone, and what must follow."""

import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from ops.chaos.cluster import Cluster
from ops.chaos.scratch import BROKER, RELAY, ScratchStack, StackKind
from ops.stack.settings import SERVICES

Action = Callable[[ScratchStack], Awaitable[None]]

BOUND_SECONDS: Final = 10.0
# A killed sender's mails wait for the end of its claims (SENDER_CLAIM_SECONDS, 30), and up to 10
# seconds more for their next try. Mails that a relay cut off wait for the delay queues.
TAKEOVER_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 6.0
# Beyond three heartbeats and three seconds, after which a connection counts as lost.
_SILENCE_SECONDS: Final = 40.0
_PARTED_SECONDS: Final = 20.0
_PROMOTED_SECONDS: Final = 3.0  # a program that watches the primary needs longer
_JUMP_SECONDS: Final = 8.0
_HOUR_SECONDS: Final = 3600
_DAY_SECONDS: Final = 24 * _HOUR_SECONDS
_NO_DISK: Final = "1000000GB"
_SOME_DISK: Final = "200MB"
_SOME_MEMORY: Final = "0.4"  # RabbitMQ's default
_STATEFUL: Final = tuple(each for each in SERVICES if each != "inbound")


async def _nothing(_: ScratchStack) -> None:
    """Do nothing: what the fault ends is started again by the stack."""


@dataclass(frozen=True, slots=True)
class StackFault:
    """A fault that lasts `held_seconds` between `begin` and `end`.

    Recovery counts from its end, or from its begin if it has none, or if the stack must go on
    meanwhile (`survived`). `backlog_seconds`, and as long as it lasted, is the bound for what
    waited. One that `expires` sets clocks, by which codes are too late. After one that `doubles`,
    SMTP cannot tell whether mails of the classes that are sent again have arrived, and no result
    says so.
    """

    name: str
    text: str
    begin: Action
    end: Action = _nothing
    held_seconds: float = 0.0
    kind: StackKind = StackKind.PLAIN
    backlog_seconds: float = BOUND_SECONDS
    doubles: bool = False
    expires: bool = False
    survived: bool = False

    @property
    def is_over_at_once(self) -> bool:
        """Whether it has no end."""
        return self.end is _nothing


def _signal(number: signal.Signals, name: str) -> Action:
    async def send(scratch: ScratchStack) -> None:
        scratch.send_signal(name, number)

    return send


def _limit(name: str, octets: int | None) -> Action:
    async def limit(scratch: ScratchStack) -> None:
        scratch.limit_files(name, octets)

    return limit


def _control(*words: str) -> Action:
    return lambda scratch: scratch.control(*words)


def _to_postgres(number: signal.Signals) -> Action:
    async def send(scratch: ScratchStack) -> None:
        scratch.signal_postgres(number)

    return send


def _of_services() -> Iterator[StackFault]:
    for name in SERVICES:
        is_sender = name == "sender"
        backlog = TAKEOVER_SECONDS if is_sender else BOUND_SECONDS
        kill, end = (_signal(each, name) for each in (signal.SIGKILL, signal.SIGTERM))
        text = f"kill -9 of {name}"
        yield StackFault(f"kill-{name}", text, kill, backlog_seconds=backlog, doubles=is_sender)
        yield StackFault(f"roll-{name}", f"SIGTERM to {name}, and its start", end)
    for name in _STATEFUL:
        yield StackFault(
            f"full-{name}",
            f"no file of {name} can grow, as on a full disk (SQLite)",
            _limit(name, 0),
            _limit(name, None),
            _PAUSE_SECONDS,
        )


def _of_clocks() -> Iterator[StackFault]:
    fault = partial(StackFault, held_seconds=_JUMP_SECONDS, kind=StackKind.CLOCKS, expires=True)
    for name in SERVICES:
        text = f"the clock of {name} is an hour ahead for some seconds"
        yield fault(f"clock-{name}", text, _set_clocks(_HOUR_SECONDS, name), _set_clocks(0))
    for name, seconds, how in (
        ("ahead", _HOUR_SECONDS, "an hour ahead"),
        ("day", _DAY_SECONDS, "a day ahead"),
        ("behind", -_HOUR_SECONDS, "an hour behind"),
    ):
        text = f"the clocks of all services are {how} for some seconds"
        yield fault(f"clock-{name}", text, _set_clocks(seconds), _set_clocks(0))


def _set_clocks(seconds: int, *names: str) -> Action:
    async def set_clocks(scratch: ScratchStack) -> None:
        scratch.set_clocks(names or SERVICES, seconds)

    return set_clocks


def _of_broker() -> Iterator[StackFault]:
    stop, go = _signal(signal.SIGSTOP, BROKER), _signal(signal.SIGCONT, BROKER)
    back: Action = ScratchStack.broker_is_back
    kill, end = (
        partial(ScratchStack.end_broker, number=each) for each in (signal.SIGKILL, signal.SIGTERM)
    )
    yield StackFault("kill-broker", "kill -9 of RabbitMQ, and its start", kill, back)
    yield StackFault("roll-broker", "SIGTERM to RabbitMQ, and its start", end, back)
    yield StackFault(
        "pause-broker", "RabbitMQ is stopped for some seconds", stop, go, _PAUSE_SECONDS
    )
    text = "RabbitMQ is stopped for longer than its heartbeats"
    yield StackFault("silence-broker", text, stop, go, _SILENCE_SECONDS)
    yield StackFault(
        "memory-alarm",
        "RabbitMQ takes no messages: its memory is full",
        _control("set_vm_memory_high_watermark", "0"),
        _control("set_vm_memory_high_watermark", _SOME_MEMORY),
        _PAUSE_SECONDS,
    )
    yield StackFault(
        "disk-alarm",
        "RabbitMQ takes no messages: its disk is full",
        _control("set_disk_free_limit", _NO_DISK),
        _control("set_disk_free_limit", _SOME_DISK),
        _PAUSE_SECONDS,
    )


def _of_relay() -> Iterator[StackFault]:
    stop, go = _signal(signal.SIGSTOP, RELAY), _signal(signal.SIGCONT, RELAY)
    kill = _signal(signal.SIGKILL, RELAY)
    yield StackFault(
        "stall-relay", "the SMTP relay is silent for some seconds", stop, go, _PAUSE_SECONDS
    )
    yield StackFault(
        "cut-relay",
        "kill -9 of the SMTP relay, and its start",
        kill,
        backlog_seconds=TAKEOVER_SECONDS,
    )


def _of_postgres() -> Iterator[StackFault]:
    stop, go = _to_postgres(signal.SIGSTOP), _to_postgres(signal.SIGCONT)
    restart: Action = ScratchStack.restart_postgres
    fault = partial(StackFault, kind=StackKind.POSTGRES)
    kill = _to_postgres(signal.SIGKILL)
    yield fault("kill-postgres", "kill -9 of PostgreSQL, and its start", kill, restart)
    yield fault(
        "pause-postgres", "PostgreSQL is stopped for some seconds", stop, go, _PAUSE_SECONDS
    )
    yield StackFault(
        "failover-postgres",
        "kill -9 of PostgreSQL's primary, and its standby is promoted",
        kill,
        ScratchStack.promote_standby,
        _PROMOTED_SECONDS,
        StackKind.STANDBY,
    )


def _of_cluster() -> Iterator[StackFault]:
    fault = partial(StackFault, kind=StackKind.CLUSTER)
    text = "kill -9 of a RabbitMQ node of three, and its start"
    yield fault("kill-node", text, _on_cluster(partial(_signal_node, which=signal.SIGKILL)))
    yield fault("roll-nodes", "each RabbitMQ node in turn ends and starts", _on_cluster(_roll))
    yield fault(
        "pause-node",
        "a RabbitMQ node is stopped for some seconds",
        _on_cluster(partial(_signal_node, which=signal.SIGSTOP)),
        _on_cluster(partial(_signal_node, which=signal.SIGCONT)),
        _PARTED_SECONDS,
    )
    yield fault(
        "partition-node",
        "a RabbitMQ node is cut off from the two others",
        _on_cluster(lambda cluster: cluster.part(0)),
        _on_cluster(lambda cluster: cluster.heal(0)),
        _PARTED_SECONDS,
        survived=True,
    )


def _on_cluster(action: Callable[[Cluster], Awaitable[None]]) -> Action:
    async def act(scratch: ScratchStack) -> None:
        assert scratch.cluster is not None  # noqa: S101 -- by the kind of the stack
        await action(scratch.cluster)

    return act


async def _signal_node(cluster: Cluster, which: signal.Signals) -> None:
    cluster.send_signal(0, which)


async def _roll(cluster: Cluster) -> None:
    for number in range(len(cluster.nodes)):
        await cluster.restart(number)


def _named() -> Iterator[StackFault]:
    yield from _of_services()
    yield from _of_clocks()
    yield from _of_broker()
    yield from _of_relay()
    yield from _of_postgres()
    yield from _of_cluster()


FAULTS: Final = {each.name: each for each in _named()}
