"""A command's own output. Of the log of the parts that it uses, only the waiting is shown."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import structlog


@contextmanager
def quiet() -> Iterator[None]:
    """Log only the waiting for a server, in lines on standard error, for the length of the block.

    Everything else that a person must know is raised or returned.
    """
    before, disabled = structlog.get_config(), logging.root.manager.disable
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        processors=[_line],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(disabled)
        structlog.configure(**before)


def _line(_: object, __: str, event: structlog.typing.EventDict) -> str:
    if not str(event["event"]).startswith("waiting for "):
        raise structlog.DropEvent
    return "{event} at {address}: {reason}; {advice}".format_map(event)
