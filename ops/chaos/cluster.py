"""Three RabbitMQ nodes of this machine as one cluster."""

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from ops import ports
from ops.broker import START_SECONDS, STOP_SECONDS, BrokerAddress, BrokerPorts
from ops.node import ClusterMember, RabbitNode, RabbitPrograms
from ops.process import PidFiles, tethered
from ops.stack import messaging
from ops.stack.child import ServiceLogs

SIZE: Final = 3
_PORTS: Final = 3  # of each node, beside the one of epmd
_NEVER: Final = "postrider_parted"  # a cookie that no node has
_JOINED_SECONDS: Final = "60"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Running nodes, each started again when it ends."""

    nodes: Sequence[RabbitNode]
    members: Sequence[ClusterMember]
    directory: Path

    @property
    def amqp_url(self) -> str:
        """The administrator's URL, which names all nodes."""
        first = self.nodes[0].address
        hosts = ",".join(f"127.0.0.1:{each.address.ports.amqp}" for each in self.nodes)
        return first.amqp_url().replace(f"127.0.0.1:{first.ports.amqp}", hosts)

    @property
    def management_url(self) -> str:
        """The management API of the last node, to which no fault is done alone."""
        return self.nodes[-1].address.management_url

    def send_signal(self, number: int, which: signal.Signals) -> None:
        """Send a signal to a node."""
        _pids(self.directory, number).running()["rabbitmq"].signal(which)

    async def restart(self, number: int) -> None:
        """End a node in good order, and wait until it is back and all nodes see each other."""
        process = _pids(self.directory, number).running()["rabbitmq"]
        process.signal(signal.SIGTERM)
        await asyncio.to_thread(process.gone, STOP_SECONDS)
        await self.joined()

    async def joined(self) -> None:
        """Wait until all nodes serve and see each other."""
        for each in self.nodes:
            await asyncio.to_thread(each.address.wait, START_SECONDS, lambda: True)
            words = ("await_online_nodes", str(SIZE), "--timeout", _JOINED_SECONDS)
            await asyncio.to_thread(each.control, *words)

    async def part(self, number: int) -> None:
        """Cut a node off from the others, as a network does: they refuse each other's links."""
        await self._know(number, _NEVER, "erlang:disconnect_node({node})")

    async def heal(self, number: int) -> None:
        """Undo `part`."""
        await self._know(number, self.members[number].cookie, "true")

    async def _know(self, number: int, cookie: str, then: str) -> None:
        """Set the cookie by which a node knows the others."""
        steps = [
            f"erlang:set_cookie('{other.name}', '{cookie}'), {then.format(node=repr(other.name))}"
            for each, other in enumerate(self.members)
            if each != number
        ]
        await asyncio.to_thread(self.nodes[number].control, "eval", f"{', '.join(steps)}.")


@asynccontextmanager
async def clustered(directory: Path) -> AsyncIterator[Cluster]:
    """Run a cluster for the length of the block. Raises BrokerError when it does not start."""
    programs = RabbitPrograms.find()
    assert programs is not None  # noqa: S101 -- its caller has looked
    epmd, *others = ports.unused(1 + SIZE * _PORTS)
    password, cookie = secrets.token_hex(), secrets.token_hex(20)
    names = [f"r{number}@localhost" for number in range(1, SIZE + 1)]
    members = [ClusterMember(name, names, cookie) for name in names]
    nodes = [
        RabbitNode(
            directory / f"r{number}",
            BrokerAddress(BrokerPorts(*three, epmd), password),
            programs,
            _pids(directory, number),
            start_as=tethered,
            member=member,
        )
        for number, (member, three) in enumerate(zip(members, _threes(others), strict=True))
    ]
    async with AsyncExitStack() as stack:
        output = stack.enter_context(_log(directory))
        logs = stack.enter_context(closing(ServiceLogs(directory / "logs", output)))
        kept = (stack.enter_async_context(messaging.kept(each, logs)) for each in nodes)
        await asyncio.gather(*kept)
        cluster = Cluster(nodes, members, directory)
        await cluster.joined()
        yield cluster


def _threes(numbers: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    turns = iter(numbers)
    yield from zip(turns, turns, turns, strict=True)


def _log(directory: Path) -> TextIO:
    directory.mkdir(parents=True, exist_ok=True)
    return (directory / "out").open("w")


def _pids(directory: Path, number: int) -> PidFiles:
    return PidFiles(directory / f"r{number}" / "pids")
