"""The load of mails: what is sent, and what the simulator's mailbox must then hold."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import orjson

from ops.load import report
from ops.load.http import GatewayClient, HttpRequest, LoadError
from shared.contracts import Category, SendEmail

GROUP_SIZE: Final = 500  # mails with one prefix: half of what a response of the mailbox holds
_DOMAIN: Final = "inbox.example"  # RFC 2606: reserved
_SUBJECT: Final = "Load"
_TEXT: Final = "One of many.\n"
_TOTAL_COUNT = re.compile(rb"^x-total-count: *(\d+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class MailPlan:
    """The mails of a run, by number. `run` is part of all ids and addresses."""

    run: str
    mails: int
    categories: tuple[Category, ...]  # they take turns

    def recipient(self, number: int) -> str:
        """Return the address of one mail, which no other mail goes to."""
        return f"{self._group_prefix(number // GROUP_SIZE)}{number:07d}@{_DOMAIN}"

    @property
    def prefix(self) -> str:
        """The first characters of all addresses and ids of this run."""
        return f"load-{self.run}-"

    @property
    def group_prefixes(self) -> Iterator[str]:
        """The first characters of the addresses of each group of GROUP_SIZE mails."""
        return map(self._group_prefix, range(-(-self.mails // GROUP_SIZE)))

    def request(self, number: int) -> HttpRequest:
        """Return the HTTP request for one mail."""
        mail = {
            "to": self.recipient(number),
            "subject": _SUBJECT,
            "text": _TEXT,
            "category": self._category(number),
        }
        return HttpRequest("POST", "/v1/messages", orjson.dumps(mail), self._id(number))

    def message(self, number: int) -> SendEmail:
        """Return the AMQP message for one mail."""
        return SendEmail(
            id=self._id(number),
            to=(self.recipient(number),),
            subject=_SUBJECT,
            text=_TEXT,
            category=self._category(number),
        )

    def _group_prefix(self, group: int) -> str:
        return f"{self.prefix}{group:05d}-"

    def _category(self, number: int) -> Category:
        return self.categories[number % len(self.categories)]

    def _id(self, number: int) -> str:
        return f"{self.prefix}{number}"


@dataclass(frozen=True, slots=True)
class MailArrival:
    """A copy of a mail in the mailbox; `at` is in seconds since the epoch."""

    recipient: str
    at: float


class MailLoad:
    """The mails of a plan, on their way to the mailbox at `client`.

    `clock` returns the seconds since the epoch.
    """

    name = "mails"
    place = "the mailbox"

    def __init__(self, plan: MailPlan, client: GatewayClient, clock: Callable[[], float]) -> None:
        self.total = plan.mails
        self._plan = plan
        self._client = client
        self._clock = clock
        self._begun: dict[str, float] = {}
        self._sent: set[str] = set()
        self._arrivals: Sequence[MailArrival] = ()

    @property
    def done(self) -> int:
        """The number of mails that were acknowledged."""
        return len(self._sent)

    def items(self) -> Iterator[int]:
        """Yield the numbers of the mails."""
        return iter(range(self.total))

    def request(self, item: int) -> HttpRequest:
        """Return the HTTP request for a mail."""
        self._begin(item)
        return self._plan.request(item)

    def message(self, item: int) -> SendEmail:
        """Return the AMQP message for a mail."""
        self._begin(item)
        return self._plan.message(item)

    def sent(self, item: int) -> None:
        """Note that a mail was acknowledged."""
        self._sent.add(self._plan.recipient(item))

    async def arrived(self) -> int:
        """Return how many mails have arrived."""
        return await count_mails(self._client, self._plan.prefix)

    async def differences(self, unsure: Sequence[int]) -> Sequence[str]:
        """Compare the mailbox with what was sent; a mail in `unsure` may have one copy."""
        del unsure
        self._arrivals = await read_arrivals(self._client, self._plan)
        return differences(self._sent, Counter(arrival.recipient for arrival in self._arrivals))

    def summary(self) -> Sequence[str]:
        """Describe how long the mails took."""
        taken = [each.at - self._begun[each.recipient] for each in self._arrivals]
        return [f"delivered after  {report.percentiles(taken)}"]

    def _begin(self, item: int) -> None:
        self._begun.setdefault(self._plan.recipient(item), self._clock())


def differences(sent: Iterable[str], copies: Mapping[str, int]) -> Sequence[str]:
    """Describe each recipient that has not exactly one copy of its mail.

    A recipient whose mail was not acknowledged may also have none.
    """
    return [
        f"{recipient}: {copies.get(recipient, 0)} copies"
        for recipient in sorted({*copies, *sent})
        if copies.get(recipient, 0) != 1
    ]


async def count_mails(client: GatewayClient, prefix: str) -> int:
    """Return how many mails went to addresses with a prefix. Raises as `GatewayClient.send`."""
    total = _TOTAL_COUNT.search((await client.send(_search(prefix, 1))).head)
    if total is None:
        raise LoadError("the server at the mailbox's address is no mailbox")
    return int(total[1])


async def read_arrivals(client: GatewayClient, plan: MailPlan) -> Sequence[MailArrival]:
    """Return the mails of a run, at most two for each one sent. Raises as `GatewayClient.send`."""
    found: list[MailArrival] = []
    for prefix in plan.group_prefixes:
        response = await client.send(_search(prefix, 2 * GROUP_SIZE))
        for mail in orjson.loads(response.body):
            at = datetime.fromisoformat(mail["received_at"]).timestamp()
            found += [MailArrival(recipient, at) for recipient in mail["to"]]
    return found


def _search(recipient: str, limit: int) -> HttpRequest:
    return HttpRequest("GET", f"/api/messages?brief=1&limit={limit}&recipient={recipient}")
