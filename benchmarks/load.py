"""A load generator for HTTP: the same request again and again over a number of connections.

In a process of its own, and on the bare protocol: a client library costs as much as the server it
would measure. Reads its task as JSON from standard input and writes what it saw to standard output.
"""

import asyncio
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import orjson
import uvloop

_HEAD_END = b"\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_LENGTH = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)


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

    def request(self) -> bytes:
        """Give the octets of one request."""
        body = self.body.encode()
        headers = {"Host": f"127.0.0.1:{self.port}", **self.headers, "Content-Length": len(body)}
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
        return "\r\n".join([*lines, "", ""]).encode() + body


class Load:
    """All requests of a task, whichever connection they take."""

    def __init__(self, task: Task) -> None:
        self.request = task.request()
        self.statuses: Counter[str] = Counter()
        self.latencies: list[float] = []  # seconds
        self._left = task.count

    def take(self) -> bool:
        """Tell whether there is another request to be sent, and count it."""
        self._left -= 1
        return self._left >= 0


class Caller(asyncio.Protocol):
    """One connection: a request, its answer, the next request. `ended` is set when it is over."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._answer = b""
        self._begun = 0.0
        self.ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """End, also when the server closed it: the answers that are missing then tell."""
        del exc
        self.ended.set()

    def data_received(self, data: bytes) -> None:
        """Note an answer that is complete."""
        self._answer += data
        status = _complete(self._answer)
        if status is not None:
            self._load.latencies.append(time.perf_counter() - self._begun)
            self._load.statuses[status] += 1
            self.ask()

    def ask(self) -> None:
        """Send the next request, if there is one."""
        if not self._load.take():
            self._transport.close()
            return
        self._answer = b""
        self._begun = time.perf_counter()
        self._transport.write(self._load.request)


def _complete(answer: bytes) -> str | None:
    """Give the status of an answer once all of it is there."""
    head_end = answer.find(_HEAD_END)
    if head_end < 0:
        return None
    length, status = _LENGTH.search(answer, 0, head_end), _STATUS.match(answer)
    if length is None or status is None:
        raise ValueError("an answer without a status or a length")
    whole = head_end + len(_HEAD_END) + int(length[1])
    return status[1].decode() if len(answer) >= whole else None


async def call(task: Task) -> Mapping[str, Any]:
    """Send all requests; tell the seconds, how often each status came, and the latencies."""
    load, loop = Load(task), asyncio.get_running_loop()
    callers = []
    for _ in range(task.connections):
        _, caller = await loop.create_connection(lambda: Caller(load), "127.0.0.1", task.port)
        callers.append(caller)
    begun = time.perf_counter()
    for caller in callers:
        caller.ask()
    await asyncio.gather(*(caller.ended.wait() for caller in callers))
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "statuses": load.statuses, "latencies": load.latencies}


if __name__ == "__main__":
    found = uvloop.run(call(Task(**orjson.loads(sys.stdin.buffer.read()))))
    sys.stdout.buffer.write(orjson.dumps(found))
