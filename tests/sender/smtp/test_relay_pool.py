"""Tests of several relays: shared by weight, paused when they do not serve us, tried again."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from ops.simulator.behaviour import EXTENSIONS, Behaviour, MailRate, StageRefusals
from ops.simulator.simulator import Simulator
from services.sender.outcome import FailureReason, NotAttempted, Unsendable
from services.sender.schedule import Backoff
from services.sender.smtp.pool import SmtpPool
from services.sender.smtp.relay import Login, Relay
from shared.contracts import Stage
from tests.sender.mails import a_mail, a_pool, a_relay, ends, sent
from tests.sender.scripted import CUT, Scripted, scripted
from tests.waiting import until

DELIVERED = [(Stage.DOT, 250)]
A_WHILE = Backoff(60, 60)
AN_INSTANT = Backoff(0.1, 0.1)
LOGIN = Login("anna", "pw")


def resting(port: int, backoff: Backoff = A_WHILE, login: Login | None = None) -> Relay:
    """Return a relay with pauses when it does not serve us."""
    return replace(a_relay(port, login=login), backoff=backoff)


async def rested(pool: SmtpPool) -> None:
    """Wait until a relay may be tried."""

    async def over() -> bool:
        return any(not route.wait for route in pool._pools.values())

    await until(over)


def rests(server: Scripted) -> float:
    """Return the number of pauses of a relay."""
    labels = {"category": "test", "relay": f"127.0.0.1:{server.port}"}
    return REGISTRY.get_sample_value("postrider_smtp_rests_total", labels) or 0


AWAY: list[Mapping[str, bytes]] = [
    {"CONNECT": CUT},
    {"CONNECT": b"554 5.7.1 Blocked\r\n"},
    {"CONNECT": b"421 4.3.2 Busy\r\n"},
    {"EHLO": b"550 5.7.1 No\r\n", "HELO": b"550 5.7.1 No\r\n"},
    {"AUTH": b"535 5.7.8 Wrong\r\n"},
    {"AUTH": b"454 4.7.0 Later\r\n"},
]


async def test_the_relay_tried_last_counts(simulator: Simulator) -> None:
    """The progress of a mail has the relay whose reply counts."""
    mail = a_mail()
    async with scripted({"CONNECT": CUT}) as away:
        relays = [a_relay(away.port), a_relay(simulator.smtp_port)]
        async with a_pool(*relays) as pool:
            untold = mail.progress.relay
            assert ends(await pool.send(mail)) == DELIVERED

    assert untold == ""
    assert mail.progress.relay == f"127.0.0.1:{simulator.smtp_port}"
    assert mail.progress.host == "127.0.0.1"


@pytest.mark.parametrize("script", AWAY)
async def test_others_carry_on(simulator: Simulator, script: Mapping[str, bytes]) -> None:
    """A relay that does not serve us is tried once and costs no mail an attempt."""
    greeting = {"EHLO": b"250-x\r\n250 AUTH PLAIN\r\n"}
    async with scripted({**greeting, **script}) as server:
        relays = resting(server.port, login=LOGIN), resting(simulator.smtp_port)
        async with a_pool(*relays) as pool:
            assert [await sent(pool) for _ in range(6)] == [DELIVERED] * 6

        assert (server.heard["CONNECT"], server.heard["MAIL"], rests(server)) == (1, 0, 1)


@pytest.mark.parametrize("script", AWAY)
async def test_all_rest(script: Mapping[str, bytes]) -> None:
    """When no relay may be tried mails are put off, without a connection."""
    greeting = {"EHLO": b"250-x\r\n250 AUTH PLAIN\r\n"}
    async with scripted({**greeting, **script}) as server:
        async with a_pool(resting(server.port, login=LOGIN)) as pool:
            first = await pool.send(a_mail())
            others = [await pool.send(a_mail()) for _ in range(5)]

        assert not isinstance(first, Unsendable | NotAttempted)
        for other in others:
            assert isinstance(other, NotAttempted)
            assert 40 < other.seconds < 80
        assert server.heard["CONNECT"] == 1


async def test_the_earliest() -> None:
    """Mails wait for the relay whose pause ends first."""
    async with scripted({"CONNECT": CUT}) as one, scripted({"CONNECT": CUT}) as other:
        relays = resting(one.port), resting(other.port, Backoff(10, 10))
        async with a_pool(*relays) as pool:
            await sent(pool)
            postponed = await pool.send(a_mail())

    assert isinstance(postponed, NotAttempted)
    assert 5 < postponed.seconds < 15


async def test_back_by_itself() -> None:
    """After its pause a relay that serves us again gets its share again."""
    async with (
        scripted({"CONNECT": b"421 4.3.2 Busy\r\n"}) as server,
        a_pool(resting(server.port, AN_INSTANT)) as pool,
    ):
        assert await sent(pool) == [(Stage.CONNECT, 421)]
        server.script["CONNECT"] = b"220 x\r\n"
        await rested(pool)

        assert [await sent(pool) for _ in range(3)] == [DELIVERED] * 3


async def test_one_probe() -> None:
    """After a pause one mail finds out for all whether the relay is back."""
    async with scripted({"CONNECT": CUT}) as server:
        async with a_pool(resting(server.port, AN_INSTANT), connections=10) as pool:
            await sent(pool)
            await rested(pool)
            results = await asyncio.gather(*(pool.send(a_mail()) for _ in range(10)))

        assert server.heard["CONNECT"] == 2
        assert sum(isinstance(result, NotAttempted) for result in results) == 9


async def test_refused_by_policy(simulator: Simulator) -> None:
    """A relay that refuses a sender repeatedly is tried after those that accept it."""
    async with scripted({"MAIL": b"550 5.7.1 Your mail is not wanted\r\n"}) as server:
        relays = resting(server.port), resting(simulator.smtp_port)
        async with a_pool(*relays) as pool:
            assert [await sent(pool) for _ in range(10)] == [DELIVERED] * 10

        assert (server.heard["MAIL"], rests(server)) == (2, 0)


# Replies that one mail can bring about: its sender at MAIL, its recipients or content after that.
CAUSED = [
    f"{what}-{stage}{code}"
    for stage in ("mail", "rcpt", "data", "dot")
    for what, code in (
        ("drop", ""),
        *(
            ("reply", code)
            for code in (
                "-421-4-3-2",
                "-421-4-7-0",
                "-450-4-7-1",
                "-450-4-2-0",
                "-451-4-3-0",
                "-451-4-7-1",
                "-452-4-3-1",
                "-452-4-4-5",
                "-452-4-5-3",
                "-454-4-7-0",
                "-503-5-5-1",
                "-530-5-7-0",
                "-550",
                "-550-5-1-7",
                "-550-5-1-8",
                "-550-5-7-1",
                "-550-5-7-26",
                "-552-5-3-4",
                "-553-5-7-1",
                "-554-5-7-1",
                "-555-5-5-4",
            )
        ),
    )
]


@pytest.mark.parametrize("taken_before", [True, False])
@pytest.mark.parametrize("magic", CAUSED)
async def test_caused_by_one_mail(simulator: Simulator, magic: str, taken_before: bool) -> None:  # noqa: FBT001 -- a column of the table
    """No reply that one client's mails can cause makes a relay pause, or be used less."""
    relay = resting(simulator.smtp_port)
    async with a_pool(relay, connections=4) as pool:
        if taken_before:
            assert await sent(pool) == DELIVERED
        for number in range(6):
            address = f"{magic}+{number}@x.example"
            at_mail = "-mail" in magic
            mail = a_mail(sender=address) if at_mail else a_mail(address)
            assert not isinstance(await pool.send(mail), Unsendable | NotAttempted)

            assert pool._pools[relay.name].wait == 0
        route = pool._pools[relay.name]
        assert route._limiter._limit.limit == 4
        assert await sent(pool) == DELIVERED
        assert not taken_before or route._pipelining.allows(1, 0)


