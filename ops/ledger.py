"""`ops ledger`: check the books, show the life of one message; `ops forget`: forget a person."""

import argparse
import asyncio
import json
import os
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast
from urllib.parse import quote

from pydantic import ValidationError

from ops import books, cli
from ops.books import Books, MailName, Recount
from ops.cli import print_error
from ops.topology import management_of
from services.sender.config import SenderSettings
from shared import dead_letter, identity, topology
from shared.broker import Broker
from shared.contracts import (
    Answer,
    Category,
    CountEmails,
    DescribeEmail,
    EmailCounts,
    EmailDescribed,
    EmailRecord,
    EmailsCounted,
    EmailsListed,
    EmailStatus,
    ForgetAddress,
    ListEmails,
    Question,
)
from shared.contracts.address import check_address
from shared.contracts.ledger import MAX_LISTED_EMAILS
from shared.dead_letter import DeadLetter
from shared.errors import NoAnswer
from shared.topology import Owner

ANSWER_SECONDS = 10.0
DAYS = 30
MAX_DAYS = 90  # of the sums in one answer, with room for the hours at both ends
# The management API shows the messages of a queue some seconds late: the queue and the API renew
# their numbers every five seconds each. So a mail is lost only if it waited all that time.
SETTLE_SECONDS = 11.0
# Beyond its schedule: a handling that fails is tried again for half a day, see `shared.retry`.
LATE = timedelta(days=1)

# A mail has the time of the clock that accepted it, which may have been a day ahead.
_AHEAD = timedelta(days=2)
_WAITING = tuple(each for each in EmailStatus if not each.ended)
_FORGETTING = """\
{id}: the broker keeps the request until each service has done it.

ledger   deletes mails to the address with their outcomes, bounces and other entries; of an opt-out
         the keyed hash stays, so that it still counts
sender   deletes outcomes for it, the last day's within SENDER_REMEMBER (7 days)
otp      deletes codes, guesses and counts of it

Left are mails that wait in queues or for their time, which are still sent, and dead letters: see
ops dead. To send nothing more, suppress the address first. Sums stay, they name nobody."""

A = TypeVar("A", bound=Answer)


def queues_of_mails() -> frozenset[str]:
    """Return the queues that a mail without a final outcome, or its newest outcome, can be in.

    Delay queues hold messages of other services as well.
    """
    sending = {
        queue
        for category in Category
        for queue in (topology.sending_queue(category), *topology.shard_queues(category))
    }
    others = (topology.SCHEDULER_MAIL, topology.LEDGER_MAIL)
    return frozenset({*sending, *others, *topology.DELAY_EXCHANGES})


