"""`ops down`: ends a stack, also one whose launcher was killed."""

import argparse
import os
import sys

from ops.stack import lock
from ops.stack.settings import StackError, StackSettings

# Seconds: the sender has 720, and the gateway before it, the simulator and the broker after it have
# 30 each.
_PATIENCE = 840.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All is set by the environment: RUN_DIR says which stack."""
    del parser


def run(arguments: argparse.Namespace) -> int:
    """End the stack of this run directory; 1 and one line when it does not end."""
    del arguments
    try:
        settings = StackSettings.load(os.environ)
        ended = lock.end_holder(settings.run_dir, _PATIENCE)
        with lock.held(settings.run_dir):
            left = lock.clear(settings.run_dir)
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