async def test_many_made_up_senders(simulator: Simulator) -> None:
    """A flood of refused senders does not take the relay from the others."""
    async with a_pool(resting(simulator.smtp_port), connections=4) as pool:
        flood = [
            pool.send(a_mail(sender=f"reply-mail-553-5-7-1+{number}@x.example"))
            for number in range(100)
        ]
        results = await asyncio.gather(*flood, *(pool.send(a_mail()) for _ in range(10)))

    assert [ends(result) for result in results] == [[(Stage.MAIL, 553)]] * 100 + [DELIVERED] * 10


SPOILT = [b"550 5.7.1 Not wanted\r\n", b"554 5.7.1 Blocked\r\n", b"530 5.7.0 Log in\r\n", CUT]


@pytest.mark.parametrize("reply", SPOILT)
@pytest.mark.parametrize("senders", [1, 2, 5])
async def test_a_relay_that_went_bad(reply: bytes, senders: int) -> None:
    """A relay that refuses all senders that it accepted before is paused, and no mail fails."""
    mails = [a_mail(sender=f"{number}@our.example") for number in range(senders)]
    async with scripted({}) as server:
        async with a_pool(resting(server.port)) as pool:
            for mail in mails:
                assert ends(await pool.send(mail)) == DELIVERED
            server.script["MAIL"] = reply
            results = [(mail, await pool.send(mail)) for mail in mails * 6]

        tried = [mail for mail, result in results if not isinstance(result, NotAttempted)]
        assert len(tried) <= 3
        assert all(mail.progress.suspected for mail in tried)
        assert rests(server) == 1


