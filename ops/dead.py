"""`ops dead`: list and show dead letters, replay them, or drop them.

A dead letter that is not acknowledged returns to its queue when the channel closes. Until then no
other reader sees it.
"""

import argparse
import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator

from ops import cli, dead_letters
from ops.cli import print_error
from ops.dead_letters import DeadLetterFilter, DeadLetterTally
from shared import dead_letter
from shared.broker import Broker, DeadLetterQueue
from shared.dead_letter import DeadLetter
from shared.errors import Unavailable
from shared.inflight import DeliveryTag

_LIST_LIMIT = 10_000  # dead letters of each queue, read in about a minute
_SHOW_LIMIT = 10
_MAX_LINE_BYTES = 100  # of a typed answer
_EVERYTHING = DeadLetterFilter(everything=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="count letters by queue, cause and reason")
    listing.add_argument("--json", action="store_true", help="for programs")
    _add_limit(listing, "read at most N letters of each queue", _LIST_LIMIT)
    show = actions.add_parser("show", help="show headers and body of letters")
    show.add_argument("queue", choices=dead_letter.dead_queues(), metavar="QUEUE")
    show.add_argument("id", nargs="?", metavar="ID", help="of one letter, else the first ones")
    show.add_argument("--body", action="store_true", help="show mail contents and codes, too")
    _add_limit(show, "show at most N letters", _SHOW_LIMIT)
    replay = actions.add_parser("replay", help="send letters back to their queue")
    _add_selection(replay)
    drop = actions.add_parser("drop", help="delete letters for good")
    _add_selection(drop)
    drop.add_argument("--yes", action="store_true", help="do not ask")
    for action in (listing, show, replay, drop):
        cli.add_amqp_url(action)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the action and return the exit code; print an error as one line."""
    return cli.run_on_broker(_run, arguments)


async def _run(url: str, arguments: argparse.Namespace) -> int:
    async with Broker.connect(url, "ops dead", patience=0) as broker:
        match arguments.action:
            case "list":
                return await _list(broker, arguments.limit, as_json=arguments.json)
            case "show":
                return await _show(broker, arguments)
            case "replay":
                return await _replay(broker, arguments)
            case _:
                return await _drop(broker, arguments)


async def _list(broker: Broker, limit: int, *, as_json: bool) -> int:
    tally, readable = DeadLetterTally(), True
    for queue in dead_letter.dead_queues():
        try:
            await _count(broker, queue, limit, tally)
        except Unavailable as error:
            readable = False
            print_error(error)
    groups = tally.groups()
    if as_json:
        print(dead_letters.as_json(groups))
    elif groups or readable:
        print(dead_letters.table(groups) if groups else "no dead letters")
    return 0 if readable else 1


async def _count(broker: Broker, queue: str, limit: int, tally: DeadLetterTally) -> None:
    async with broker.browsing(queue) as browsed:
        async for each, _ in _matching(browsed, limit, _EVERYTHING):
            tally.add(each)
        if browsed.waiting > limit:
            print_error(f"{queue}: counted the first {limit} of {browsed.waiting}")


async def _show(broker: Broker, arguments: argparse.Namespace) -> int:
    selection = DeadLetterFilter([arguments.id], everything=arguments.id is None)
    shown = 0
    async with broker.browsing(arguments.queue) as browsed:
        async for each, _ in _matching(browsed, arguments.limit, selection):
            print(dead_letters.page(each, body=arguments.body))
            shown += 1
    if arguments.id and not shown:
        return print_error(f"{arguments.queue} has no letter {arguments.id}")
    if not shown:
        print(f"no dead letters in {arguments.queue}")
    return 0


async def _replay(broker: Broker, arguments: argparse.Namespace) -> int:
    replayed, kept, missing = 0, 0, set(arguments.id)
    try:
        async with broker.browsing(arguments.queue) as browsed:
            async for each, tag in _matching(browsed, arguments.limit, _selection(arguments)):
                missing.discard(each.delivery.message_id)
                if await broker.send_back(each, tag):
                    replayed += 1
                else:
                    kept += 1
    finally:
        print(f"{replayed} replayed")
    if kept:
        print_error(f"{kept} kept: the queue that they came from is unknown")
    return _report_missing(arguments.queue, missing) or min(kept, 1)


async def _drop(broker: Broker, arguments: argparse.Namespace) -> int:
    dropped, missing = 0, set(arguments.id)
    tags: list[DeliveryTag] = []
    has_mails = False
    async with broker.browsing(arguments.queue) as browsed:
        async for each, tag in _matching(browsed, arguments.limit, _selection(arguments)):
            missing.discard(each.delivery.message_id)
            tags.append(tag)
            has_mails = has_mails or dead_letter.is_mail(each)
        question = f"drop {len(tags)} of {browsed.waiting} letters of {arguments.queue} for good?"
        if has_mails:
            question = f"{dead_letter.DROPPED_MAIL}\n{question}"
        if tags and not (arguments.yes or await _confirmed(question)):
            return print_error("nothing dropped")
        try:
            for tag in tags:
                tag.ack()
                dropped += 1
        finally:
            print(f"{dropped} dropped")
    return _report_missing(arguments.queue, missing)


async def _matching(
    browsed: DeadLetterQueue, limit: int | None, selection: DeadLetterFilter
) -> AsyncIterator[tuple[DeadLetter, DeliveryTag]]:
    """Yield the first `limit` dead letters that match."""
    yielded = 0
    async for each, tag in browsed.letters:
        if selection.matches(each):
            yield each, tag
            yielded += 1
            if yielded == limit:
                return


async def _confirmed(question: str) -> bool:
    """Ask on the terminal, without a time limit; heartbeats and Ctrl-C still work meanwhile."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[bytes] = loop.create_future()

    def read() -> None:
        line = os.read(sys.stdin.fileno(), _MAX_LINE_BYTES)
        loop.call_soon_threadsafe(answer.set_result, line)

    print(question, "[y/N] ", end="", flush=True)
    threading.Thread(target=read, daemon=True).start()
    return (await answer).strip().lower() in (b"y", b"yes")


def _add_limit(parser: argparse.ArgumentParser, meaning: str, default: int | None) -> None:
    parser.add_argument(
        "--limit", type=cli.number(1), default=default, metavar="N", help=f"{meaning} ({default})"
    )


def _add_selection(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("queue", choices=dead_letter.dead_queues(), metavar="QUEUE")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--id", nargs="+", default=(), metavar="ID", help="those with these ids")
    which.add_argument(
        "--reason", type=_nonempty, metavar="TEXT", help="those with TEXT in their cause or reason"
    )
    which.add_argument("--all", action="store_true", help="all that wait now")
    parser.add_argument("--limit", type=cli.number(1), metavar="N", help="at most N letters")


def _selection(arguments: argparse.Namespace) -> DeadLetterFilter:
    return DeadLetterFilter(arguments.id, arguments.reason, arguments.all)


def _nonempty(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty: it would match every letter")
    return text


def _report_missing(queue: str, ids: set[str]) -> int:
    for each in sorted(ids):
        print_error(f"{queue} has no letter {each}")
    return min(len(ids), 1)
