"""Structured logs on standard output: one JSON object a line, ids bound for each delivery."""

import json
import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, cast

import orjson
import structlog

from shared.contracts.address import domain_of
from shared.runtime.lines import Lines

# Libraries that tell at each start what nobody asked.
QUIET = {
    "alembic": logging.WARNING,
}


# Of structlog's own context each name is a variable, and each line looks at all of them.
_CONTEXT: ContextVar[Mapping[str, str]] = ContextVar("log", default={})  # noqa: B039 -- never changed


def masked(address: str) -> str:
    """Give an address as logs may hold it: the first letter and the domain (j***@example.com)."""
    return f"{address[:1]}***@{domain_of(address)}"


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
    # The lines of libraries take the long way, through the standard library; our own, of which
    # there is one for each mail and request, are written straight out.
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


class _Handler(logging.Handler):
    """Writes the lines of libraries where ours go."""

    def __init__(self, lines: Lines) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        self._lines.write(self.format(record).encode() + b"\n")
        self._lines.flush()


def _gap(service: str, count: int) -> bytes:
    """Return the line that says how many lines are missing; it belongs to no request."""
    told = {"service": service, "event": "log lines dropped", "level": "warning", "count": count}
    return _json(structlog.processors.TimeStamper(fmt="iso", utc=True)(None, "", told)) + b"\n"


def _in_context(
    _: object, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return {**_CONTEXT.get(), **event}


def _json(event: Any, **_: object) -> bytes:  # noqa: ANN401 -- whatever was logged
    try:
        return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        # Text with surrogates, as bytes of a peer are decoded: a line must not fail its writer.
        return json.dumps(event, default=repr, skipkeys=True).encode()


def bind(context: Mapping[str, str]) -> None:
    """Add `context` to every log line of the current task."""
    _CONTEXT.set({**_CONTEXT.get(), **context})
