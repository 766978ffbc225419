"""`ops up`: run the local stack in the foreground."""

import argparse
import asyncio
import os
import signal
import sys
from itertools import count

from ops import run_directory
from ops.process import PidFiles
from ops.stack.child import ServiceLogs
from ops.stack.settings import StackError, StackSettings, check_free
from ops.stack.supervisor import Supervisor

_OWNER_ALONE = 0o077  # logs, databases and the mailbox have addresses, and texts of mails
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--config`; ports and places are set by the environment: see docs/settings.md."""
    parser.add_argument(
        "--config", metavar="FILE", help="settings of the services, TOML or JSON (CONFIG_FILE)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the stack until a signal ends it; return 1 and print one line when it cannot start."""
    os.umask(_OWNER_ALONE)
    try:
        settings = StackSettings.load(os.environ, arguments.config)
        with run_directory.held(settings.run_dir):
            if ended := run_directory.clear(settings.run_dir):
                print(f"postrider: ended processes of an earlier stack: {', '.join(ended)}")
            asyncio.run(_until_signalled(settings))
    except StackError as error:
        print(f"postrider: {error}", file=sys.stderr)
        return 1
    return 0


async def _until_signalled(settings: StackSettings) -> None:
    logs = ServiceLogs(settings.run_dir / "logs")
    pids = PidFiles(settings.run_dir / "pids")
    supervisor = Supervisor(settings, os.environ, logs, pids)
    check_free(settings.needed_ports())
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