async def test_one_account_that_went_bad() -> None:
    """A sender that the relay refuses from now on fails, once others are still accepted."""
    async with scripted({}) as server, a_pool(resting(server.port)) as pool:
        eve, anna = a_mail(sender="eve@our.example"), a_mail()
        for mail in (eve, anna):
            assert ends(await pool.send(mail)) == DELIVERED
        server.script["MAIL FROM:<eve@our.example>"] = b"553 5.7.1 Not yours\r\n"

        await pool.send(eve)
        at_first = eve.progress.suspected
        assert ends(await pool.send(anna)) == DELIVERED
        assert [ends(await pool.send(eve)) for _ in range(5)] == [[(Stage.MAIL, 553)]] * 5
        assert (at_first, eve.progress.suspected) == (True, False)
        assert rests(server) == 0


async def test_one_rate_of_many() -> None:
    """A sender at its own rate limit does not slow the others; only all of them lower the limit."""
    async with scripted({}) as server, a_pool(resting(server.port), connections=4) as pool:
        width = pool._pools[f"127.0.0.1:{server.port}"]._limiter._limit
        eve, anna = a_mail(sender="eve@our.example"), a_mail()
        for mail in (eve, anna):
            assert ends(await pool.send(mail)) == DELIVERED
        server.script["MAIL FROM:<eve@our.example>"] = b"450 4.7.1 Too fast\r\n"
        for _ in range(5):
            await pool.send(eve)
        alone = width.limit
        server.script["MAIL"] = b"450 4.7.1 Too fast\r\n"
        await pool.send(anna)

        assert (alone, width.limit) == (4, 2)


async def test_too_many_connections(simulator: Simulator) -> None:
    """A relay that refuses another connection is not paused: its open ones go on."""
    simulator.behaviour = Behaviour(connections=1)

    async with a_pool(resting(simulator.smtp_port), connections=2) as pool:
        slow = "slow-1000-dot@x.example"
        await asyncio.gather(sent(pool, slow), sent(pool, slow))

        assert [await sent(pool) for _ in range(3)] == [DELIVERED] * 3


async def test_over_what_is_open(simulator: Simulator) -> None:
    """A relay that refuses new connections is still used over its open ones."""
    async with a_pool(resting(simulator.smtp_port), connections=2) as pool:
        await sent(pool)
        simulator.behaviour = Behaviour(refuse=StageRefusals(connect="554 5.7.1 No"))

        assert [await sent(pool) for _ in range(3)] == [DELIVERED] * 3


async def test_too_fast(simulator: Simulator) -> None:
    """A relay that asks for less mail is not paused."""
    simulator.behaviour = Behaviour(rate=MailRate(per_second=0.001))

    async with a_pool(resting(simulator.smtp_port)) as pool:
        results = [await sent(pool) for _ in range(4)]

    assert results == [DELIVERED, *[[(Stage.MAIL, 450)]] * 3]


