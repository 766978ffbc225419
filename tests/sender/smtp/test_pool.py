"""Tests of the SMTP connections of a class: kept, counted, replaced, closed, shared by weight."""

import asyncio
from collections import Counter
from itertools import pairwise
from typing import Literal

import pytest
from prometheus_client import REGISTRY

from ops.simulator.behaviour import Behaviour, SessionLimit
from ops.simulator.simulator import Simulator, SimulatorSettings
from services.sender.outcome import FailureReason, NotAttempted, Unsendable
from services.sender.smtp.pool import RelayAnswer, WeightedRoundRobin, another_may_take, best_answer
from services.sender.smtp.relay import Timeouts
from shared.contracts import Stage
from shared.replies import reply as replies
from tests.proxy import Proxy
from tests.sender.mails import ANNA, a_mail, a_pool, a_relay, ends, opened, sent
from tests.sender.scripted import HANG, scripted
from tests.waiting import PATIENCE_SECONDS

DELIVERED = [(Stage.DOT, 250)]
PATIENT = Timeouts(command=300)
MAILS_OF_A_LOAD = 1000


async def test_reuse(simulator: Simulator) -> None:
    """A thousand mails use each connection again, with one greeting each."""
    async with a_pool(a_relay(simulator.smtp_port), connections=4, mails=1000) as pool:
        results = await asyncio.gather(*(sent(pool) for _ in range(MAILS_OF_A_LOAD)))

    assert results == [DELIVERED] * MAILS_OF_A_LOAD
    assert len(simulator.mailbox) == MAILS_OF_A_LOAD
    assert simulator.traffic.total == 4
    assert simulator.traffic.commands["EHLO"] == 4


async def test_on_demand(simulator: Simulator) -> None:
    """A connection is opened only for a mail."""
    async with a_pool(a_relay(simulator.smtp_port), connections=4) as pool:
        opened_at_start = simulator.traffic.total
        for _ in range(10):
            assert await sent(pool) == DELIVERED

        assert opened_at_start == 0
        assert simulator.traffic.total == 1


async def test_leave(simulator: Simulator) -> None:
    """At the end each connection sends QUIT."""
    async with a_pool(a_relay(simulator.smtp_port), connections=3) as pool:
        await asyncio.gather(*(sent(pool) for _ in range(3)))
        await opened(pool)

    assert simulator.traffic.commands["QUIT"] == simulator.traffic.total
    await simulator.traffic.wait_until(lambda: simulator.traffic.open == 0)


async def test_leave_is_short() -> None:
    """A server that does not answer QUIT delays the end only shortly."""
    async with scripted({"QUIT": HANG}) as server:
        pool = a_pool(a_relay(server.port, timeouts=PATIENT))
        await sent(pool)

        closing = asyncio.create_task(pool.__aexit__())
        async with asyncio.timeout(PATIENCE_SECONDS):
            await closing


async def test_mails_of_a_connection(simulator: Simulator) -> None:
    """A connection is closed after so many mails, before the next one is opened."""
    simulator.behaviour = Behaviour(connections=1)

    async with a_pool(a_relay(simulator.smtp_port), mails=5) as pool:
        assert [await sent(pool) for _ in range(12)] == [DELIVERED] * 12

    assert [visit.mails for visit in simulator.traffic.sessions] == [5, 5, 2]


async def test_closed_by_421(simulator: Simulator) -> None:
    """A 421 over a used connection costs the mail no attempt."""
    simulator.behaviour = Behaviour(mails_per_connection=3)

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        assert [await sent(pool) for _ in range(10)] == [DELIVERED] * 10

    assert [visit.mails for visit in simulator.traffic.sessions] == [3, 3, 3, 1]


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
@pytest.mark.parametrize(
    "reply",
    ["452 4.4.5 Maximum number of messages per session exceeded", "451 Enough", "450 4.5.0"],
)
async def test_session_over(
    simulator: Simulator, stage: Literal["mail", "rcpt", "data"], reply: str
) -> None:
    """A connection that takes no more mails, but stays open, costs neither attempts nor time."""
    simulator.behaviour = Behaviour(session=SessionLimit(mails=10, reply=reply, stage=stage))
    relay = a_relay(simulator.smtp_port)

    async with a_pool(relay, connections=4) as pool:
        results = await asyncio.gather(*(sent(pool) for _ in range(60)))
        await opened(pool)

        assert pool._pools[relay.name]._limiter._limit.limit >= 4
    assert results == [DELIVERED] * 60
    assert len(simulator.mailbox) == 60
    verb = stage.upper()
    refused = [visit.commands.count(verb) - visit.mails for visit in simulator.traffic.sessions]
    assert max(refused) <= 1
    assert simulator.traffic.commands["QUIT"] == simulator.traffic.total


