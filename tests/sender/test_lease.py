"""Tests of a real sender that is stopped for longer than its lease and then goes on."""

import signal

import pytest

from shared.contracts import Category, EmailDelivered, EmailUncertain, SendEmail
from tests.sender.commands import a_command
from tests.sender.replicas import Replica, Replicas
from tests.waiting import until

pytestmark = [pytest.mark.journey, pytest.mark.rabbit]

LOST = "the claim was lost to another sender"
MAILS = [f"mail-{number}" for number in range(4)]


async def stopped_at(world: Replicas, sender: Replica, verb: str, *commands: SendEmail) -> None:
    """Stop a sender that waits for replies to its mails, and cut it off from the broker."""
    world.relay.slow = {verb}
    await world.publish(*commands)
    await world.heard(verb, len(commands))
    sender.process.send_signal(signal.SIGSTOP)
    world.relay.slow = set()
    sender.broker_link.cut()


async def test_stopped_before_the_content(world: Replicas) -> None:
    """A sender stopped between DATA and its reply for longer than a lease sends no content."""
    async with world.sender("old") as old:
        await stopped_at(world, old, "DATA", *(a_command(id=each) for each in MAILS))
        async with world.sender("new"):
            await world.final(*MAILS)
            world.relay.answer()
            old.process.send_signal(signal.SIGCONT)
            await lost(old, len(MAILS))

    assert dict(world.relay.kept) == dict.fromkeys(MAILS, 1)
    assert {type(event) for event in world.outcomes} == {EmailDelivered}
    assert set(world.finals().values()) == {1}
    assert {line["before"] for line in old.log(LOST)} == {"content"}


async def test_stopped_before_the_reply_to_the_dot(world: Replicas) -> None:
    """A mail that another sender has settled as uncertain is not reported as delivered."""
    news = [a_command(id=each, category=Category.BULK) for each in MAILS]
    async with world.sender("old") as old:
        await stopped_at(world, old, "DOT", *news)
        async with world.sender("new"):
            await world.final(*MAILS)
            world.relay.answer()
            old.process.send_signal(signal.SIGCONT)
            await lost(old, len(MAILS))
            # The outcomes of all mails, from either sender: the last one comes after all others.
            await world.publish(a_command(id="last", category=Category.BULK))
            await world.final("last")

    outcomes = {event.email_id: event for event in world.outcomes if event.email_id in MAILS}
    assert {type(event) for event in outcomes.values()} == {EmailUncertain}
    assert set(world.finals().values()) == {1}
    assert dict(world.relay.kept) == dict.fromkeys([*MAILS, "last"], 1)
    assert {line["before"] for line in old.log(LOST)} == {"settlement"}


async def test_a_delivery_comes_in_time(world: Replicas) -> None:
    """A 250 that the first sender reads before the second one has an outcome is the outcome.

    The second finds its claim gone before it sends the content: there is one mail.
    """
    async with world.sender("old") as old:
        await stopped_at(world, old, "DOT", a_command(id="mail"))
        async with world.sender("new") as new:
            world.relay.slow = {"DATA"}
            await world.heard("DATA", 2)
            # Only the reply to the dot is sent: those to DATA are held until it has been read.
            old.process.send_signal(signal.SIGCONT)
            world.relay.answer_to("DOT")
            await world.final("mail")
            await new.logged("claims were taken over by another sender")
            world.relay.answer()
            await lost(new, 1)

    assert dict(world.relay.kept) == {"mail": 1}
    assert [type(event) for event in world.outcomes] == [EmailDelivered]


async def lost(sender: Replica, mails: int) -> None:
    """Wait until a sender has logged the loss of so many claims."""

    async def all_of_them() -> bool:
        return len(sender.log(LOST)) >= mails

    await until(all_of_them)
