"""Ports that cannot be had."""

from collections.abc import Iterator
from contextlib import contextmanager
from errno import EADDRINUSE


class PortTakenError(Exception):
    """A port cannot be listened on; the message says which and why."""


@contextmanager
def listening(name: str, host: str, port: int) -> Iterator[None]:
    """Turn the failure to listen inside into a PortTakenError."""
    try:
        yield
    except OSError as error:
        # The messages of asyncio repeat the address; the bare reason reads better.
        reason = "the port is taken" if error.errno == EADDRINUSE else str(error)
        raise PortTakenError(f"{name} on {host}:{port}: {reason}") from error
