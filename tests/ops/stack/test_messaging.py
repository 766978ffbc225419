"""The stack's own broker is restarted whenever it ends, until the stack ends."""

import asyncio
import io
import threading
from pathlib import Path

import pytest

from ops.broker import BrokerAddress, BrokerError, BrokerPorts
from ops.stack.child import ServiceLogs
from ops.stack.messaging import given, kept
from ops.stack.settings import StackError, StackSettings
from tests.waiting import until


class Node:
    """A broker that ends when a test says so, and may refuse to start."""

    address = BrokerAddress(BrokerPorts(1, 2, 3, 4), "secret")

    def __init__(self, *refusals: str) -> None:
        self.starts: list[str] = []
        self._refusals = list(refusals)
        self._dead = threading.Event()

    def start(self, within: float = 1.0) -> None:
        """Start, except for some times after the first one."""
        del within
        self.starts.append(threading.current_thread().name)
        if len(self.starts) > 1 and self._refusals:
            raise BrokerError(self._refusals.pop(0))
        self._dead.clear()

    def join(self) -> str:
        """Wait for the end."""
        self._dead.wait()
        return "was ended by SIGKILL"

    def stop(self, within: float = 1.0) -> None:
        """End it."""
        del within
        self._dead.set()

    kill = restart = discard = die = stop


async def test_a_given_broker_that_is_away_is_one_line() -> None:
    """The line names the variable and what to do, without the password."""
    url = "amqp://ada:hunter2@127.0.0.1:1/"  # RFC 6335 6: nobody runs port 1
    with pytest.raises(StackError) as caught:
        async with given(StackSettings.load({"AMQP_URL": url})):
            pass

    (line,) = str(caught.value).splitlines()
    assert line.startswith("RabbitMQ at amqp://ada:***@127.0.0.1:1/ (AMQP_URL) cannot be used: ")
    assert line.endswith("; start it there, or set AMQP_URL to where it listens")


@pytest.mark.parametrize("refusals", [(), ("RabbitMQ did not start: a port is taken",)])
async def test_a_broker_that_dies(tmp_path: Path, refusals: tuple[str, ...]) -> None:
    """The broker is restarted until it runs, always by one thread, which outlives it."""
    terminal, node = io.StringIO(), Node(*refusals)

    async def runs_again() -> bool:
        return "RabbitMQ runs again" in terminal.getvalue()

    async with kept(node, ServiceLogs(tmp_path, terminal)):
        node.die()
        await until(runs_again)

    first, *others = terminal.getvalue().splitlines()
    assert first == ("postrider: RabbitMQ was ended by SIGKILL: starting it again in 0.5 seconds")
    assert [line for line in others if "starting" not in line] == [
        *(f"postrider: {reason}" for reason in refusals),
        "postrider: RabbitMQ runs again",
    ]
    assert len(set(node.starts)) == 1
    assert node.starts[0] != threading.current_thread().name


async def test_a_broker_that_is_stopped(tmp_path: Path) -> None:
    """A stopped broker is not restarted."""
    terminal, node = io.StringIO(), Node()
    async with kept(node, ServiceLogs(tmp_path, terminal)):
        await asyncio.sleep(0)

    assert (terminal.getvalue(), len(node.starts)) == ("", 1)