def dead_queues_of_mails() -> tuple[str, ...]:
    """Return the queues of dead letters that may hold a mail, or an outcome of one."""
    others = (topology.SCHEDULER_MAIL, topology.LEDGER_MAIL)
    owned = tuple(f"{each}." for each in (Owner.SENDER, *others))
    every = dead_letter.dead_queues()
    return tuple(each for each in every if each.startswith(owned) or each == topology.UNROUTED)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    checking = actions.add_parser(
        "check",
        help="check that all accepted mails are accounted for",
        description="Exits with 1 if the books do not add up, with a line for each fault.",
    )
    checking.add_argument(
        "--days",
        type=cli.number(1, MAX_DAYS),
        default=DAYS,
        metavar="N",
        help=f"of mails; at most what the ledger keeps (default: {DAYS})",
    )
    checking.add_argument("--management-url", metavar="URL", help="the broker's management API")
    checking.add_argument(
        "--settle",
        type=cli.seconds,
        default=SETTLE_SECONDS,
        metavar="SECONDS",
        help=f"between two looks at what waits ({SETTLE_SECONDS:g})",
    )
    showing = actions.add_parser("message", help="show the life of one message")
    showing.add_argument("id", metavar="ID")
    showing.add_argument(
        "--client", metavar="C", help="whose message, if several have the id ('': of no client)"
    )
    for action in (checking, showing):
        cli.add_amqp_url(action)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the action and return the exit code; print an error as one line."""
    return cli.run_on_broker(_run, arguments)


async def _run(url: str, arguments: argparse.Namespace) -> int:
    try:
        return await _audit(url, arguments)
    except NoAnswer as error:
        return print_error(f"{error}: is the ledger running?")


async def _audit(url: str, arguments: argparse.Namespace) -> int:
    async with Broker.connect(url, "ops ledger", patience=0) as broker:
        auditor = Auditor(broker)
        if arguments.action == "message":
            return await _show(auditor, arguments.id, arguments.client)
        now = datetime.now(UTC)
        since = now - timedelta(days=arguments.days)
        evidence = await auditor.books_at(url, arguments.management_url, since, arguments.settle)
        return _report(evidence, now)


async def _show(auditor: "Auditor", email_id: str, client: str | None) -> int:
    found = await auditor.describe(email_id, client)
    if found.clients:
        clients = ", ".join(each or "''" for each in found.clients)
        return print_error(f"several messages have this id: name one by --client, of {clients}")
    if found.email is None:
        return print_error(f"the ledger has no message {email_id}")
    print(books.life(found.email, found.history))
    return 0


def _report(evidence: Books, now: datetime) -> int:
    on_the_way = ", ".join(f"{name} {count}" for name, count in evidence.queues.items() if count)
    print(books.equation(evidence))
    print(f"queues: {on_the_way or 'empty'}")
    if forgotten := evidence.forgotten[1].accepted:
        print(f"forgotten: {forgotten} of these recipients")
    if waiting := books.for_later(evidence, now):
        print(f"for later: {waiting} of these recipients, whose time has not come")
    found = faults(evidence, now)
    for fault in found:
        print(fault)
    print("the books do not add up" if found else "the books add up")
    return 1 if found else 0


def faults(evidence: Books, now: datetime) -> Sequence[str]:
    """Return a line for each thing that does not add up, by the settings of the environment."""
    return list(books.faults(evidence, now, _patience(os.environ)))


def add_forget(parser: argparse.ArgumentParser) -> None:
    """Add the address."""
    parser.add_argument("email", type=_address, metavar="EMAIL", help="in any case of letters")
    cli.add_amqp_url(parser)
    parser.set_defaults(run=forget)


def _address(text: str) -> str:
    try:
        return check_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def forget(arguments: argparse.Namespace) -> int:
    """Ask all services to remove what they keep of an address; return the exit code."""
    return cli.run_on_broker(_forget, arguments, "ops forget: ")


async def _forget(url: str, arguments: argparse.Namespace) -> int:
    command = ForgetAddress(id=_new_id(), email=arguments.email)
    async with Broker.connect(url, "ops forget", patience=0) as broker:
        await broker.publish(command)
    print(_FORGETTING.format(id=command.id))
    return 0


@dataclass(frozen=True, slots=True)
class Auditor:
    """Asks the ledger, and looks into dead letters. Raises Unavailable or NoAnswer."""

    broker: Broker

    async def books_at(
        self, url: str, management_url: str | None, since: datetime, settle_seconds: float
    ) -> Books:
        """Return the evidence since a time, with the queues of the broker at a URL.

        Raises ManagementError and OSError, too.
        """
        management, vhost = management_of(url, management_url)
        path = f"/queues/{quote(vhost, safe='')}?columns=name,messages"
        return await self.books(
            since, lambda: _depths(management.request("GET", path)), settle_seconds
        )

    async def describe(self, email_id: str, client: str | None = None) -> EmailDescribed:
        """Return a message of a client, or of any if None, and its history."""
        try:
            question = DescribeEmail(id=_new_id(), email_id=email_id, client=client)
        except ValidationError:
            return EmailDescribed(id=_new_id())  # no message has such an id
        return await self._ask(question, EmailDescribed)

    async def books(
        self, since: datetime, depths: Callable[[], Mapping[str, int]], settle_seconds: float
    ) -> Books:
        """Collect the evidence on the mails since a time; `depths` returns what queues hold.

        A mail that is in a queue all the time between the two looks is in one of the numbers, and
        one that dies before them is in a dead letter: these are read in this order.
        """
        since = since.replace(minute=0, second=0, microsecond=0)
        forgotten = await self._count(since, forgotten=True)
        before = await self._count(since)
        recount = Recount()
        async for email in self._emails(since):
            recount.add(email)
        after = await self._count(since)
        forgotten_later = await self._count(since, forgotten=True)
        if recount.waiting:
            await asyncio.sleep(settle_seconds)
        every = await asyncio.to_thread(depths)
        queues = {name: every.get(name, 0) for name in sorted(queues_of_mails())}
        dead = await self._dead()
        later = Recount()
        for status in _WAITING:
            async for email in self._emails(since, status):
                later.add(email)
        still_waiting = recount.waiting.keys() & later.waiting.keys()
        named = {each for names in dead.values() for each in names} - still_waiting
        unknown = {each for each in named if not await self._knows(*each)}
        both = forgotten, forgotten_later
        return Books(before, recount, after, both, still_waiting, queues, dead, unknown)

    async def _knows(self, email_id: str, client: str | None) -> bool:
        """Return whether the ledger has a mail, or had it and forgot its recipients."""
        found = await self.describe(email_id, client or "")
        return found.email is not None or found.forgotten

    async def _count(self, since: datetime, *, forgotten: bool = False) -> EmailCounts:
        until = datetime.now(UTC) + _AHEAD
        question = CountEmails(id=_new_id(), since=since, until=until, forgotten=forgotten)
        return (await self._ask(question, EmailsCounted)).total

    async def _emails(
        self, since: datetime, status: EmailStatus | None = None
    ) -> AsyncIterator[EmailRecord]:
        after: str | None = None
        while True:
            page = await self._ask(
                ListEmails(
                    id=_new_id(), since=since, status=status, after=after, limit=MAX_LISTED_EMAILS
                ),
                EmailsListed,
            )
            for email in page.emails:
                yield email
            after = page.next
            if after is None:
                return

    async def _dead(self) -> Mapping[str, AbstractSet[MailName]]:
        """Return the mails in dead letters by queue."""
        found: dict[str, set[MailName]] = defaultdict(set)
        for queue in dead_queues_of_mails():
            async with self.broker.browsing(queue) as browsed:
                async for letter, _ in browsed.letters:
                    found[queue].add(name_of(letter))
        return found

    async def _ask(self, question: Question, kind: type[A]) -> A:
        answer = await self.broker.ask(question, ANSWER_SECONDS)
        if not isinstance(answer, kind):
            raise NoAnswer(f"an answer of the wrong type, {answer.routing_key}")
        return answer


def name_of(letter: DeadLetter) -> MailName:
    """Return the id and the client of the mail that a dead letter is, or is an outcome of."""
    claimed, delivery = None, letter.delivery
    try:
        body = json.loads(delivery.body)
        claimed = body.get("client") and str(body["client"])
        email_id = str(body.get("email_id") or body["id"])
    except (ValueError, KeyError, AttributeError, RecursionError):
        email_id = delivery.message_id
    return email_id, identity.client_of(claimed, delivery.publisher)


def _depths(listed: object) -> Mapping[str, int]:
    """Return the messages of each queue; the API has no number for one that is new."""
    queues = cast("Sequence[Mapping[str, Any]]", listed)
    return {each["name"]: each.get("messages", 0) for each in queues}


def _patience(environ: Mapping[str, str]) -> Mapping[Category, timedelta]:
    """Return how long a mail of each class may wait, by the sender's settings as given here."""
    return {category: _give_up(category, environ) + LATE for category in Category}


def _give_up(category: Category, environ: Mapping[str, str]) -> timedelta:
    name = f"sender_give_up_{category}"
    default = SenderSettings.model_fields[name].default
    return timedelta(seconds=float(environ.get(name.upper()) or default))


def _new_id() -> str:
    return str(uuid.uuid4())
