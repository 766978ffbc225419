"""What a RabbitMQ started by us is to those who use it, whatever it runs in."""

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote

from ops.management import Management

START_SECONDS = 90.0  # about 6 on an idle machine, most of it loading code
# 6 seconds on 3.10, whose management agent lets its supervisor time out; quorum queues may add.
STOP_SECONDS = 30.0
_POLL = 0.1  # seconds between two looks at a starting broker
_CONNECT_TIMEOUT = 1.0  # seconds


class BrokerError(Exception):
    """A broker cannot be had or did not start; the message is one line for a person."""


@dataclass(frozen=True)
class Ports:
    """The ports of one broker, all on 127.0.0.1. A container needs the first two only."""

    amqp: int
    management: int
    distribution: int
    epmd: int


@dataclass(frozen=True)
class Address:
    """Where a broker of ours listens and who its administrator is."""

    ports: Ports
    password: str = field(repr=False)
    user: str = "postrider"

    def amqp_url(self, vhost: str = "/") -> str:
        """Give the administrator's AMQP URL of a vhost."""
        account = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"amqp://{account}@127.0.0.1:{self.ports.amqp}/{quote(vhost, safe='')}"

    @property
    def management_url(self) -> str:
        """The management API and its web page; the account is not in it."""
        return f"http://127.0.0.1:{self.ports.management}"

    @property
    def management(self) -> Management:
        """The management API as the administrator."""
        return Management(self.management_url, self.user, self.password)

    def answers(self) -> bool:
        """Whether it takes AMQP connections: RabbitMQ opens this port last of all."""
        try:
            socket.create_connection(("127.0.0.1", self.ports.amqp), _CONNECT_TIMEOUT).close()
        except OSError:
            return False
        return self.management.answers()

    def wait(self, within: float, alive: Callable[[], bool]) -> bool:
        """Wait until it answers; give up after `within` seconds or when it is not `alive`."""
        deadline = time.monotonic() + within
        while not self.answers():
            if time.monotonic() > deadline or not alive():
                return False
            time.sleep(_POLL)
        return True


class Broker(Protocol):
    """A RabbitMQ of our own: a node of this machine or a container."""

    address: Address

    def start(self, within: float = START_SECONDS) -> None:
        """Start it on the data it has; return when it serves. Raises BrokerError."""

    def stop(self, within: float = STOP_SECONDS) -> None:
        """End it in good order, by force after `within` seconds."""

    def join(self) -> str:
        """Wait for its end, however long, and describe it."""

    def kill(self) -> None:
        """End it at once, as a crash would.

        A quorum queue whose declaration is younger than about a second is unusable afterwards:
        RabbitMQ 3.10 writes its registration down late (seen on 3.10.8).
        """

    def restart(self) -> None:
        """Stop in good order and start again on the same data and ports."""

    def discard(self) -> None:
        """End it at once and delete its data."""
