"""`ops chaos`: run faults on a stack of one's own, under load, and print what became of it.

It starts stacks in a folder for temporary files, and touches no other one.
"""

import argparse
import secrets
import sys
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

import uvloop

from ops import ports
from ops.chaos.faults import FAULTS, StackFault
from ops.chaos.flows import Endpoint
from ops.chaos.run import ChaosRun
from ops.chaos.scratch import SkippedError, StackKind, opened
from ops.chaos.verdict import FaultResult, table
from ops.cli import print_error, quiet
from ops.load.http import LoadError
from ops.stack.settings import StackError

_PARENT: Final = Path(tempfile.gettempdir()) / "postrider-chaos"
_RUN_BYTES: Final = 3  # of the name of a load


def main() -> int:
    """Run the faults of the command line."""
    parser = argparse.ArgumentParser(prog="python -m ops.chaos", description=__doc__)
    add_arguments(parser)
    return run(parser.parse_args())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the names of faults."""
    parser.add_argument(
        "faults",
        nargs="*",
        metavar="FAULT",
        type=_fault,
        help="a fault, or all of a kind or a part: kill, sender, postgres (default: all)",
    )
    parser.add_argument("--list", action="store_true", help="show the faults, and run none")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the faults; return 1 if a promise was broken, or a stack does not start."""
    faults = list(dict.fromkeys(each for found in arguments.faults for each in found))
    faults = faults or list(FAULTS.values())
    if arguments.list:
        print("\n".join(f"{each.name:18} {each.text}" for each in faults))
        return 0
    try:
        with quiet():
            results = uvloop.run(_run(faults))
    except (StackError, LoadError, TimeoutError) as error:
        return print_error(f"chaos: {error}")
    print(table(results))
    for each in results:
        for line in each.books:
            print(f"{each.fault}: {line}")
    return 1 if any(each.complaints for each in results) else 0


def _fault(text: str) -> Sequence[StackFault]:
    """Return the faults of a name, or of a word of their names."""
    named = [each for each in FAULTS.values() if text in {each.name, *each.name.split("-")}]
    if not named:
        raise argparse.ArgumentTypeError(f"no fault has this name: {text}; --list shows them")
    return named


async def _run(faults: Sequence[StackFault]) -> Sequence[FaultResult]:
    results: list[FaultResult] = []
    ordered = sorted(faults, key=lambda each: list(StackKind).index(each.kind))
    for kind, group in groupby(ordered, key=lambda each: each.kind):
        try:
            results += await _run_on(kind, list(group))
        except SkippedError as error:
            print(f"skipped, {kind}: {error}", file=sys.stderr)
    return results


async def _run_on(kind: StackKind, faults: Sequence[StackFault]) -> Sequence[FaultResult]:
    """Run the faults that need one kind of stack."""
    results: list[FaultResult] = []
    print(f"starting a stack ({kind})", file=sys.stderr)
    async with opened(kind, _PARENT) as scratch, Endpoint.open(*ports.unused(1)) as endpoint:
        await endpoint.register(scratch.addresses)
        runs = ChaosRun(scratch, endpoint)
        for fault in faults:
            print(f"{fault.name}: {fault.text}", file=sys.stderr)
            try:
                results.append(await runs.run(fault, secrets.token_hex(_RUN_BYTES)))
            except SkippedError as error:
                print(f"skipped, {fault.name}: {error}", file=sys.stderr)
            else:
                row = table(results[-1:]).splitlines()[-1]
                print(row, *results[-1].books, sep="\n", file=sys.stderr)
    return results


if __name__ == "__main__":
    sys.exit(main())
