"""A RabbitMQ server of our own: its address, its interface, its management API."""

import base64
import http.client
import json
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote

from yarl import URL

from shared.config.url import tls
from shared.rights import User
from shared.topology import EXCHANGES, Exchange

NOTHING = "^$"  # the pattern that matches no name and no key
_REQUEST_SECONDS = 10.0
_PORT, _TLS_PORT = 15672, 15671  # https://www.rabbitmq.com/docs/management
START_SECONDS = 90.0  # about 6 on an idle machine, most of it loading code
# RabbitMQ 3.10 takes 6 seconds, for its management agent times out; quorum queues may add.
STOP_SECONDS = 30.0
_POLL_SECONDS = 0.1
_CONNECT_SECONDS = 1.0


class ManagementError(Exception):
    """The management API refused a request."""


@dataclass(frozen=True)
class Management:
    """The management API as one user. Methods raise OSError when it cannot be reached."""

    url: str
    user: str
    password: str

    def request(self, method: str, path: str, body: object = None) -> object:
        """Send one request under `/api`; return the decoded response, None when it is empty.

        Raises ManagementError for any status but 2xx.
        """
        connection = self._connection()
        token = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        headers = {"authorization": f"Basic {token}", "content-type": "application/json"}
        try:
            connection.request(method, f"/api{path}", json.dumps(body), headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if not http.client.OK <= response.status < http.client.MULTIPLE_CHOICES:
            raise ManagementError(f"{method} {path}: {response.status} {content.decode()}")
        return json.loads(content) if content else None

    def _connection(self) -> http.client.HTTPConnection:
        where = URL(self.url)
        host, port = where.host or "", where.explicit_port
        context = tls(where)
        if context is None:
            return http.client.HTTPConnection(host, port or _PORT, timeout=_REQUEST_SECONDS)
        return http.client.HTTPSConnection(
            host, port or _TLS_PORT, timeout=_REQUEST_SECONDS, context=context
        )

    def answers(self) -> bool:
        """Return whether it is up and accepts the user."""
        try:
            self.request("GET", "/whoami")
        except (OSError, http.client.HTTPException, ManagementError):
            return False
        return True

    def add_vhost(self, name: str) -> None:
        """Create a vhost, and all rights in it for this user."""
        self.request("PUT", f"/vhosts/{quote(name, safe='')}", {})
        rights = {"configure": ".*", "write": ".*", "read": ".*"}
        self.request("PUT", f"/permissions/{quote(name, safe='')}/{quote(self.user)}", rights)

    def put_exchange(self, vhost: str, exchange: Exchange) -> None:
        """Declare an exchange in a vhost; harmless when it is there as described."""
        alternate = {"alternate-exchange": exchange.alternate} if exchange.alternate else {}
        body = {"type": exchange.kind, "durable": True, "arguments": alternate}
        self.request("PUT", f"/exchanges/{quote(vhost, safe='')}/{exchange.name}", body)

    def put_user(self, vhost: str, user: User, account: Mapping[str, str]) -> None:
        """Create or change a user and its rights in a vhost; `account` has password or hash.

        Exchanges come first: RabbitMQ 4.3 refuses rights for an exchange that is missing.
        """
        for each in EXCHANGES:
            self.put_exchange(vhost, each)
        where = f"{quote(vhost, safe='')}/{user.name}"
        self.request("PUT", f"/users/{user.name}", {**account, "tags": ""})
        # Keys before exchanges: without a pattern for keys a user may write every key.
        for exchange, keys in user.topics.items():
            rights = {"exchange": exchange, "write": keys, "read": NOTHING}
            self.request("PUT", f"/topic-permissions/{where}", rights)
        rights = {"configure": NOTHING, "write": user.write, "read": user.read}
        self.request("PUT", f"/permissions/{where}", rights)

    def remove_vhost(self, name: str) -> None:
        """Delete a vhost and all that is in it, which closes its connections."""
        self.request("DELETE", f"/vhosts/{quote(name, safe='')}")


class BrokerError(Exception):
    """There is no broker, or it did not start. The message is one line for a person."""


@dataclass(frozen=True)
class BrokerPorts:
    """The ports of one broker, all on 127.0.0.1. A container needs the first two only."""

    amqp: int
    management: int
    distribution: int
    epmd: int


@dataclass(frozen=True)
class BrokerAddress:
    """The ports of a broker on 127.0.0.1, and its administrator."""

    ports: BrokerPorts
    password: str = field(repr=False)
    user: str = "postrider"

    def amqp_url(self, vhost: str = "/") -> str:
        """Return the administrator's AMQP URL of a vhost."""
        account = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"amqp://{account}@127.0.0.1:{self.ports.amqp}/{quote(vhost, safe='')}"

    @property
    def management_url(self) -> str:
        """The address of the management API and its web page, without a user."""
        return f"http://127.0.0.1:{self.ports.management}"

    @property
    def management(self) -> Management:
        """The management API as the administrator."""
        return Management(self.management_url, self.user, self.password)

    def answers(self) -> bool:
        """Return whether it accepts AMQP connections: RabbitMQ opens this port last."""
        try:
            socket.create_connection(("127.0.0.1", self.ports.amqp), _CONNECT_SECONDS).close()
        except OSError:
            return False
        return self.management.answers()

    def wait(self, within: float, alive: Callable[[], bool]) -> bool:
        """Wait until it answers; return False after `within` seconds, or if it is not `alive`."""
        deadline = time.monotonic() + within
        while not self.answers():
            if time.monotonic() > deadline or not alive():
                return False
            time.sleep(_POLL_SECONDS)
        return True


class RabbitServer(Protocol):
    """A RabbitMQ of our own: a node of this machine or a container."""

    address: BrokerAddress

    def start(self, within: float = START_SECONDS) -> None:
        """Start it on its data; return when it serves. Raises BrokerError."""

    def stop(self, within: float = STOP_SECONDS) -> None:
        """End it in good order, by force after `within` seconds."""

    def join(self) -> str:
        """Wait for its end, however long, and describe it."""

    def kill(self) -> None:
        """End it at once, as a crash would.

        A quorum queue that was declared less than about a second before is unusable afterwards:
        RabbitMQ 3.10 stores its registration late (seen on 3.10.8).
        """

    def restart(self) -> None:
        """Stop in good order and start again on the same data and ports."""
        self.stop()
        self.start()

    def discard(self) -> None:
        """End it at once and delete its data."""
