"""The load during a fault: each flow is one way through the stack, at a steady rate."""

import asyncio
import smtplib
import ssl
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import orjson
from aiohttp import web
from yarl import URL

from ops.load.http import GatewayClient, HttpRequest
from ops.load.mails import GROUP_SIZE, MailPlan, read_arrivals
from ops.load.run import Connect, Send, Workers, over_http
from shared.contracts import Category
from shared.errors import Unavailable

LATER_SECONDS: Final = 1.0  # from the planned request of a mail for later to its time
_SMTP_SECONDS: Final = 30.0  # for each reply at the submission door
_HTTP_SENDERS: Final = 8  # connections of a flow
_DOMAIN_ANSWER: Final = "/v1/domains/stats"
_LEDGER_ANSWER: Final = "/v1/stats"


class Flow(StrEnum):
    """A way through the stack; each one needs another service."""

    MAIL = "mail"  # by HTTP to the mailbox: gateway, sender
    CODE = "code"  # otp
    LATER = "later"  # scheduler
    SUBMISSION = "submission"  # by SMTP: inbound
    LEDGER = "ledger"  # sums
    DOMAIN = "domain"  # classifier
    WEBHOOK = "webhook"  # from the mailbox to an endpoint: webhooks

    @property
    def is_mailed(self) -> bool:
        """Whether its items arrive in the mailbox."""
        return not self.is_asked and self is not Flow.WEBHOOK

    @property
    def is_asked(self) -> bool:
        """Whether its items are questions."""
        return self in {Flow.LEDGER, Flow.DOMAIN}


# Items a second. A webhook follows each mail.
RATES: Final[Mapping[Flow, float]] = {
    Flow.MAIL: 20.0,
    Flow.CODE: 4.0,
    Flow.LATER: 4.0,
    Flow.SUBMISSION: 4.0,
    Flow.LEDGER: 2.0,
    Flow.DOMAIN: 2.0,
}


@dataclass(frozen=True, slots=True)
class FlowPlan(MailPlan):
    """The items of one flow, by number: item N is due N / `rate` seconds after `begin`.

    `begin` is in seconds since the epoch.
    """

    flow: Flow
    begin: float
    rate: float

    def due(self, number: int) -> float:
        """Return the time of an item: that of its request, or of a mail for later its own."""
        wait = LATER_SECONDS if self.flow is Flow.LATER else 0.0
        return self.begin + number / self.rate + wait

    def request(self, number: int) -> HttpRequest:
        """Return the request of an item, the same each time."""
        mail: dict[str, Any] = orjson.loads(MailPlan.request(self, number).body)
        key = f"{self.prefix}{number}"
        match self.flow:
            case Flow.LEDGER:
                return HttpRequest("GET", _LEDGER_ANSWER)
            case Flow.DOMAIN:
                return HttpRequest("GET", _DOMAIN_ANSWER)
            case Flow.CODE:
                # Each user has a network: the codes that one may ask for are few.
                user = {"email": mail["to"], "ip": f"2001:db8:{number:x}::1"}
                return HttpRequest("POST", "/v1/otp", orjson.dumps(user), key)
            case Flow.LATER:
                mail["scheduled_at"] = datetime.fromtimestamp(self.due(number), UTC).isoformat()
        return HttpRequest("POST", "/v1/messages", orjson.dumps(mail), key)

    def submission(self, number: int) -> bytes:
        """Return the mail of an item as a program composes it, the same each time."""
        head = f"From: chaos@localhost.example\r\nTo: {self.recipient(number)}\r\nSubject: Chaos"
        return (
            f"{head}\r\nMessage-ID: <{self.prefix}{number}@chaos.example>\r\n\r\nOne.\r\n".encode()
        )


@dataclass(slots=True)
class FlowLoad:
    """The items of a flow that were accepted, with the time of each.

    A question counts as accepted when it was asked: it may have been answered before a fault whose
    end the answer does not see. `answered` has the times of the answers.
    """

    plan: FlowPlan
    accepted: dict[int, float] = field(default_factory=dict)
    answered: dict[int, float] = field(default_factory=dict)
    _begun: dict[int, float] = field(default_factory=dict)

    def begin(self, number: int) -> None:
        """Note that an item is sent, perhaps again."""
        self._begun[number] = time.time()

    def sent(self, number: int) -> None:
        """Note that an item was accepted."""
        now = time.time()
        if self.plan.flow.is_asked:
            self.accepted[number], self.answered[number] = self._begun[number], now
        else:
            self.accepted[number] = max(now, self.plan.due(number))


@dataclass(frozen=True, slots=True)
class StackAddresses:
    """Where a stack takes its load."""

    gateway_url: str
    mailbox_url: str
    client_id: str
    submission_tls_port: int
    certificate: Path
    client_key: str = field(repr=False)


