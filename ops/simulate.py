"""`ops simulator`: the SMTP simulator, by itself."""

import argparse
import os
import sys


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Leave all flags to the simulator, `--help` included."""
    parser.prefix_chars = ""
    parser.add_argument("flags", nargs=argparse.REMAINDER)


def run(arguments: argparse.Namespace) -> int:
    """Become the simulator."""
    command = [sys.executable, "-m", "ops.simulator", *arguments.flags]
    os.execv(sys.executable, command)  # noqa: S606 - our own module
