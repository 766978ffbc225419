"""Tests of a relay that greets late: no mail waits for a connection while another one is idle."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from services.sender.smtp.pool import SmtpPool
from services.sender.smtp.relay_pool import RelayPool
from shared.contracts import Stage
from tests.sender.mails import CONTENT, a_mail, a_pool, a_relay, ends
from tests.sender.patient import YES, PatientRelay, patient
from tests.waiting import until

DELIVERED = [(Stage.DOT, 250)]

Sending = asyncio.Task[list[tuple[Stage, int]]]


@dataclass(frozen=True)
class Late:
    """A pool of two connections, one of them open, and a relay that greets no other for now."""

    relay: PatientRelay
    pool: SmtpPool

    @property
    def route(self) -> RelayPool:
        """The connections of the only relay."""
        return next(iter(self.pool._pools.values()))

    def sending(self, number: int) -> Sending:
        """Send a mail in a task of its own."""
        return asyncio.create_task(self.send(number))

    async def send(self, number: int) -> list[tuple[Stage, int]]:
        """Send a mail; return stage and code for its recipient."""
        content = f"Message-ID: <{number}@our.example>\r\n".encode() + CONTENT
        return ends(await self.pool.send(a_mail(content=content)))

    async def heard(self, verb: str, count: int) -> None:
        """Wait until the relay has heard a verb so many times."""

        async def enough() -> bool:
            return self.relay.heard[verb] >= count

        await until(enough)

    async def has(self, *, idle: int, opening: int, served: int) -> None:
        """Wait until there are so many connections here, and at the relay."""

        async def is_so() -> bool:
            here = len(self.route._idle), len(self.route._opening)
            return (*here, len(self.relay._tasks)) == (idle, opening, served)

        await until(is_so)

    async def held(self) -> tuple[Sending, Sending]:
        """Send two mails: one is held at its dot, the other waits for a connection."""
        self.relay.slow = {"CONNECT", "DOT"}
        first = self.sending(1)
        await self.heard("DOT", 2)
        second = self.sending(2)
        await self.heard("CONNECT", 2)
        return first, second


@pytest.fixture
async def late() -> AsyncIterator[Late]:
    """Open a relay, and a pool whose first connection is idle."""
    async with patient() as relay, a_pool(a_relay(relay.port), connections=2) as pool:
        opened = Late(relay, pool)
        assert await opened.send(0) == DELIVERED
        yield opened


async def test_a_mail_takes_the_connection_that_another_leaves(late: Late) -> None:
    """A mail does not wait for a greeting when a connection is free; the opened one is kept."""
    first, second = await late.held()
    late.relay.slow = {"CONNECT"}
    late.relay.answer_to("DOT")
    assert (await first, await second) == (DELIVERED, DELIVERED)
    assert await late.send(3) == DELIVERED
    await late.has(idle=1, opening=1, served=2)
    late.relay.answer()

    await late.has(idle=2, opening=0, served=2)
    assert late.relay.heard["CONNECT"] == 2


async def test_the_greeting_comes_first(late: Late) -> None:
    """A mail takes the connection that was opened for it while the others are in use."""
    first, second = await late.held()
    late.relay.slow = {"DOT"}
    late.relay.answer_to("CONNECT")
    await late.heard("DOT", 3)
    late.relay.answer()

    assert (await first, await second) == (DELIVERED, DELIVERED)
    assert late.relay.heard["CONNECT"] == 2


async def test_no_more_connections_than_mails_at_a_time(late: Late) -> None:
    """A mail that comes while one is being opened opens no other."""
    first, second = await late.held()
    late.relay.slow = {"CONNECT", "RCPT"}
    late.relay.answer_to("DOT")
    assert await first == DELIVERED
    await late.heard("RCPT", 3)
    third = late.sending(3)
    late.relay.slow = {"CONNECT"}
    late.relay.answer_to("RCPT")

    assert (await second, await third) == (DELIVERED, DELIVERED)
    assert late.relay.heard["CONNECT"] == 2


async def test_a_cancelled_mail_leaves_no_connection_that_is_being_opened(late: Late) -> None:
    """Neither does the end of the pool leave one."""
    first, second = await late.held()
    second.cancel()
    await asyncio.wait({second})
    late.relay.answer()

    assert await first == DELIVERED
    await late.has(idle=1, opening=0, served=1)


async def test_the_end_waits_for_no_greeting(late: Late) -> None:
    """A connection that no mail waits for any more is given up at the end."""
    first, second = await late.held()
    late.relay.slow = {"CONNECT"}
    late.relay.answer_to("DOT")
    await asyncio.wait({first, second})
    await late.pool.__aexit__()
    late.relay.answer()

    await late.has(idle=0, opening=0, served=0)


@pytest.mark.parametrize(("greeting", "limit"), [(b"421 4.3.2 Busy\r\n", 1), (b"554 No\r\n", 2)])
async def test_a_connection_that_fails_when_no_mail_waits(
    late: Late, monkeypatch: pytest.MonkeyPatch, greeting: bytes, limit: int
) -> None:
    """It costs no mail an attempt and no pause, but a relay that asks for less is sent less."""
    first, second = await late.held()
    late.relay.slow = {"CONNECT"}
    late.relay.answer_to("DOT")
    assert (await first, await second) == (DELIVERED, DELIVERED)
    monkeypatch.setitem(YES, "CONNECT", greeting)
    late.relay.answer()
    await late.has(idle=1, opening=0, served=1)

    assert (late.route._limiter._limit.limit, late.route.wait) == (limit, 0)
    assert await late.send(3) == DELIVERED


async def test_a_connection_that_fails_is_the_attempt_of_the_mail_that_waits(
    late: Late, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mail for which no connection comes free has the failure as its outcome."""
    first, second = await late.held()
    monkeypatch.setitem(YES, "CONNECT", b"421 4.3.2 Busy\r\n")
    late.relay.slow = {"DOT"}
    late.relay.answer_to("CONNECT")

    assert await second == [(Stage.CONNECT, 421)]
    late.relay.answer()
    assert await first == DELIVERED


