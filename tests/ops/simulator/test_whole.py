"""The behaviour towards all clients, as they see it."""

import asyncio
from typing import Literal

import pytest

from ops.simulator.behaviour import Behaviour, MailRate, RecipientLimit, SessionLimit, StageRefusals
from ops.simulator.simulator import Simulator
from tests.clock import Watch
from tests.ops.simulator.raw import connected, greeted


async def test_latency(simulator: Simulator) -> None:
    """Each reply is late by the latency; pipelined commands share one."""
    loop = asyncio.get_running_loop()
    async with greeted(simulator.smtp_port) as smtp:
        simulator.behaviour = Behaviour(latency_ms=100)
        began = loop.time()
        await smtp.say("NOOP")
        once = loop.time() - began
        smtp.write("NOOP\r\n" * 400)
        for _ in range(400):
            await smtp.hear()

    assert once >= 0.1
    assert loop.time() - began < 40  # 100 ms each would take more


async def test_latency_end(simulator: Simulator) -> None:
    """A client that disconnects while its data are delayed is closed."""
    async with greeted(simulator.smtp_port) as smtp:
        simulator.behaviour = Behaviour(latency_ms=50)
        smtp.write("NOOP\r\n")
    await simulator.traffic.wait_until(lambda: simulator.traffic.open == 0)

    assert simulator.traffic.commands["NOOP"] == 0


async def test_connections(simulator: Simulator) -> None:
    """One connection too many is refused with 421, until another ends."""
    simulator.behaviour = Behaviour(connections=1)
    async with connected(simulator.smtp_port) as first:
        assert (await first.hear())[:3] == "220"
        async with connected(simulator.smtp_port) as second:
            assert (await second.hear())[:9] == "421 4.3.2"
            assert await second.hear() == ""
    await simulator.traffic.wait_until(lambda: simulator.traffic.open == 0)
    async with connected(simulator.smtp_port) as third:
        assert (await third.hear())[:3] == "220"


async def test_served_at_once(simulator: Simulator) -> None:
    """Two places serve four mails in twice the time; mails queue, and none is lost."""
    loop = asyncio.get_running_loop()
    simulator.behaviour = Behaviour(served_at_once=2, service_ms=80)

    async def send(number: int) -> float:
        async with greeted(simulator.smtp_port) as smtp:
            await smtp.mail(f"{number}@x.example")
            return loop.time() - began

    began = loop.time()
    took = sorted(await asyncio.gather(*(send(number) for number in range(4))))

    assert min(took) >= 0.079
    assert took[2] >= 0.15
    assert len(simulator.mailbox) == 4


async def test_mails_per_connection(simulator: Simulator) -> None:
    """After so many mails the next MAIL gets 421 and the connection is closed."""
    simulator.behaviour = Behaviour(mails_per_connection=2)
    async with greeted(simulator.smtp_port) as smtp:
        replies = [(await smtp.mail("b@x.example"))[:3] for _ in range(3)]
        assert await smtp.hear() == ""

    assert replies == ["250", "250", "421"]


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
async def test_session(simulator: Simulator, stage: Literal["mail", "rcpt", "data"]) -> None:
    """After so many mails a connection accepts no more, and stays open."""
    simulator.behaviour = Behaviour(session=SessionLimit(mails=1, stage=stage))
    commands = ["MAIL FROM:<a@x.example>", "RCPT TO:<b@x.example>", "DATA"]
    async with greeted(simulator.smtp_port) as smtp:
        first = await smtp.mail("b@x.example")
        replies = [await smtp.say(command) for command in commands]
        after = await smtp.say("NOOP")

    assert (first[:3], after[:3]) == ("250", "250")
    at = ["mail", "rcpt", "data"].index(stage)
    assert replies[at] == "452 4.4.5 Maximum number of messages per session exceeded"
    assert all(reply[:3] == "250" for reply in replies[:at])


async def test_transaction(simulator: Simulator) -> None:
    """Recipients beyond the limit of one mail are refused; the next mail starts anew."""
    simulator.behaviour = Behaviour(transaction=RecipientLimit(recipients=2))
    async with greeted(simulator.smtp_port) as smtp:
        for _ in range(2):
            await smtp.say("MAIL FROM:<a@x.example>")
            replies = [await smtp.say(f"RCPT TO:<{name}@x.example>") for name in "bcde"]
            await smtp.say("RSET")

            assert [reply[:9] for reply in replies] == ["250 2.1.5"] * 2 + ["452 4.5.3"] * 2


async def test_rate(simulator: Simulator, clock: Watch) -> None:
    """MAIL beyond the rate is deferred, until time has passed."""
    simulator.behaviour = Behaviour(rate=MailRate(per_second=1, burst=2))
    async with greeted(simulator.smtp_port) as smtp:
        replies = [(await smtp.mail("b@x.example"))[:9] for _ in range(3)]
        clock.now += 1
        replies.append((await smtp.mail("b@x.example"))[:9])

    assert replies == ["250 2.0.0", "250 2.0.0", "450 4.7.1", "250 2.0.0"]


@pytest.mark.parametrize(
    ("refuse", "lines", "reply"),
    [
        (StageRefusals(connect="554 5.7.1 Blocked"), [], "554 5.7.1 Blocked"),
        (StageRefusals(connect="421 4.3.2 Later"), [], "421 4.3.2 Later"),
        (StageRefusals(ehlo="502 5.5.1 No"), ["EHLO x"], "502 5.5.1 No"),
        (StageRefusals(helo="550 No"), ["HELO x"], "550 No"),
        (StageRefusals(auth="454 4.7.0 No"), ["EHLO x", "AUTH LOGIN"], "454 4.7.0 No"),
    ],
)
async def test_refusals(
    simulator: Simulator, refuse: StageRefusals, lines: list[str], reply: str
) -> None:
    """All clients are refused at the configured stage, with the configured reply."""
    simulator.behaviour = Behaviour(refuse=refuse)
    async with connected(simulator.smtp_port) as smtp:
        heard = await smtp.hear()
        for line in lines:
            heard = await smtp.say(line)

    assert heard == reply