class FlowRun:
    """Sends the items of all flows until it is stopped, `seconds` at most."""

    def __init__(self, run: str, addresses: StackAddresses, seconds: float) -> None:
        self._addresses = addresses
        begin = time.time()
        self.loads = {
            flow: FlowLoad(_plan(f"{run}-{flow}", flow, begin, rate, seconds))
            for flow, rate in RATES.items()
        }
        self._workers: dict[Flow, Workers[int]] = {}

    def stop(self) -> None:
        """Send nothing new and nothing again."""
        for each in self._workers.values():
            each.stop()

    def all_accept(self, since: float) -> bool:
        """Return whether each flow has accepted an item after a time."""
        return all(max(each.accepted.values(), default=0.0) > since for each in self.loads.values())

    async def run(self, within: float) -> None:
        """Send all items, or those of so many seconds. Raises LoadError for a final refusal."""
        async with asyncio.TaskGroup() as group:
            for load in self.loads.values():
                group.create_task(self._run(load, within))

    async def _run(self, load: FlowLoad, within: float) -> None:
        plan = load.plan
        async with self._connecting(plan) as connect:
            workers = Workers(iter(range(plan.mails)), _paced(connect, load), load.sent)
            self._workers[plan.flow] = workers
            await workers.work(_HTTP_SENDERS, within)

    def _connecting(self, plan: FlowPlan) -> AbstractAsyncContextManager[Connect[int]]:
        if plan.flow is Flow.SUBMISSION:
            return _over_smtp(plan, self._addresses)
        return over_http(URL(self._addresses.gateway_url), self._addresses.client_key, plan.request)

    async def arrivals(self) -> Mapping[Flow, Mapping[str, Sequence[float]]]:
        """Return the times of all copies in the mailbox by flow and recipient, the first first.

        Raises as `GatewayClient.send` does.
        """
        found: dict[Flow, dict[str, list[float]]] = {}
        async with GatewayClient.open(URL(self._addresses.mailbox_url)) as client:
            for flow, load in self.loads.items():
                copies = found.setdefault(flow, {})
                if flow.is_mailed:
                    for each in await read_arrivals(client, load.plan):
                        copies.setdefault(each.recipient, []).append(each.at)
        return {flow: {to: sorted(at) for to, at in each.items()} for flow, each in found.items()}


def _plan(run: str, flow: Flow, begin: float, rate: float, seconds: float) -> FlowPlan:
    both = (Category.TRANSACTIONAL, Category.BULK)
    categories = both if flow is Flow.MAIL else both[:1]
    most = GROUP_SIZE * -(-int(rate * seconds) // GROUP_SIZE)
    return FlowPlan(run, most, categories, flow, begin, rate)


def _paced(connect: Connect[int], load: FlowLoad) -> Connect[int]:
    """Return a way to send that holds each item back until its time."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Send[int]]:
        async with connect() as send:

            async def send_in_time(number: int) -> None:
                begin = load.plan.begin + number / load.plan.rate
                await asyncio.sleep(max(0.0, begin - time.time()))
                load.begin(number)
                await send(number)

            yield send_in_time

    return opened


@asynccontextmanager
async def _over_smtp(plan: FlowPlan, addresses: StackAddresses) -> AsyncIterator[Connect[int]]:
    """Hand over each item over a connection of its own; what has no 250 is handed over again."""
    context = ssl.create_default_context(cafile=addresses.certificate)

    def hand_over(number: int) -> None:
        port, within = addresses.submission_tls_port, _SMTP_SECONDS
        with smtplib.SMTP_SSL("127.0.0.1", port, timeout=within, context=context) as smtp:
            smtp.login(addresses.client_id, addresses.client_key)
            sender, recipient = "chaos@localhost.example", plan.recipient(number)
            smtp.sendmail(sender, recipient, plan.submission(number))

    async def send(number: int) -> None:
        try:
            await asyncio.to_thread(hand_over, number)
        except OSError as error:  # a refusal by a reply is one as well
            raise Unavailable(str(error)) from error

    @asynccontextmanager
    async def connect() -> AsyncIterator[Send[int]]:
        yield send

    yield connect


class Endpoint:
    """An endpoint of webhooks: the time of the first event for each recipient."""

    def __init__(self) -> None:
        self.heard: dict[str, float] = {}
        self.url = ""

    @classmethod
    @asynccontextmanager
    async def open(cls, port: int) -> AsyncIterator["Endpoint"]:
        """Serve on a port of 127.0.0.1 for the length of the block."""
        endpoint = cls()
        application = web.Application()
        application.router.add_post("/", endpoint._hear)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            endpoint.url = f"http://127.0.0.1:{port}/"
            yield endpoint
        finally:
            await runner.cleanup()

    async def register(self, addresses: StackAddresses) -> None:
        """Ask for all deliveries of the client. Raises LoadError when it is refused."""
        body = orjson.dumps({"url": self.url, "events": ["email.delivered"]})
        client = GatewayClient.open(URL(addresses.gateway_url), addresses.client_key)
        async with client as opened:
            await opened.send(HttpRequest("POST", "/v1/webhooks", body))

    async def _hear(self, request: web.Request) -> web.Response:
        event = orjson.loads(await request.read())
        self.heard.setdefault(event["data"]["recipient"], time.time())
        return web.Response()
