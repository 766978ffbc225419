"""How every service starts and ends: settings, logs, signals, exit code."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import structlog
import uvloop

from shared import log
from shared.config import Settings
from shared.errors import ConfigError, Unavailable

USAGE = 2  # exit code: the settings are wrong, a restart will not help
FAILURE = 1  # exit code: something needed is not there, a restart may help

S = TypeVar("S", bound=Settings)
Service = Callable[[S, asyncio.Event], Awaitable[None]]

logger = structlog.get_logger(__name__)


def run(service: Service[S], settings: type[S], environ: Mapping[str, str]) -> int:
    """Run a service until SIGTERM or SIGINT and give the exit code.

    The signal only sets the event that the service waits for; it then stops taking work,
    finishes what is in flight and closes. What is wrong is told in lines, not in a traceback.
    """
    try:
        loaded = settings.load(environ)
    except ConfigError as error:
        sys.stderr.write(f"{settings.service}: wrong settings\n{error}\n")
        return USAGE
    log.configure(settings.service, loaded.log_level)
    try:
        uvloop.run(_until_signalled(service, loaded))
    except (Unavailable, OSError) as error:
        logger.error("gave up", reason=str(error))  # noqa: TRY400 -- the line says it all
        return FAILURE
    return 0


async def _until_signalled(service: Service[S], settings: S) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # A signal that comes while the service is still opening ends it too.
    running = asyncio.ensure_future(service(settings, stop))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    await running
    logger.info("stopped")