async def test_session_over_at_once(simulator: Simulator) -> None:
    """A refusal over a new connection too is the mail's attempt: it is not tried for ever."""
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        assert await sent(pool) == DELIVERED
        magic = "reply-mail-452-4-4-5@our.example"

        assert ends(await pool.send(a_mail(sender=magic))) == [(Stage.MAIL, 452)]
    assert (simulator.traffic.total, simulator.traffic.commands["MAIL"]) == (2, 3)


async def test_greylisted_over_what_is_kept(simulator: Simulator) -> None:
    """A temporary refusal of a recipient or by a policy does not end the connection."""
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        assert await sent(pool) == DELIVERED
        for magic in ("greylist-60", "reply-rcpt-450-4-2-0", "reply-rcpt-452-4-5-3"):
            await sent(pool, f"{magic}@x.example")

    assert simulator.traffic.total == 1


async def test_closed_while_idle(simulator: Simulator) -> None:
    """Connections closed by the server while idle cost no attempt."""
    simulator.behaviour = Behaviour(idle_timeout_ms=3000)

    async with a_pool(a_relay(simulator.smtp_port), connections=3) as pool:
        await asyncio.gather(*(sent(pool) for _ in range(3)))
        await simulator.traffic.wait_until(lambda: simulator.traffic.open == 0)
        simulator.behaviour, opened = Behaviour(), simulator.traffic.total
        results = await asyncio.gather(*(sent(pool) for _ in range(3)))

    assert results == [DELIVERED] * 3
    # How many depends on which comes first, a connection that is free again or a new one.
    assert simulator.traffic.total > opened


async def test_reset_while_idle(simulator: Simulator) -> None:
    """Connections reset on the way while idle cost no attempt."""
    async with Proxy.to(simulator.smtp_port) as proxy, a_pool(a_relay(proxy.port)) as pool:
        await sent(pool)
        proxy.cut()

        assert await sent(pool) == DELIVERED


@pytest.mark.parametrize("idle_seconds", [60, 0])
async def test_died_without_a_sign(simulator: Simulator, idle_seconds: float) -> None:
    """A kept connection that has died without a sign costs seconds and no attempt."""
    async with Proxy.to(simulator.smtp_port) as proxy:
        relay = a_relay(proxy.port, timeouts=PATIENT)
        pool = a_pool(relay, connections=3, idle_seconds=idle_seconds, kept_seconds=0.5)
        async with asyncio.timeout(60), pool:
            await asyncio.gather(*(sent(pool, "slow-100-dot@x.example") for _ in range(3)))
            proxy.swallow()

            assert await sent(pool) == DELIVERED
            assert await asyncio.gather(*(sent(pool) for _ in range(3))) == [DELIVERED] * 3
            assert pool._pools[relay.name].wait == 0


async def test_all_dead_together(simulator: Simulator) -> None:
    """When an idle connection does not answer, all that are idle for as long are dropped."""
    async with Proxy.to(simulator.smtp_port) as proxy:
        relay = a_relay(proxy.port, timeouts=PATIENT)
        pool = a_pool(relay, connections=3, idle_seconds=0, kept_seconds=0.5)
        async with asyncio.timeout(60), pool:
            await asyncio.gather(*(sent(pool, "slow-100-dot@x.example") for _ in range(3)))
            await opened(pool)
            kept = len(pool._pools[relay.name]._idle)
            proxy.swallow()
            await sent(pool)

            assert (kept, len(pool._pools[relay.name]._idle)) == (3, 1)


