"""A load generator for HTTP: the same request again and again over a number of connections.

In a process of its own. Reads its task as JSON from standard input and writes what it saw to
standard output.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import orjson
import uvloop
from yarl import URL

from ops.load import http
from ops.load.http import HttpConnection


@dataclass(frozen=True, slots=True)
class Task:
    """Send `count` requests over `connections` to a port of 127.0.0.1.

    All of them have `body`, or each one of `bodies`. An answer without `expected` in it does not
    count under its status.
    """

    port: int
    method: str
    path: str
    count: int
    connections: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    bodies: Sequence[str] = ()
    expected: str = ""

    @property
    def url(self) -> URL:
        """Where they go."""
        return URL(f"http://127.0.0.1:{self.port}{self.path}")

    def requests(self) -> Iterator[bytes]:
        """Give the octets of each request."""
        if not self.bodies:
            return repeat(self._request(self.body), self.count)
        return iter([self._request(body) for body in self.bodies])

    def _request(self, body: str) -> bytes:
        return http.encode_request(self.method, self.url, self.headers, body.encode())


class Load:
    """All requests of a task, whichever connection they take."""

    def __init__(self, task: Task) -> None:
        self.statuses: Counter[str] = Counter()
        self.latencies: list[float] = []  # seconds
        self._requests = task.requests()
        self._expected = task.expected.encode()

    async def over(self, connection: HttpConnection) -> None:
        """Send requests until there are none; a connection that is lost ends it, as counts tell."""
        with suppress(ConnectionError):
            for request in self._requests:
                begun = time.perf_counter()
                answer = await connection.request(request)
                self.latencies.append(time.perf_counter() - begun)
                odd = "" if self._expected in answer.body else " of another text"
                self.statuses[f"{answer.status}{odd}"] += 1
        connection.close()


async def call(task: Task) -> Mapping[str, Any]:
    """Send all requests; tell the seconds, how often each status came, and the latencies."""
    load = Load(task)
    connections = [await HttpConnection.connect(task.url) for _ in range(task.connections)]
    begun = time.perf_counter()
    await asyncio.gather(*map(load.over, connections))
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "statuses": load.statuses, "latencies": load.latencies}


if __name__ == "__main__":
    found = uvloop.run(call(Task(**orjson.loads(sys.stdin.buffer.read()))))
    sys.stdout.buffer.write(orjson.dumps(found))
