"""`ops down`: end a stack, also one whose launcher was killed."""

import argparse
import os
import sys

from ops import run_directory
from ops.stack.settings import StackError, StackSettings

# The sender may need 720 seconds; the gateway, the simulator and the broker 30 each.
_END_SECONDS = 840.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the variable RUN_DIR selects the stack."""
    del parser


def run(arguments: argparse.Namespace) -> int:
    """End the stack of this run directory; return 1 and print one line when it does not end."""
    del arguments
    try:
        settings = StackSettings.load(os.environ)
        ended = run_directory.end_holder(settings.run_dir, _END_SECONDS)
        with run_directory.held(settings.run_dir):
            left = run_directory.clear(settings.run_dir)
    except StackError as error:
        print(f"postrider: {error}", file=sys.stderr)
        return 1
    if left:
        print(f"postrider: ended {', '.join(left)}")
    elif ended:
        print("postrider: ended the stack")
    else:
        print("postrider: nothing is running")
    return 0