async def test_slow_at_mail(simulator: Simulator) -> None:
    """A relay that is slow at MAIL has its full timeout over a new connection."""
    slow = a_mail(sender="slow-1000-mail@our.example")
    async with a_pool(a_relay(simulator.smtp_port), kept_seconds=0.2) as pool:
        assert await sent(pool) == DELIVERED
        assert ends(await pool.send(slow)) == DELIVERED

    assert simulator.traffic.total == 2


async def test_half_open() -> None:
    """An old idle connection is checked with NOOP before it gets a mail."""
    async with scripted({}) as server, a_pool(a_relay(server.port), idle_seconds=0) as pool:
        assert await sent(pool) == DELIVERED
        assert await sent(pool) == DELIVERED
        server.script["NOOP"] = b"421 Go away\r\n"
        assert await sent(pool) == DELIVERED

    assert (server.heard["NOOP"], server.heard["EHLO"]) == (2, 2)


async def test_replaced_once(simulator: Simulator) -> None:
    """A mail for which the server closes a new connection too has used its attempt."""
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        await sent(pool)
        result = await pool.send(a_mail(sender="drop-mail@our.example"))

    assert ends(result) == [(Stage.MAIL, 0)]
    assert simulator.traffic.total == 2


async def test_limit_of_the_server(simulator: Simulator) -> None:
    """Mails beyond the server's limit of connections wait; the others go on."""
    simulator.behaviour = Behaviour(connections=1)

    async with a_pool(a_relay(simulator.smtp_port), connections=2) as pool:
        slow = "slow-1000-dot@x.example"
        results = await asyncio.gather(sent(pool, slow), sent(pool, slow))
        after = await sent(pool)

    assert sorted(results) == sorted([DELIVERED, [(Stage.CONNECT, 421)]])
    assert after == DELIVERED


async def test_every_connection_is_closed(simulator: Simulator) -> None:
    """Each opened connection is closed and counted, after any outcome of its mails."""

    def counted(what: str) -> float:
        labels = {"category": "test", "relay": f"127.0.0.1:{simulator.smtp_port}"}
        return REGISTRY.get_sample_value(f"postrider_smtp_{what}_total", labels) or 0

    before = counted("opened"), counted("closed")
    stages = ("mail", "rcpt", "data", "dot")
    magics = [
        f"{what}@x.example"
        for stage in stages
        for what in (f"drop-{stage}", f"reply-{stage}-421", f"reply-{stage}-550", "anna")
    ]

    async with a_pool(a_relay(simulator.smtp_port), connections=3, mails=4) as pool:
        await asyncio.gather(*(pool.send(a_mail(each, sender=each)) for each in magics * 3))
        await opened(pool)
    await simulator.traffic.wait_until(lambda: simulator.traffic.open == 0)

    assert counted("opened") - before[0] == simulator.traffic.total
    assert counted("closed") - before[1] == simulator.traffic.total


async def test_relay_away(simulator: Simulator) -> None:
    """A relay that is away raises no error, and is used again when it is back."""
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        port = simulator.smtp_port
        await simulator.__aexit__()
        away = await sent(pool)
        async with Simulator(SimulatorSettings(smtp_port=port)):
            back = await sent(pool)

    assert away == [(Stage.CONNECT, 0)]
    assert back == DELIVERED


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "dot"])
async def test_cancelled(simulator: Simulator, stage: str) -> None:
    """The next mail after a cancelled one gets its own reply, over another connection."""
    slow = f"slow-60000-{stage}@x.example"
    mail = a_mail(slow, sender=slow)
    verb = {"dot": "DATA"}.get(stage, stage.upper())

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        await sent(pool)
        before = simulator.traffic.commands[verb]
        sending = asyncio.create_task(pool.send(mail))
        await simulator.traffic.wait_until(lambda: simulator.traffic.commands[verb] > before)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await simulator.traffic.wait_until(lambda: simulator.traffic.open == 0)

        assert await sent(pool, ANNA, "reply-rcpt-550@x.example") == [
            (Stage.DOT, 250),
            (Stage.RCPT, 550),
        ]

    assert simulator.traffic.total == 2
    assert simulator.mailbox.count(slow) == 0


