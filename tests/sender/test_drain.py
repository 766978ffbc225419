"""Tests of SIGTERM to a real sender: it waits for replies to sent mail, and returns the rest."""

import asyncio
import signal

import pytest

from shared.contracts import Category, EmailDelivered, EmailUncertain
from tests.sender.commands import a_command
from tests.sender.replicas import Replica, Replicas
from tests.waiting import PATIENCE_SECONDS

pytestmark = [pytest.mark.journey, pytest.mark.rabbit]

ONE_EACH = {
    "SENDER_CONNECTIONS_BULK": "1",
    "SENDER_CONNECTIONS_TRANSACTIONAL": "1",
    "SENDER_CONNECTIONS_OTP": "1",
}

# A lease that a busy machine does not outlast: the mails do come to the other sender.
STEADY = {"SENDER_CLAIM_SECONDS": "20"}


async def ended(sender: Replica) -> int:
    """Wait for the end of a process and return its exit code."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await sender.process.wait()


async def at_the_dot(world: Replicas) -> None:
    """Send a newsletter and a mail whose dot the relay does not answer."""
    world.relay.slow = {"DOT"}
    await world.publish(a_command(id="mail"), a_command(id="news", category=Category.BULK))
    await world.heard("DOT", 2)


@pytest.mark.parametrize("chunking", [False, True])
async def test_content_that_was_sent_is_waited_for(world: Replicas, *, chunking: bool) -> None:
    """Past DRAIN_SECONDS and a lease, a mail at its dot is neither lost, doubled nor uncertain.

    Mails that only waited, and those not at their content by then, go to the next sender while the
    first still waits.
    """
    world.relay.chunking = chunking
    waiting = [f"waiting-{number}" for number in range(3)]
    async with world.sender("old", **ONE_EACH, DRAIN_SECONDS="1.5") as old:
        await at_the_dot(world)
        await world.publish(*(a_command(id=each, category=Category.BULK) for each in waiting))
        await world.all_in_hand(Category.BULK)
        world.relay.slow = {"RCPT"}
        await world.publish(a_command(id="early", category=Category.OTP))
        await world.heard("RCPT", 3)
        old.process.terminate()
        await old.logged("waiting to end")
        world.relay.slow = set()
        async with world.sender("new"):
            # The code is free when DRAIN_SECONDS are over.
            await world.final(*waiting, "early")
            was_waiting = old.process.returncode is None
            world.relay.answer()
            outcomes = await world.final("mail", "news")
            code = await ended(old)

    assert was_waiting
    assert code == 0
    assert {type(event) for event in outcomes.values()} == {EmailDelivered}
    assert dict(world.relay.kept) == dict.fromkeys(("mail", "news", "early", *waiting), 1)
    assert set(world.finals().values()) == {1}
    waits = [line for line in old.log("waiting to end") if "reply" in line["waits_for"]]
    assert {line["queue"] for line in waits} == {"sender.bulk", "sender.transactional"}
    assert {line["count"] for line in waits} == {1}
    assert all(line["oldest_seconds"] <= line["at_most_seconds"] <= 660 for line in waits)


async def test_the_reply_is_waited_for_so_long_and_no_longer(world: Replicas) -> None:
    """After SENDER_DRAIN_DOT_SECONDS a mail is abandoned as if its sender had died."""
    limits = {"DRAIN_SECONDS": "0.1", "SENDER_DRAIN_DOT_SECONDS": "0.5"}
    async with world.sender("old", **limits) as old:
        await at_the_dot(world)
        old.process.terminate()
        code = await ended(old)

    assert code == 0
    assert len(old.log("cut off before the relay's reply: uncertain")) == 2


@pytest.mark.parametrize("chunking", [False, True])
async def test_a_second_sigterm_ends_it_at_once(world: Replicas, *, chunking: bool) -> None:
    """A second SIGTERM ends it at once: a newsletter is uncertain, other mail is sent again."""
    world.relay.chunking = chunking
    async with world.sender("old") as old:
        await at_the_dot(world)
        old.process.terminate()
        await old.logged("waiting to end")
        old.process.send_signal(signal.SIGINT)
        code = await ended(old)
    world.relay.slow = set()
    async with world.sender("new"):
        outcomes = await world.final("mail", "news")

    cut_off = old.log("cut off before the relay's reply: uncertain")
    assert code == 0
    assert {line["id"]: line["sent_again"] for line in cut_off} == {"mail": True, "news": False}
    assert isinstance(outcomes["mail"], EmailDelivered)
    assert isinstance(outcomes["news"], EmailUncertain)
    assert dict(world.relay.kept) == {"mail": 2, "news": 1}


async def test_the_broker_is_lost_while_it_waits(world: Replicas) -> None:
    """Mails of a sender without its broker go to the next one; each is sent and reported once."""
    async with world.sender("old", **STEADY, DRAIN_SECONDS="1") as old:
        await at_the_dot(world)
        async with world.sender("new", **STEADY):
            old.process.terminate()
            await old.logged("waiting to end")
            old.broker_link.cut()
            world.relay.answer()
            outcomes = await world.final("mail", "news")
            code = await ended(old)

    assert code == 0
    assert {type(event) for event in outcomes.values()} == {EmailDelivered}
    assert dict(world.relay.kept) == {"mail": 1, "news": 1}
    assert set(world.finals().values()) == {1}
