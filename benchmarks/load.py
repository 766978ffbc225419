"""A load generator for HTTP: the same request again and again over a number of connections.

In a process of its own. Reads its task as JSON from standard input and writes what it saw to
standard output.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
import uvloop
from yarl import URL

from ops.load import caller
from ops.load.caller import Caller


@dataclass(frozen=True, slots=True)
class Task:
    """Send `count` requests over `connections` to a port of 127.0.0.1."""

    port: int
    method: str
    path: str
    count: int
    connections: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""

    @property
    def url(self) -> URL:
        """Where they go."""
        return URL(f"http://127.0.0.1:{self.port}{self.path}")

    def request(self) -> bytes:
        """Give the octets of one request."""
        return caller.request(self.method, self.url, self.headers, self.body.encode())


class Load:
    """All requests of a task, whichever connection they take."""

    def __init__(self, task: Task) -> None:
        self.statuses: Counter[str] = Counter()
        self.latencies: list[float] = []  # seconds
        self._request = task.request()
        self._left = task.count

    async def over(self, connection: Caller) -> None:
        """Send requests until there are none; a connection that is lost ends it, as counts tell."""
        with suppress(ConnectionError):
            while self._take():
                begun = time.perf_counter()
                answer = await connection.ask(self._request)
                self.latencies.append(time.perf_counter() - begun)
                self.statuses[str(answer.status)] += 1
        connection.close()

    def _take(self) -> bool:
        self._left -= 1
        return self._left >= 0


async def call(task: Task) -> Mapping[str, Any]:
    """Send all requests; tell the seconds, how often each status came, and the latencies."""
    load = Load(task)
    connections = [await Caller.connect(task.url) for _ in range(task.connections)]
    begun = time.perf_counter()
    await asyncio.gather(*map(load.over, connections))
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "statuses": load.statuses, "latencies": load.latencies}


if __name__ == "__main__":
    found = uvloop.run(call(Task(**orjson.loads(sys.stdin.buffer.read()))))
    sys.stdout.buffer.write(orjson.dumps(found))