async def test_by_weight(simulator: Simulator) -> None:
    """Each relay has its share, and connections of its own."""
    async with Simulator() as other:
        relays = resting(simulator.smtp_port), replace(resting(other.smtp_port), weight=3)
        async with a_pool(*relays) as pool:
            for _ in range(40):
                assert await sent(pool) == DELIVERED

        assert (len(simulator.mailbox), len(other.mailbox)) == (10, 30)
        assert (simulator.traffic.total, other.traffic.total) == (1, 1)


WITHOUT_UTF8 = tuple(each for each in EXTENSIONS if each != "SMTPUTF8")
INTERNATIONAL = a_mail("jörg@x.example", needs_smtputf8=True)
LARGE = a_mail(content=b"Subject: large\r\n\r\n" + (b"x" * 70 + b"\r\n") * 400)


async def test_what_another_has(simulator: Simulator) -> None:
    """A mail that one relay's extensions do not allow goes to another relay."""
    simulator.behaviour = Behaviour(extensions=WITHOUT_UTF8, size_limit=20_000)
    async with Simulator() as other:
        relays = resting(simulator.smtp_port), resting(other.smtp_port)
        async with a_pool(*relays) as pool:
            mails = [INTERNATIONAL, LARGE, a_mail()] * 6
            results = [ends(await pool.send(mail)) for mail in mails]

        assert results == [[(Stage.DOT, 250)]] * 18
        assert len(other.mailbox) >= 12
        assert len(simulator.mailbox) + len(other.mailbox) == 18


async def test_what_none_has(simulator: Simulator) -> None:
    """A mail that no relay allows fails, with the reason of the relay that came closest."""
    simulator.behaviour = Behaviour(extensions=WITHOUT_UTF8)
    async with Simulator() as other:
        other.behaviour = Behaviour(size_limit=10)
        for ports in ((simulator, other), (other, simulator)):
            async with a_pool(*(resting(each.smtp_port) for each in ports)) as pool:
                result = await pool.send(INTERNATIONAL)

            assert result == Unsendable(FailureReason.TOO_BIG)


async def test_what_one_that_rests_may_have(simulator: Simulator) -> None:
    """While a paused relay may still take a mail, the mail is put off."""
    simulator.behaviour = Behaviour(size_limit=10)
    async with scripted({"CONNECT": CUT}) as away:
        relays = resting(away.port), resting(simulator.smtp_port)
        async with a_pool(*relays) as pool:
            first, second = await pool.send(a_mail()), await pool.send(a_mail())

    assert ends(first) == [(Stage.CONNECT, 0)]
    assert isinstance(second, NotAttempted)
    assert 40 < second.seconds < 80


@pytest.mark.parametrize(
    "reply",
    [
        b"552 5.3.4 Too big\r\n",
        b"452 4.3.1 Insufficient system storage\r\n",
        b"450 4.7.1 Too fast\r\n",
        b"553 5.7.1 Not yours\r\n",
        b"555 5.5.4 What\r\n",
    ],
)
async def test_refused_at_mail(simulator: Simulator, reply: bytes) -> None:
    """A mail that one relay refuses at MAIL goes to the next relay."""
    async with scripted({"MAIL": reply}) as server:
        relays = resting(server.port), resting(simulator.smtp_port)
        mail = a_mail()
        async with a_pool(*relays) as pool:
            assert [ends(await pool.send(mail)) for _ in range(6)] == [DELIVERED] * 6

        assert server.heard["MAIL"] >= 2
        assert mail.progress.relay == f"127.0.0.1:{simulator.smtp_port}"


async def test_cancelled_probe() -> None:
    """A cancelled attempt after a pause lets the next one through."""
    async with (
        scripted({"CONNECT": CUT}) as server,
        a_pool(resting(server.port, AN_INSTANT)) as pool,
    ):
        await sent(pool)
        await rested(pool)
        server.script["CONNECT"] = b"-"
        probe = asyncio.create_task(sent(pool))
        await until(lambda: heard(server, 2))
        probe.cancel()
        await asyncio.wait({probe})
        server.script["CONNECT"] = b"220 x\r\n"

        assert await sent(pool) == DELIVERED


async def heard(server: Scripted, connections: int) -> bool:
    """Return whether there were so many connections."""
    return server.heard["CONNECT"] >= connections
