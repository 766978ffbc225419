"""Structured logs on standard output: one JSON object a line, with the ids of the delivery.

The lines of one turn of the event loop leave together, and no line waits for its reader: each
system call costs as much as making some lines. A pipe or terminal that nothing reads is full after
some hundred lines, and a process that waited for it would serve no request (issue 10, A10).
"""

import asyncio
import atexit
import json
import logging
import os
import select
import sys
import threading
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, cast
from urllib.parse import unquote

import orjson
import structlog

from shared.contracts.address import domain_of
from shared.runtime import metrics

MAX_WAITING_BYTES = 1024 * 1024
RETRY_SECONDS = 0.01  # until the next try to write lines that wait
END_SECONDS = 1.0  # to wait for the reader of the last lines when the process ends
# Libraries that log details of each start.
QUIET = {
    "alembic": logging.WARNING,
    # What it logs of a lost connection or a returned message is raised as well, and logged by us.
    "aiormq": logging.CRITICAL,
    "aio_pika": logging.CRITICAL,
    # Of a malformed tracestate, of which any client can send many, it logs the text.
    "opentelemetry.trace": logging.ERROR,
}


# Structlog's own context has a variable for each name, and each line reads all of them.
_CONTEXT: ContextVar[Mapping[str, str]] = ContextVar("log", default={})  # noqa: B039 -- never changed


def masked(address: str) -> str:
    """Return an address as logs may hold it: the first letter and the domain (j***@example.com)."""
    return f"{address[:1]}***@{domain_of(address)}"


def masked_path(raw_path: str) -> str:
    """Return the path of a URL, still in percent-encoding, as logs may hold it: see `masked`."""
    if "@" not in raw_path and "%" not in raw_path:
        return raw_path
    return "/".join(without_address(unquote(part)) for part in raw_path.split("/"))


def without_address(text: str) -> str:
    """Return a text that a client made up, masked if it is an address, however often encoded."""
    if "@" in text:
        return masked(text)
    plain = text
    while (decoded := unquote(plain)) != plain:  # it is shorter each time
        plain = decoded
    return "***" if "@" in plain else text


def configure(service: str, level: str) -> None:
    """Send all logs of this process, those of libraries too, to standard output as JSON."""
    common: list[structlog.typing.Processor] = [
        _in_context,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    lines = Lines(sys.stdout.fileno(), partial(_gap, service))
    handler = _Handler(lines)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=common,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    # The lines of libraries go through the standard library. Our own, one for each mail or request,
    # are written directly, which is faster.
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for name, least in QUIET.items():
        logging.getLogger(name).setLevel(least)
    structlog.configure(
        processors=[*common, structlog.processors.JSONRenderer(serializer=_json)],
        logger_factory=structlog.BytesLoggerFactory(cast("Any", lines)),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        cache_logger_on_first_use=True,
    )
    bind({"service": service})


def _gap(service: str, count: int) -> bytes:
    """Return the line with the number of lines that were dropped."""
    event = {"service": service, "event": "log lines dropped", "level": "warning", "count": count}
    return _json(structlog.processors.TimeStamper(fmt="iso", utc=True)(None, "", event)) + b"\n"


def _in_context(
    _: object, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return {**_CONTEXT.get(), **event}


def _json(event: Any, **_: object) -> bytes:  # noqa: ANN401 -- whatever was logged
    try:
        return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        # Text with surrogates, into which bytes of a peer are decoded: logging must not raise.
        return json.dumps(event, default=repr, skipkeys=True).encode()


def bind(context: Mapping[str, str]) -> None:
    """Add `context` to every log line of the current task."""
    _CONTEXT.set({**_CONTEXT.get(), **context})


def unbind(name: str) -> None:
    """Remove what `bind` has added by this name."""
    _CONTEXT.set({each: text for each, text in _CONTEXT.get().items() if each != name})


class Lines:
    """Writes the lines of one turn of the event loop at its end, and all others at once.

    Lines wait for their reader, up to MAX_WAITING_BYTES; more are dropped and counted. When it
    reads again, `dropped` makes a line out of their number. A process that is killed loses the
    lines of its last turn and the lines that wait.
    """

    def __init__(self, descriptor: int, dropped: Callable[[int], bytes]) -> None:
        self._descriptor = _unblocked(descriptor)
        self._dropped = dropped
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)
        self._waiting = bytearray()
        self._missing = 0
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None  # of the next sending
        atexit.register(self._end)

    def write(self, line: bytes) -> None:
        """Add a line, with its line break, or count it as dropped if there is no room."""
        with self._lock:
            if len(self._waiting) + len(line) <= MAX_WAITING_BYTES:
                self._waiting += line
            else:
                self._drop(1)

    def flush(self) -> None:
        """Send the lines at the end of the current turn, or at once outside of the loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # of another thread, or before or after the loop
            self._send()
            return
        if self._loop is not loop:
            self._loop = loop
            loop.call_soon(self._send_in, loop)

    def _send_in(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = None
        self._send()
        if self._waiting:
            self._loop = loop
            loop.call_later(RETRY_SECONDS, self._send_in, loop)

    def _end(self) -> None:
        self._send(END_SECONDS)

    def _send(self, patience: float = 0.0) -> None:
        """Write as much as the reader takes; wait up to `patience` seconds for each part."""
        with self._lock:
            try:
                while self._next() and self._poll.poll(patience * 1000):
                    # A pipe that is ready takes PIPE_BUF bytes without blocking (pipe(7)).
                    taken = os.write(self._descriptor, self._waiting[: select.PIPE_BUF])
                    del self._waiting[:taken]
            except BlockingIOError:
                pass
            except OSError:  # the reader is closed, or the disk is full: serving goes on
                self._drop(self._waiting.count(b"\n"))
                self._waiting.clear()

    def _next(self) -> bool:
        """Return whether there is something to write; after dropped lines, that is their number."""
        if self._missing and not self._waiting:
            self._waiting += self._dropped(self._missing)
            self._missing = 0
        return bool(self._waiting)

    def _drop(self, count: int) -> None:
        self._missing += count
        metrics.LOG_LINES_DROPPED.inc(count)


class _Handler(logging.Handler):
    """Writes the lines of libraries to the same place as ours."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        self._lines.write(self.format(record).encode() + b"\n")
        self._lines.flush()


def _unblocked(descriptor: int) -> int:
    """Return a descriptor of a terminal that never blocks; any other descriptor as it is.

    A terminal that is ready may take fewer bytes than it is given. The flag is set on a new open
    file, since the inherited one is also the shell's.
    """
    if not os.isatty(descriptor):
        return descriptor
    try:
        return os.open(os.ttyname(descriptor), os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return descriptor
