"""Structured logs on standard output: one JSON object a line, ids bound for each delivery."""

import json
import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, BinaryIO, cast

import orjson
import structlog

from shared.address import domain_of
from shared.lines import Lines

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
    handler = logging.StreamHandler(sys.stdout)
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
        logger_factory=structlog.BytesLoggerFactory(cast("BinaryIO", Lines(sys.stdout.buffer))),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        cache_logger_on_first_use=True,
    )
    bind({"service": service})


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