async def test_cancelled_while_opening() -> None:
    """A connection whose opening is cancelled is closed."""
    async with scripted({"EHLO": HANG}) as server, a_pool(a_relay(server.port)) as pool:
        sending = asyncio.create_task(pool.send(a_mail()))
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not server.heard["EHLO"]:
                await asyncio.wait({sending}, timeout=0.01)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        server.script["EHLO"] = b"250 scripted.invalid\r\n"

        assert await sent(pool) == DELIVERED


def test_in_proportion() -> None:
    """Each name is chosen in proportion to its weight."""
    turns = WeightedRoundRobin({"a": 5, "b": 3, "c": 2})

    assert Counter(turns.next("abc") for _ in range(1000)) == {"a": 500, "b": 300, "c": 200}


def test_never_long_in_a_row() -> None:
    """Choices are spread evenly, not in blocks."""
    turns = WeightedRoundRobin({"a": 1, "b": 1})
    dealt = [turns.next("ab") for _ in range(10)]

    assert all(first != second for first, second in pairwise(dealt))


def test_no_making_up() -> None:
    """A name that was not able gets no burst of choices afterwards."""
    turns = WeightedRoundRobin({"a": 1, "b": 1})
    for _ in range(1000):
        turns.next("a")

    assert Counter(turns.next("ab") for _ in range(10)) == {"a": 5, "b": 5}


NO_UTF8 = RelayAnswer("a", Unsendable(FailureReason.SMTPUTF8_NOT_OFFERED))
TOO_BIG = RelayAnswer("b", Unsendable(FailureReason.TOO_BIG))
REFUSED = RelayAnswer("c", {ANNA: replies.received(Stage.MAIL, 550, "5.1.8 No")})
SUSPECT = RelayAnswer("d", REFUSED.result, suspected=True)
LATER = RelayAnswer("e", {ANNA: replies.received(Stage.MAIL, 450, "4.7.1 Later")})
AWAY = RelayAnswer("f", {ANNA: replies.no_reply(Stage.CONNECT, "connection refused")})
RESTS = RelayAnswer("g", NotAttempted(5))


@pytest.mark.parametrize(
    ("asked", "counts"),
    [
        ([NO_UTF8, TOO_BIG], TOO_BIG),
        ([TOO_BIG, REFUSED, NO_UTF8], REFUSED),
        ([REFUSED, RESTS], RESTS),
        ([RESTS, AWAY], AWAY),
        ([LATER, REFUSED], LATER),
        ([SUSPECT, TOO_BIG], SUSPECT),
        ([LATER, AWAY], LATER),
    ],
)
def test_best(asked: list[RelayAnswer], counts: RelayAnswer) -> None:
    """The answer of the relay that went furthest counts, unless one may still take the mail."""
    assert best_answer(asked) is counts


def test_final() -> None:
    """A missing extension and a permanent refusal are final, temporary answers are not."""
    assert all(each.final for each in (NO_UTF8, TOO_BIG, REFUSED))
    assert not any(each.final for each in (SUSPECT, LATER, AWAY, RESTS))


@pytest.mark.parametrize(
    ("stage", "code", "others"),
    [
        (Stage.CONNECT, 554, True),
        (Stage.AUTH, 535, True),
        (Stage.MAIL, 0, True),
        (Stage.MAIL, 450, True),
        (Stage.MAIL, 452, True),
        (Stage.MAIL, 552, True),
        (Stage.MAIL, 550, True),
        (Stage.RCPT, 550, False),
        (Stage.DATA, 554, False),
        (Stage.DOT, 0, False),
        (Stage.DOT, 250, False),
    ],
)
def test_others(stage: Stage, code: int, others: bool) -> None:  # noqa: FBT001 -- a column of the table
    """Up to MAIL another relay may take the mail; after that the answer is about the mail."""
    assert another_may_take({ANNA: replies.received(stage, code, "")}) is others


def test_too_late_for_all() -> None:
    """An expired mail goes to no other relay."""
    assert not another_may_take(Unsendable(FailureReason.EXPIRED))
