"""The suppression list whole, on a real broker: from a bounce to the mail that is not sent."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from ops.simulator.simulator import Simulator
from services.ledger import service as ledger
from services.ledger.config import LedgerSettings
from services.sender import service as sender
from services.sender.config import SenderSettings
from shared import topology
from shared.broker import Broker
from shared.contracts import (
    AddSuppressions,
    CancelEmail,
    Contract,
    EmailBounced,
    EmailDelivered,
    EmailSuppressed,
    NewSuppression,
    Outcome,
    RemoveSuppressions,
    SuppressionAdded,
    SuppressionOrigin,
    SuppressionRemoved,
    SuppressionsChanged,
    decode,
)
from shared.rabbitmq import declare
from tests.sender.commands import a_command
from tests.sender.senders import SUPPRESSION_KEY, environment
from tests.serving import serving
from tests.tap import Tap, depth, tapped
from tests.waiting import PATIENCE_SECONDS, until
from tests.world import attached

UNKNOWN, ANNA = "reply-rcpt-550-5-1-1@x.example", "anna@x.example"


@pytest.fixture
async def pipeline(vhost: str, tmp_path: Path) -> AsyncIterator[tuple[Broker, Tap]]:
    """Run a ledger and a sender, and watch the events."""
    await declare(vhost, topology.EXCHANGES, topology.queues(scale=0.01))
    books = LedgerSettings(amqp_url=vhost, data_dir=tmp_path, suppression_key=SUPPRESSION_KEY)
    async with AsyncExitStack() as opened:
        relay = await opened.enter_async_context(Simulator())
        variables = environment(vhost, tmp_path, relay.smtp_port)
        events = await opened.enter_async_context(tapped(vhost, topology.EVENTS))
        broker = await opened.enter_async_context(Broker.connect(vhost, "test"))
        await opened.enter_async_context(serving(ledger.run, books))
        await attached(vhost, topology.LEDGER_QUESTIONS)
        await opened.enter_async_context(serving(sender.run, SenderSettings.load(variables)))
        await attached(vhost, topology.SENDER_ADDRESSES)
        yield broker, events


async def heard(events: Tap, kind: type[Contract]) -> Contract:
    """Wait for the next event of a kind."""
    while True:
        message = await events.next()
        event = decode(message.type or "", message.body)
        if isinstance(event, kind):
            return event


async def has_copy(vhost: str, broker: Broker) -> None:
    """Wait until the sender has kept what was announced: its answer comes after that."""

    async def is_empty() -> bool:
        return not await depth(vhost, topology.SENDER_ADDRESSES)

    await until(is_empty)
    await broker.ask(CancelEmail(id="c", email_id="none"), PATIENCE_SECONDS)


async def outcome(broker: Broker, events: Tap, email_id: str, *to: str) -> Outcome:
    """Publish a mail and return its outcome."""
    await broker.publish(a_command(*to, id=email_id))
    event = await heard(events, Outcome)
    assert isinstance(event, Outcome)
    return event


async def test_a_bounce_stops_the_next_mail(pipeline: tuple[Broker, Tap], vhost: str) -> None:
    """An unknown mailbox gets one mail; after a removal it is tried again."""
    broker, events = pipeline
    first = await outcome(broker, events, "m-1", UNKNOWN)
    added = await heard(events, SuppressionAdded)
    await has_copy(vhost, broker)
    second = await outcome(broker, events, "m-2", UNKNOWN)
    question = RemoveSuppressions(id="q", emails=(UNKNOWN,), client="shop")
    removed = await broker.ask(question, PATIENCE_SECONDS)
    await heard(events, SuppressionRemoved)
    await has_copy(vhost, broker)
    third = await outcome(broker, events, "m-3", UNKNOWN)

    assert isinstance(first, EmailBounced)
    assert isinstance(added, SuppressionAdded)
    assert added.suppression.email_id == "m-1"
    assert isinstance(second, EmailSuppressed)
    assert second.origin is SuppressionOrigin.BOUNCE
    assert isinstance(removed, SuppressionsChanged)
    assert [each.email for each in removed.suppressions] == [UNKNOWN]
    assert isinstance(third, EmailBounced)


async def test_a_new_sender_gets_a_copy(vhost: str, tmp_path: Path) -> None:
    """A sender with a new database gets the entries that were made before it came."""
    await declare(vhost, topology.EXCHANGES, topology.queues(scale=0.01))
    books = LedgerSettings(amqp_url=vhost, data_dir=tmp_path, suppression_key=SUPPRESSION_KEY)
    entry = NewSuppression(email=ANNA)
    async with (
        Simulator() as relay,
        tapped(vhost, topology.EVENTS) as events,
        Broker.connect(vhost, "test") as broker,
        serving(ledger.run, books),
    ):
        await attached(vhost, topology.LEDGER_QUESTIONS)
        await broker.ask(AddSuppressions(id="q", suppressions=(entry,)), PATIENCE_SECONDS)
        await heard(events, SuppressionAdded)
        for folder in ("old", "new"):
            variables = environment(vhost, tmp_path / folder, relay.smtp_port)
            async with serving(sender.run, SenderSettings.load(variables)):
                if folder == "new":
                    await heard(events, SuppressionAdded)
                await has_copy(vhost, broker)
                mail = await outcome(broker, events, folder, ANNA)
                other = await outcome(broker, events, f"{folder}-2", "eve@x.example")
            assert isinstance(mail, EmailSuppressed)
            assert isinstance(other, EmailDelivered)
