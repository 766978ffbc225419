"""Attempts of a service that was broken into."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared import topology
from shared.broker import Broker
from shared.consumer import Subscription
from shared.delivery import Publishing
from shared.errors import Unavailable
from shared.retry import DELAYS
from shared.topology import Owner


@dataclass(frozen=True)
class Consume:
    """Consume a queue."""

    queue: str

    async def make(self, broker: Broker) -> None:
        """Make the attempt."""
        async with broker.consuming(Subscription(self.queue, {}, prefetch=1)):
            pass


@dataclass(frozen=True)
class Browse:
    """Fetch from a queue."""

    queue: str

    async def make(self, broker: Broker) -> None:
        """Make the attempt."""
        async with broker.browsing(self.queue) as browsed:
            async for _ in browsed.letters:
                pass


@dataclass(frozen=True)
class Publish:
    """Publish to an exchange."""

    exchange: str
    key: str

    async def make(self, broker: Broker) -> None:
        """Make the attempt."""
        await broker.send(
            Publishing(self.exchange, self.key, self.key, b"{}", "m-1", "m-1", mandatory=False)
        )


Attempt = Consume | Browse | Publish
REFUSED: Mapping[Owner, Sequence[Attempt]] = {
    Owner.GATEWAY: (
        Consume("sender.otp"),
        Consume("otp.questions"),
        Browse("sender.bulk.dead"),
        Publish(topology.COMMANDS, "schedule.add"),
        Publish(topology.COMMANDS, "email.send.otp.1"),
        Publish(topology.COMMANDS, "email.send.bulk.x"),
        Publish(topology.EVENTS, "email.delivered"),
        Publish(topology.EVENTS, "domain.classified"),
        Publish(topology.DEAD, "sender.bulk"),
        Publish(DELAYS[0].name, "sender.bulk"),
    ),
    Owner.INBOUND: (
        Publish(topology.EVENTS, "client.removed"),
        Consume("sender.otp"),
        Consume("gateway.questions"),
        Browse("sender.bulk.dead"),
        Publish(topology.COMMANDS, "email.send.bulk.x"),
        Publish(topology.COMMANDS, "email.cancel"),
        Publish(topology.COMMANDS, "code.issue"),
        Publish(topology.COMMANDS, "suppression.remove"),
        Publish(topology.EVENTS, "email.delivered"),
        Publish(topology.DEAD, "sender.bulk"),
        Publish(DELAYS[0].name, "sender.bulk"),
        Publish("", "sender.otp"),
    ),
    Owner.SENDER: (
        Consume("otp.commands"),
        Consume("classifier.evidence"),
        Browse("otp.commands.dead"),
        Browse(topology.UNROUTED),
        Publish(topology.COMMANDS, "email.send.bulk"),
        Publish(topology.COMMANDS, "code.verify"),
        Publish(topology.EVENTS, "feedback.reported"),
        Publish(topology.DEAD, "otp.commands"),
        *(Publish(name, "otp.commands") for name in topology.DELAY_EXCHANGES),
        Publish(topology.UNROUTED, ""),
        Publish("amq.topic", "email.delivered"),
    ),
    Owner.OTP: (
        Consume("sender.otp"),
        Consume("classifier.questions"),
        Browse("sender.otp.dead"),
        Publish(topology.COMMANDS, "email.send.bulk"),
        Publish(topology.EVENTS, "email.delivered"),
        Publish(topology.DEAD, "sender.otp"),
        Publish(DELAYS[-1].name, "sender.otp"),
    ),
    Owner.CLASSIFIER: (
        Consume("otp.questions"),
        Browse("sender.bulk.dead"),
        Publish(topology.COMMANDS, "email.send.otp"),
        Publish(topology.EVENTS, "email.bounced"),
        Publish(topology.DEAD, "sender.bulk"),
        Publish(DELAYS[0].name, "otp.commands"),
    ),
    Owner.SCHEDULER: (
        Consume("sender.bulk"),
        Consume("ledger.questions"),
        Browse("sender.bulk.dead"),
        Browse(topology.UNROUTED),
        Publish(topology.COMMANDS, "email.send.otp"),
        Publish(topology.COMMANDS, "email.send.bulk.x"),
        Publish(topology.COMMANDS, "email.schedule.bulk"),
        Publish(topology.COMMANDS, "suppression.remove"),
        Publish(topology.COMMANDS, "code.issue"),
        Publish(topology.EVENTS, "email.delivered"),
        Publish(topology.EVENTS, "suppression.added"),
        Publish(topology.DEAD, "sender.bulk"),
        *(Publish(name, "sender.bulk") for name in topology.DELAY_EXCHANGES),
        Publish(topology.UNROUTED, ""),
    ),
    Owner.LEDGER: (
        Consume("sender.otp"),
        Consume("classifier.questions"),
        Browse("sender.bulk.dead"),
        Publish(topology.COMMANDS, "email.send.bulk"),
        Publish(topology.EVENTS, "email.delivered"),
        Publish(topology.DEAD, "sender.bulk"),
        Publish(DELAYS[0].name, "sender.bulk"),
    ),
    Owner.CONSOLE: (
        Consume("sender.otp"),
        Consume("sender.bulk.3"),
        Consume("ledger.questions"),
        Browse("ledger.mail"),
        Publish(topology.COMMANDS, "email.send.bulk"),
        Publish(topology.COMMANDS, "code.issue"),
        Publish(topology.COMMANDS, "code.verify"),
        Publish(topology.COMMANDS, "webhook.create"),
        Publish(topology.COMMANDS, "webhook.rotate"),
        Publish(topology.COMMANDS, "content.save"),
        Publish(topology.SHARDED_MAILS, "email.send.bulk.3"),
        Publish(topology.EVENTS, "email.delivered"),
        Publish(topology.DEAD, "sender.bulk"),
        Publish(DELAYS[0].name, "sender.bulk.dead"),
        Publish(DELAYS[0].name, "otp.questions"),
        Publish(DELAYS[1].name, "sender.bulk"),
        Publish("", "sender.otp"),
    ),
    Owner.WEBHOOKS: (
        Consume("ledger.mail"),
        Consume("ledger.questions"),
        Browse("sender.bulk.dead"),
        Publish(topology.COMMANDS, "email.send.bulk"),
        Publish(topology.COMMANDS, "webhook.create"),
        Publish(topology.EVENTS, "email.delivered"),
        Publish(topology.DEAD, "sender.bulk"),
        Publish(DELAYS[0].name, "sender.bulk"),
    ),
}


async def refused(url: str, attempt: Attempt) -> bool:
    """Return whether the broker forbids an attempt."""
    async with Broker.connect(url, "intruder") as broker:
        try:
            await attempt.make(broker)
        except Unavailable as error:
            return "ACCESS_REFUSED" in str(error)
    return False
