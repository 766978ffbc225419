"""Three RabbitMQ nodes of this machine as one cluster, and a balancer before them."""

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass
from itertools import count
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
_BUFFER_BYTES: Final = 65536
_NEVER: Final = "postrider_parted"  # a cookie that no node has
_JOINED_SECONDS: Final = "60"


@dataclass(frozen=True, slots=True)
class Cluster:
    """Running nodes, each started again when it ends; `port` is the balancer's."""

    nodes: Sequence[RabbitNode]
    members: Sequence[ClusterMember]
    directory: Path
    port: int

    @property
    def amqp_url(self) -> str:
        """The administrator's URL, by the balancer."""
        ports_of_one = self.nodes[0].address
        return ports_of_one.amqp_url().replace(f":{ports_of_one.ports.amqp}/", f":{self.port}/")

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
        port = await stack.enter_async_context(_balanced([n.address.ports.amqp for n in nodes]))
        cluster = Cluster(nodes, members, directory, port)
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


@asynccontextmanager
async def _balanced(targets: Sequence[int]) -> AsyncIterator[int]:
    """Yield a port whose connections go to the targets in turn, past those that refuse."""
    turns, tasks = count(), set[asyncio.Task[None]]()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        turn = next(turns)
        for step in range(len(targets)):
            with suppress(OSError):
                port = targets[(turn + step) % len(targets)]
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
                for source, sink in ((reader, far_writer), (far_reader, writer)):
                    task = asyncio.create_task(_pump(source, sink))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                return
        writer.transport.abort()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for each in tasks:
            each.cancel()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    # What is written to an end that was closed meanwhile is a RuntimeError of uvloop's.
    with suppress(OSError, RuntimeError):
        while data := await source.read(_BUFFER_BYTES):
            sink.write(data)
            await sink.drain()
    sink.transport.abort()
