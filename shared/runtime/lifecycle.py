"""The start and end of every service: settings, logs, signals, exit code; and periodic work."""

import asyncio
import gc
import resource
import signal
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Literal, TypeVar

import structlog
import uvloop

from shared.config import Settings, SettingsWarning
from shared.errors import ConfigError, NewerTables, Retry, Unavailable
from shared.runtime import log, tracing

EXIT_USAGE = 2  # settings are wrong, or the version of the tables: a restart does not help
EXIT_FAILURE = 1  # the broker, a database or a port is not available: a restart may help
# New objects before the garbage collector looks for cycles. Requests and messages are freed without
# it; at 700, Python's default, it cost the gateway 7 % of its time.
GC_THRESHOLD = 20_000

# More than the objects of two batches, one handled and one read: some two an event, and no cycles.
# A collection of all of them takes a tenth of a second, in which no question is answered.
BATCHES_GC_THRESHOLD = 1_000_000
# A question waits no longer for a thread that works on a batch, and that thread for it at each
# statement; Python's interval is 5 ms. A shorter one makes small batches a fifth slower, by changes
# of thread.
BATCHES_SWITCH_SECONDS = 0.0002

S = TypeVar("S", bound=Settings)
Service = Callable[[S, asyncio.Event], Awaitable[None]]
Work = Callable[[], Awaitable[object]]

logger = structlog.get_logger(__name__)


def run(
    service: Service[S],
    settings: type[S],
    environ: Mapping[str, str],
    arguments: Sequence[str] = (),
) -> int:
    """Run a service until SIGTERM or SIGINT and return the exit code.

    `arguments` are its flags; if they ask for help, it is printed and nothing runs. The signal only
    sets the event that the service waits for: the service then accepts no more work, finishes the
    work in flight and closes. A second signal cancels the service: it drops the work in flight and
    closes. Errors are reported in lines, not in a traceback.
    """
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", SettingsWarning)
            loaded = settings.load(environ, arguments)
    except ConfigError as error:
        sys.stderr.write(f"{settings.service}: wrong settings\n{error}\n")
        return EXIT_USAGE
    log.configure(settings.service, loaded.log_level)
    for each in warned:
        logger.warning("settings", reason=str(each.message))
    # The soft limit is often 1,024, for programs that call select(2); ours do not.
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    gc.set_threshold(GC_THRESHOLD, *gc.get_threshold()[1:])
    tracing.start(loaded)
    try:
        uvloop.run(_until_signalled(service, loaded))
    except NewerTables as error:
        logger.error("gave up", reason=str(error))  # noqa: TRY400 -- the line says it all
        return EXIT_USAGE
    except (Unavailable, OSError) as error:
        logger.error("gave up", reason=str(error))  # noqa: TRY400 -- the line says it all
        return EXIT_FAILURE
    finally:
        tracing.stop()
    return 0


class _Stop(asyncio.Event):
    """The event that a service waits for; `awaited` is set once the service waits."""

    def __init__(self) -> None:
        super().__init__()
        self.awaited = False

    async def wait(self) -> Literal[True]:
        """Wait for the signal; a service does it after it has opened its resources."""
        self.awaited = True
        return await super().wait()


async def _until_signalled(service: Service[S], settings: S) -> None:
    stop = _Stop()
    running = asyncio.ensure_future(service(settings, stop))

    def end() -> None:
        again = stop.is_set()
        stop.set()
        if running.cancelling():
            return  # a third signal must not interrupt the closing
        if again:
            logger.warning("second signal: ending without the work in flight")
        if again or not stop.awaited:
            # The service is still opening, perhaps waiting for a broker: nothing is in flight.
            running.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    try:
        await running
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
    logger.info("stopped")


def expect_batches() -> None:
    """Set the interpreter up for a process that answers questions beside large batches."""
    sys.setswitchinterval(BATCHES_SWITCH_SECONDS)
    gc.set_threshold(BATCHES_GC_THRESHOLD)


@asynccontextmanager
async def repeating(work: Work, seconds: float, name: str) -> AsyncIterator[None]:
    """Run `work` at once and then every `seconds`, until the block is left.

    Leaving the block cancels it at any point, so `work` must leave nothing half done. A failure is
    logged, without its traceback if it is a Retry, and the next run comes after `seconds` as usual.
    """
    task = asyncio.create_task(_repeat(work, seconds, name), name=name)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _repeat(work: Work, seconds: float, name: str) -> None:
    task = asyncio.current_task()
    # A library may lose a cancellation: aiormq 7 does while it closes a channel.
    while task is not None and not task.cancelling():
        try:
            await work()
        except Retry as error:  # the database is away: no defect, and perhaps its disk is full
            logger.warning("periodic work has to wait", work=name, reason=str(error))
        except Exception:
            logger.exception("periodic work failed", work=name)
        if not task.cancelling():
            await asyncio.sleep(seconds)
