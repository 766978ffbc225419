"""Real sender processes that share a broker, a database and one slow relay."""

import json
import os
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from shared import topology
from shared.broker import Broker
from shared.contracts import Category, Outcome, SendEmail, decode
from shared.rabbitmq import declare
from tests.processes import started
from tests.proxy import Proxy
from tests.sender.patient import PatientRelay, patient
from tests.sender.senders import environment
from tests.tap import Tap, depth, tapped
from tests.waiting import until

DELAY_SCALE = 0.01


@dataclass(frozen=True)
class Replica:
    """One sender process, its log, and its own connection to the broker."""

    process: Process
    broker_link: Proxy
    log_file: Path

    def log(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines of one kind."""
        lines = (json.loads(line) for line in self.log_file.read_text().splitlines())
        return [line for line in lines if line["event"] == event]

    async def logged(self, event: str) -> None:
        """Wait for a log line."""

        async def is_there() -> bool:
            return bool(self.log(event))

        await until(is_there)


@dataclass(frozen=True)
class Replicas:
    """The broker, database and relay that the senders share."""

    url: str
    directory: Path
    broker: Broker
    events: Tap
    relay: PatientRelay
    outcomes: list[Outcome] = field(default_factory=list)

    @asynccontextmanager
    async def sender(self, name: str, **settings: str) -> AsyncIterator[Replica]:
        """Run a sender with a lease of three seconds; at the end it is killed, if it still runs."""
        log_file = self.directory / f"{name}.log"
        port = urlsplit(self.url).port or 0
        async with Proxy.to(port) as link:
            url = self.url.replace(f":{port}", f":{link.port}")
            own = {"PATH": os.environ["PATH"], "SENDER_CLAIM_SECONDS": "3", **settings}
            variables = environment(url, self.directory, self.relay.port, **own)
            with log_file.open("wb") as output:
                arguments = ("-m", "services.sender")
                async with started(*arguments, env=variables, stdout=output.fileno()) as process:
                    yield Replica(process, link, log_file)

    async def publish(self, *commands: SendEmail) -> None:
        """Publish some commands."""
        for command in commands:
            await self.broker.publish(command)

    async def heard(self, verb: str, count: int) -> None:
        """Wait until the relay has heard a verb so many times."""

        async def enough() -> bool:
            return self.relay.heard[verb] >= count

        await until(enough)

    async def all_in_hand(self, category: Category) -> None:
        """Wait until no command of a class is ready at the broker: senders hold them all."""

        async def is_empty() -> bool:
            return not await depth(self.url, topology.sending_queue(category))

        await until(is_empty)

    async def final(self, *email_ids: str) -> dict[str, Outcome]:
        """Wait for the final outcome of some mails, each for one recipient."""
        while not set(email_ids) <= {event.email_id for event in self.outcomes if event.final}:
            message = await self.events.next()
            event = decode(message.type or "", message.body)
            if isinstance(event, Outcome):
                self.outcomes.append(event)
        return {event.email_id: event for event in self.outcomes if event.final}

    def finals(self) -> Counter[str]:
        """Count the distinct final outcomes of each mail: copies of one event have one id."""
        return Counter(email for email, _ in {(e.email_id, e.id) for e in self.outcomes if e.final})


@asynccontextmanager
async def replicas(vhost: str, directory: Path) -> AsyncIterator[Replicas]:
    """Open the broker, database and relay of senders, with short delays."""
    await declare(vhost, topology.EXCHANGES, topology.queues(scale=DELAY_SCALE))
    async with (
        patient() as relay,
        tapped(vhost, topology.EVENTS) as events,
        Broker.connect(vhost, "test") as broker,
    ):
        yield Replicas(vhost, directory, broker, events, relay)