async def test_helo_instead(simulator: Simulator) -> None:
    """A client whose EHLO was refused can go on with HELO."""
    simulator.behaviour = Behaviour(refuse=StageRefusals(ehlo="502 5.5.1 No"))
    async with connected(simulator.smtp_port) as smtp:
        await smtp.begin()
        assert (await smtp.say("HELO x"))[:3] == "250"
        assert (await smtp.mail("b@x.example"))[:3] == "250"


async def test_idle(simulator: Simulator) -> None:
    """A client that is silent for too long gets a 421, and is disconnected."""
    simulator.behaviour = Behaviour(idle_timeout_ms=30)
    async with connected(simulator.smtp_port) as smtp:
        assert (await smtp.hear())[:3] == "220"
        assert (await smtp.hear())[:9] == "421 4.4.2"
        assert await smtp.hear() == ""


async def test_waiting_is_not_idle(simulator: Simulator) -> None:
    """A client that waits for a slow reply is not idle."""
    simulator.behaviour = Behaviour(idle_timeout_ms=300)
    async with greeted(simulator.smtp_port) as smtp:
        assert (await smtp.mail("slow-700-dot@x.example"))[:3] == "250"


async def test_extensions(simulator: Simulator) -> None:
    """EHLO lists the offered extensions, and the others are refused."""
    simulator.behaviour = Behaviour(extensions=("SIZE",), size_limit=5000)
    async with connected(simulator.smtp_port) as smtp:
        offered = (await smtp.begin()).split("\n")[1:]
        assert offered == ["250-SIZE 5000", "250 HELP"]
        assert (await smtp.say("AUTH LOGIN"))[:3] == "502"
        assert (await smtp.say("STARTTLS"))[:3] == "502"
        assert (await smtp.say("MAIL FROM:<a@x> BODY=8BITMIME"))[:3] == "555"
        assert (await smtp.say("MAIL FROM:<a@x> SIZE=10"))[:3] == "250"


async def test_size(simulator: Simulator) -> None:
    """A mail that is too large is refused, announced or not, and the session goes on."""
    simulator.behaviour = Behaviour(size_limit=1000)
    fits = "x" * 98 + "\r\n"
    async with greeted(simulator.smtp_port) as smtp:
        assert (await smtp.say("MAIL FROM:<a@x> SIZE=1001"))[:3] == "552"
        assert (await smtp.mail("b@x.example", body=fits * 10))[:3] == "250"
        over = await smtp.mail("b@x.example", body=fits * 2000)
        assert over[:9] == "552 5.3.4"
        assert (await smtp.mail("b@x.example"))[:3] == "250"


async def test_tls_demanded(secure: Simulator) -> None:
    """Without TLS only STARTTLS and what precedes it are served."""
    secure.behaviour = Behaviour(require_tls=True)
    async with connected(secure.smtp_port) as smtp:
        assert "250-STARTTLS" in (await smtp.begin()).split("\n")
        assert (await smtp.say("MAIL FROM:<a@x.example>"))[:9] == "530 5.7.0"
        assert (await smtp.say("AUTH LOGIN"))[:9] == "530 5.7.0"
        assert (await smtp.say("STARTTLS"))[:3] == "220"


async def test_auth_demanded(secure: Simulator) -> None:
    """A mail is accepted only after a login."""
    secure.behaviour = Behaviour(require_auth=True)
    async with greeted(secure.smtp_port) as smtp:
        assert (await smtp.say("MAIL FROM:<a@x.example>"))[:9] == "530 5.7.0"
        assert (await smtp.say("AUTH PLAIN AGFubmEAbm8="))[:3] == "535"
        assert (await smtp.say("AUTH PLAIN AGFubmEAcHc="))[:3] == "235"
        assert (await smtp.mail("b@x.example"))[:3] == "250"


async def test_takes_effect_at_once(simulator: Simulator) -> None:
    """A new behaviour applies to open sessions."""
    async with greeted(simulator.smtp_port) as smtp:
        simulator.behaviour = Behaviour(require_auth=True)
        assert (await smtp.say("MAIL FROM:<a@x.example>"))[:3] == "530"


async def test_failed_handshake(secure: Simulator) -> None:
    """A client that fails the TLS handshake is closed and no longer counted."""
    async with connected(secure.tls_port or 0) as smtp:
        smtp.write("EHLO x\r\n")
        await smtp.hear()
    async with greeted(secure.smtp_port) as smtp:
        await smtp.say("STARTTLS")
        smtp.write("EHLO x\r\n")
        await smtp.hear()
    await secure.traffic.wait_until(lambda: secure.traffic.open == 0)

    assert secure.traffic.total == 1


async def test_close(simulator: Simulator) -> None:
    """The end of the simulator closes all connections, even while a mail is served."""
    async with Simulator() as other, greeted(other.smtp_port) as smtp:
        smtp.write("MAIL FROM:<slow-60000-mail@x.example>\r\n")
        await other.traffic.wait_until(lambda: other.traffic.commands["MAIL"] == 1)
        await other.__aexit__()

        assert await smtp.hear() == ""
        assert other.traffic.open == 0
    assert simulator.traffic.total == 0
