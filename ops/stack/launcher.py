"""`ops up` and `ops down`: run the local stack in the foreground, and end it."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable
from itertools import count

from ops import run_directory
from ops.process import PidFiles
from ops.stack.child import ServiceLogs
from ops.stack.settings import StackError, StackSettings
from ops.stack.supervisor import Supervisor

_OWNER_ALONE = 0o077  # logs, databases and the mailbox have addresses, and texts of mails
# The sender may need 720 seconds; the gateway, the simulator and the broker 30 each.
_END_SECONDS = 840.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_up(parser: argparse.ArgumentParser) -> None:
    """Add `--config`; ports and places are set by the environment: see docs/settings.md."""
    parser.add_argument(
        "--config", metavar="FILE", help="settings of the services, TOML or JSON (CONFIG_FILE)"
    )
    parser.set_defaults(run=_run(_up))


def add_down(parser: argparse.ArgumentParser) -> None:
    """Add no argument: the variable RUN_DIR selects the stack, also one whose launcher died."""
    parser.set_defaults(run=_run(_down))


def _run(command: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], int]:
    """Return a command that prints a StackError as one line and returns 1."""

    def run(arguments: argparse.Namespace) -> int:
        try:
            command(arguments)
        except StackError as error:
            print(f"postrider: {error}", file=sys.stderr)
            return 1
        return 0

    return run


def _up(arguments: argparse.Namespace) -> None:
    """Run the stack until a signal ends it. Raises StackError when it cannot start."""
    settings = StackSettings.load(os.environ, arguments.config)
    os.umask(_OWNER_ALONE)
    with run_directory.held(settings.run_dir):
        if ended := run_directory.clear(settings.run_dir):
            print(f"postrider: ended processes of an earlier stack: {', '.join(ended)}")
        asyncio.run(_until_signalled(settings))


def _down(_: argparse.Namespace) -> None:
    """End the stack of this run directory. Raises StackError when it does not end."""
    settings = StackSettings.load(os.environ)
    ended = run_directory.end_holder(settings.run_dir, _END_SECONDS)
    with run_directory.held(settings.run_dir):
        left = run_directory.clear(settings.run_dir)
    if left:
        print(f"postrider: ended {', '.join(left)}")
    else:
        print(f"postrider: {'ended the stack' if ended else 'nothing is running'}")


async def _until_signalled(settings: StackSettings) -> None:
    logs = ServiceLogs(settings.run_dir / "logs", sys.stdout)
    pids = PidFiles(settings.run_dir / "pids")
    supervisor = Supervisor(settings, os.environ, logs, pids)
    running = asyncio.create_task(supervisor.run(), name="stack")
    signals = count(1)

    def end() -> None:
        match next(signals):
            case 1:
                logs.print("\npostrider: ending; Ctrl-C again ends it at once")
                running.cancel()
            case 2:
                logs.print("postrider: ending at once; Ctrl-C again kills everything")
                supervisor.hurry()
            case _:
                supervisor.kill()

    loop = asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, end)
    try:
        await running
    except asyncio.CancelledError:
        logs.print("postrider: ended, nothing is left running")
    finally:
        logs.close()
