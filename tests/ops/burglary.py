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
class Take:
    """Consume a queue."""

    queue: str

    async def tried(self, door: Broker) -> None:
        """Try it."""
        async with door.consuming(Subscription(self.queue, {}, prefetch=1)):
            pass


@dataclass(frozen=True)
class Look:
    """Fetch from a queue."""

    queue: str

    async def tried(self, door: Broker) -> None:
        """Try it."""
        async with door.browsing(self.queue) as pile:
            async for _ in pile.letters:
                pass


@dataclass(frozen=True)
class Say:
    """Publish to an exchange."""

    exchange: str
    key: str

    async def tried(self, door: Broker) -> None:
        """Try it."""
        await door.send(
            Publishing(self.exchange, self.key, self.key, b"{}", "m-1", "m-1", mandatory=False)
        )


Act = Take | Look | Say
REFUSED: Mapping[Owner, Sequence[Act]] = {
    Owner.GATEWAY: (
        Take("sender.otp"),
        Take("otp.questions"),
        Look("sender.bulk.dead"),
        Say(topology.COMMANDS, "schedule.add"),
        Say(topology.EVENTS, "email.delivered"),
        Say(topology.EVENTS, "domain.classified"),
        Say(topology.DEAD, "sender.bulk"),
        Say(DELAYS[0].name, "sender.bulk"),
        Say("", "sender.otp"),
    ),
    Owner.SENDER: (
        Take("otp.commands"),
        Take("classifier.evidence"),
        Look("otp.commands.dead"),
        Look(topology.UNROUTED),
        Say(topology.COMMANDS, "email.send.bulk"),
        Say(topology.COMMANDS, "code.verify"),
        Say(topology.EVENTS, "feedback.reported"),
        Say(topology.DEAD, "otp.commands"),
        *(Say(name, "otp.commands") for name in topology.DELAY_EXCHANGES),
        Say(topology.UNROUTED, ""),
        Say("amq.topic", "email.delivered"),
    ),
    Owner.OTP: (
        Take("sender.otp"),
        Take("classifier.questions"),
        Look("sender.otp.dead"),
        Say(topology.COMMANDS, "email.send.bulk"),
        Say(topology.EVENTS, "email.delivered"),
        Say(topology.DEAD, "sender.otp"),
        Say(DELAYS[-1].name, "sender.otp"),
    ),
    Owner.CLASSIFIER: (
        Take("otp.questions"),
        Look("sender.bulk.dead"),
        Say(topology.COMMANDS, "email.send.otp"),
        Say(topology.EVENTS, "email.bounced"),
        Say(topology.DEAD, "sender.bulk"),
        Say(DELAYS[0].name, "otp.commands"),
    ),
}


async def refused(url: str, act: Act) -> bool:
    """Return whether the broker forbids an attempt."""
    async with Broker.connect(url, "burglar") as door:
        try:
            await act.tried(door)
        except Unavailable as error:
            return "ACCESS_REFUSED" in str(error)
    return False
