"""`ops`: the commands for operators. A new one is a line in the table."""

import argparse
import os
import pkgutil
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import version

from shared.errors import ConfigError

EXIT_USAGE = 2  # exit code: wrong settings or arguments, as in argparse

# Each function adds the arguments to a parser, and sets `run(arguments) -> exit code`.
_COMMANDS = {
    "up": ("ops.stack.launcher:add_up", "run the local stack in the foreground"),
    "down": ("ops.stack.launcher:add_down", "end the stack, from another terminal too"),
    "simulator": ("ops.simulator.__main__:add_arguments", "run the SMTP simulator by itself"),
    "topology": ("ops.topology:add_arguments", "declare exchanges, queues, bindings, users"),
    "dead": ("ops.dead:add_arguments", "list, show, replay or drop dead letters"),
    "ledger": ("ops.ledger:add_arguments", "check that the books add up, or show one message"),
    "forget": ("ops.ledger:add_forget", "remove a person's address from all services"),
    "dkim": ("ops.dkim:add_arguments", "make DKIM keys, show and check the DNS of a domain"),
    "load": ("ops.load.cli:add_arguments", "put a running stack under load, and check the result"),
    "chaos": ("ops.chaos.__main__:add_arguments", "run faults on a stack of one's own, under load"),
    "classify": ("ops.classify:add_arguments", "classify an SMTP reply"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Ctrl-C ends it without a traceback, also while it is still imported."""
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="ops", description="The commands for operators.")
    parser.add_argument("--version", action="version", version=f"Postrider {version('postrider')}")
    commands = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    chosen = next((word for word in arguments if word in _COMMANDS), None)
    for name, (add_arguments, text) in _COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if name == chosen:  # other commands' libraries are not loaded
            pkgutil.resolve_name(add_arguments)(command)
    parsed = parser.parse_args(arguments)
    if parsed.command is None:
        parser.print_help()
        return 0
    return _quietly(parsed)


def _quietly(parsed: argparse.Namespace) -> int:
    try:
        code = int(parsed.run(parsed))
        sys.stdout.flush()
    except ConfigError as error:
        print(f"ops {parsed.command}: wrong settings\n{error}", file=sys.stderr)
        return EXIT_USAGE
    except BrokenPipeError:  # the reader, such as `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return code


if __name__ == "__main__":
    sys.exit(main())