async def test_a_connection_that_fails_while_enough_are_opened(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is not the attempt of a mail for which another one is still being opened."""
    async with patient() as relay, a_pool(a_relay(relay.port), connections=3) as pool:
        late = Late(relay, pool)
        assert await late.send(0) == DELIVERED
        first, second = await late.held()
        early = relay._answers.pop("CONNECT")
        third = late.sending(3)
        await late.heard("CONNECT", 3)
        relay.slow = {"CONNECT", "RCPT"}
        relay.answer_to("DOT")
        assert await first == DELIVERED
        await late.heard("RCPT", 3)
        with monkeypatch.context() as greeting:
            greeting.setitem(YES, "CONNECT", b"554 No\r\n")
            early.set()
            await late.has(idle=0, opening=1, served=2)
        relay.answer()

        assert (await second, await third) == (DELIVERED, DELIVERED)


async def test_a_kept_connection_that_is_gone(late: Late, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its place a mail takes one that another mail leaves, if a new one is greeted late."""
    late.relay.slow = {"MAIL"}
    first = late.sending(1)
    await late.heard("MAIL", 2)
    held = late.relay._answers.pop("MAIL")
    second = late.sending(2)
    await late.heard("MAIL", 3)
    late.relay.slow = {"CONNECT", "DOT"}
    late.relay.answer_to("MAIL")
    await late.heard("DOT", 2)
    with monkeypatch.context() as refusal:
        refusal.setitem(YES, "MAIL", b"421 4.3.2 Enough\r\n")
        held.set()
        await late.heard("CONNECT", 3)
    late.relay.slow = {"CONNECT"}
    late.relay.answer_to("DOT")

    assert (await first, await second) == (DELIVERED, DELIVERED)
    assert late.relay.kept == Counter("012")
