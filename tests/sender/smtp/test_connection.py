"""Tests of one SMTP transaction, stage by stage, against the simulator and faulty servers."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ops.simulator.behaviour import EXTENSIONS, Behaviour
from ops.simulator.simulator import Simulator
from services.sender.outcome import FailureReason, Unsendable
from services.sender.smtp.connect import connect
from services.sender.smtp.relay import Timeouts
from shared.contracts import Stage
from tests.sender.mails import ANNA, a_mail, a_pool, a_relay, ends, of, sent
from tests.sender.scripted import HANG, PIPELINING, scripted
from tests.waiting import PATIENCE_SECONDS

DELIVERED = [(Stage.DOT, 250)]
STAGES = ["mail", "rcpt", "data", "dot"]
BRIEF = Timeouts(connect=2, command=2, dot=2, write=2)
BEN = "ben@x.example"
BIG = b"Subject: big\r\n\r\n" + b"x" * 76 * 10**5 + b"\r\n"


@pytest.fixture(params=["in a group", "in lock-step"])
def simulator(request: pytest.FixtureRequest, simulator: Simulator) -> Simulator:
    """Return a simulator with PIPELINING, then one without."""
    if request.param == "in lock-step":
        extensions = tuple(each for each in EXTENSIONS if each != "PIPELINING")
        simulator.behaviour = Behaviour(extensions=extensions)
    return simulator


@pytest.mark.parametrize("code", [450, 550])
@pytest.mark.parametrize("stage", STAGES)
async def test_refused(simulator: Simulator, stage: str, code: int) -> None:
    """A refusal is reported with its stage; the connection serves the next mail."""
    magic = f"reply-{stage}-{code}-{code // 100}-1-1@x.example"

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        reply = of(await pool.send(a_mail(magic, sender=magic)))[magic]
        after = await sent(pool)

    assert (reply.stage, reply.code, reply.enhanced) == (stage, code, f"{code // 100}.1.1")
    assert after == DELIVERED
    assert simulator.traffic.total == 1


@pytest.mark.parametrize("stage", STAGES)
async def test_dropped(simulator: Simulator, stage: str) -> None:
    """A lost connection is reported with its stage, and replaced."""
    magic = f"drop-{stage}@x.example"

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        result = await pool.send(a_mail(magic, sender=magic))
        after = await sent(pool)

    assert ends(result) == [(stage, 0)]
    assert after == DELIVERED
    assert simulator.traffic.total == 2


async def test_dropped_after_the_dot(simulator: Simulator) -> None:
    """A lost reply to the dot is reported as such, though the mail arrived."""
    magic = "drop-after-dot@x.example"

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        result = await sent(pool, magic)

    assert result == [(Stage.DOT, 0)]
    assert simulator.mailbox.count(magic) == 1


@pytest.mark.parametrize("stage", STAGES)
async def test_too_slow(simulator: Simulator, stage: str) -> None:
    """Each reply has a time limit of its own; a late reply is not read as that to another mail."""
    magic = f"slow-60000-{stage}@x.example"

    async with a_pool(a_relay(simulator.smtp_port, timeouts=BRIEF)) as pool:
        result = await pool.send(a_mail(magic, sender=magic))
        after = await sent(pool)

    assert ends(result) == [(stage, 0)]
    assert after == DELIVERED


async def test_slow_enough(simulator: Simulator) -> None:
    """The limit is for each reply, not for their sum."""
    slow = [f"slow-1000-rcpt+{number}@x.example" for number in range(6)]
    each = Timeouts(command=5)

    async with a_pool(a_relay(simulator.smtp_port, timeouts=each)) as pool:
        assert await sent(pool, *slow) == [(Stage.DOT, 250)] * 6


async def test_deadline(simulator: Simulator) -> None:
    """Replies within their limits may take too long together; the dot has a limit of its own."""
    slow = [f"slow-1000-rcpt+{number}@x.example" for number in range(4)]
    loop = asyncio.get_running_loop()
    connection = await connect(a_relay(simulator.smtp_port), loop.time() + PATIENCE_SECONDS)

    late = await connection.transact(a_mail(*slow), loop.time() + 3)
    fresh = await connect(a_relay(simulator.smtp_port), loop.time() + PATIENCE_SECONDS)
    dot = await fresh.transact(a_mail("slow-3500-dot@x.example"), loop.time() + 3)
    await fresh.quit()

    assert ends(late) == [(Stage.RCPT, 0)] * 4
    assert not connection.usable
    assert ends(dot) == DELIVERED


async def test_each_recipient(simulator: Simulator) -> None:
    """Each recipient of a transaction has its own outcome, and those not refused get the mail."""
    recipients = (
        ANNA,
        "reply-rcpt-550-5-1-1@x.example",
        "ben@x.example",
        "reply-rcpt-451@x.example",
    )

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        result = await sent(pool, *recipients)

    assert result == [(Stage.DOT, 250), (Stage.RCPT, 550), (Stage.DOT, 250), (Stage.RCPT, 451)]
    assert [mail.recipients for mail in simulator.mailbox.find()] == [(ANNA, "ben@x.example")]


async def test_no_recipient_accepted(simulator: Simulator) -> None:
    """When all recipients are refused no content is sent."""
    refused = ["reply-rcpt-550@x.example", "reply-rcpt-451@x.example"]

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        result = await sent(pool, *refused)
        after = await sent(pool)

    assert result == [(Stage.RCPT, 550), (Stage.RCPT, 451)]
    assert after == DELIVERED
    assert len(simulator.mailbox) == 1
    assert simulator.traffic.total == 1


async def test_421_among_recipients(simulator: Simulator) -> None:
    """421 ends the whole transaction, but recipients refused before stay refused."""
    recipients = (ANNA, "reply-rcpt-550@x.example", "reply-rcpt-421@x.example", "ben@x.example")

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        result = await sent(pool, *recipients)

    assert result == [(Stage.RCPT, code) for code in (421, 550, 421, 421)]
    assert len(simulator.mailbox) == 0


async def test_greylisted(simulator: Simulator) -> None:
    """Greylisting is a temporary refusal like any other."""
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        assert await sent(pool, "greylist-60@x.example") == [(Stage.RCPT, 451)]


@pytest.mark.parametrize(
    "content",
    [
        b"Subject: dots\r\n\r\n.\r\n..\r\n.a\r\na.\r\n",
        b"Subject: end\r\n\r\nQUIT\r\n.\r\n",
        b".begins with a dot: 1\r\n\r\n\r\n.\r\n",
        b"Subject: 8-bit\r\n\r\n\xc3\xa4\xff\r\n",
        b"Subject: long\r\n\r\n" + b"." * 998 + b"\r\n",
    ],
)
async def test_octets(simulator: Simulator, content: bytes) -> None:
    """The content arrives octet by octet, dots at the beginning of a line included."""
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        await pool.send(a_mail(content=content))
        assert await sent(pool) == DELIVERED

    assert simulator.mailbox.find()[1].raw == content
    assert len(simulator.mailbox) == 2


async def test_size(simulator: Simulator) -> None:
    """A mail over the server's SIZE is not sent; the next one is."""
    simulator.behaviour = Behaviour(size_limit=100)

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        result = await pool.send(a_mail(content=b"x" * 99 + b"\r\n"))
        after = await sent(pool)

    assert result == Unsendable(FailureReason.TOO_BIG)
    assert after == DELIVERED
    assert simulator.traffic.commands["MAIL"] == 1


async def test_plain_server(simulator: Simulator) -> None:
    """A server without extensions gets no parameters."""
    simulator.behaviour = Behaviour(extensions=())

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        assert await sent(pool) == DELIVERED


async def test_smtputf8(simulator: Simulator) -> None:
    """A non-ASCII address is sent in UTF-8 where SMTPUTF8 is offered, else not at all."""
    mail = a_mail("jörg@x.example", needs_smtputf8=True)

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        offered = await pool.send(mail)
    simulator.behaviour = Behaviour(extensions=tuple(e for e in EXTENSIONS if e != "SMTPUTF8"))
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        not_offered = await pool.send(mail)

    assert ends(offered) == DELIVERED
    assert not_offered == Unsendable(FailureReason.SMTPUTF8_NOT_OFFERED)
    assert simulator.mailbox.count("jörg@x.example") == 1


async def test_smtputf8_for_one(simulator: Simulator) -> None:
    """Without SMTPUTF8 only the recipients that need it are put off."""
    simulator.behaviour = Behaviour(extensions=tuple(e for e in EXTENSIONS if e != "SMTPUTF8"))
    mail = a_mail(ANNA, "jörg@y.example", needs_smtputf8=True)

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        anna, joerg = ends(await pool.send(mail))
        alone = await pool.send(replace(mail, recipients=("jörg@y.example",)))

    assert (anna, joerg) == ((Stage.DOT, 250), (Stage.RCPT, 452))
    assert alone == Unsendable(FailureReason.SMTPUTF8_NOT_OFFERED)
    assert [mail.recipients for mail in simulator.mailbox.find()] == [(ANNA,)]


async def test_one_group() -> None:
    """With PIPELINING all commands go out before any reply has come."""
    script = {"MAIL": HANG, "RCPT": HANG, "DATA": b"250 OK\r\n" * 3 + b"354 Go on\r\n"}
    async with scripted({**PIPELINING, **script}) as server, a_pool(a_relay(server.port)) as pool:
        assert await sent(pool, ANNA, BEN) == DELIVERED * 2

    assert server.lines[1:5] == [
        b"MAIL FROM:<post@our.example>\r\n",
        b"RCPT TO:<anna@x.example>\r\n",
        b"RCPT TO:<ben@x.example>\r\n",
        b"DATA\r\n",
    ]


async def test_most_mails() -> None:
    """A connection serves as many mails as the server allows (RFC 9422)."""
    script = {"EHLO": b"250-x\r\n250 LIMITS MAILMAX=2\r\n"}
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        assert [await sent(pool) for _ in range(5)] == [DELIVERED] * 5

    assert (server.heard["CONNECT"], server.heard["QUIT"]) == (3, 3)


async def test_most_recipients() -> None:
    """Recipients beyond the server's limit get a reply that there was no room."""
    script = {"EHLO": b"250-x\r\n250 LIMITS RCPTMAX=2\r\n"}
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        result = await pool.send(a_mail("a@x.example", "b@x.example", "c@x.example"))

    assert ends(result) == [(Stage.DOT, 250), (Stage.DOT, 250), (Stage.RCPT, 452)]
    assert server.heard["RCPT"] == 2


@pytest.mark.parametrize("where", ["MAIL FROM", "RCPT TO"])
async def test_injection(where: str) -> None:
    """An address with a line end never reaches a server, even unchecked."""
    evil = "anna@x.example>\r\nRSET"
    mail = a_mail(evil) if where == "RCPT TO" else a_mail(sender=evil)

    async with scripted(PIPELINING) as server, a_pool(a_relay(server.port)) as pool:
        with pytest.raises(ValueError, match="control character"):
            await pool.send(mail)

    assert server.heard["MAIL"] == server.heard["RSET"] == 0


async def test_too_late(simulator: Simulator) -> None:
    """A mail that has expired when its connection is open is not begun."""
    late = replace(a_mail(), not_after=datetime.now(UTC) - timedelta(seconds=1))
    early = replace(a_mail(), not_after=datetime.now(UTC) + timedelta(seconds=60))

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        assert await pool.send(late) == Unsendable(FailureReason.EXPIRED)
        assert ends(await pool.send(early)) == DELIVERED

    assert simulator.traffic.commands["MAIL"] == 1


async def test_reports() -> None:
    """A server with DSN gets the id of the mail for reports, and each recipient's address."""
    odd, unicode = '"a+b=c d"@x.example', "ännchen@x.example"
    mail = replace(a_mail(ANNA, odd, unicode, needs_smtputf8=True), envelope_id="mail-1")
    offers = {"EHLO": b"250-x\r\n250-SMTPUTF8\r\n250 DSN\r\n"}
    async with scripted(offers) as server, a_pool(a_relay(server.port)) as pool:
        assert ends(await pool.send(mail)) == DELIVERED * 3

    assert [line.decode().strip() for line in server.lines[1:5]] == [
        "MAIL FROM:<post@our.example> SMTPUTF8 RET=HDRS ENVID=mail-1",
        f"RCPT TO:<{ANNA}> ORCPT=rfc822;{ANNA}",
        f'RCPT TO:<{odd}> ORCPT=rfc822;"a+2Bb+3Dc+20d"@x.example',
        f"RCPT TO:<{unicode}>",  # RFC 6533 has another form for it
    ]


async def test_no_reports() -> None:
    """A server without DSN gets none of its parameters (RFC 3461 3)."""
    mail = replace(a_mail(), envelope_id="mail-1")
    async with scripted({}) as server, a_pool(a_relay(server.port)) as pool:
        assert ends(await pool.send(mail)) == DELIVERED

    assert [line.decode().strip() for line in server.lines[1:3]] == [
        "MAIL FROM:<post@our.example>",
        f"RCPT TO:<{ANNA}>",
    ]


async def test_most_domains() -> None:
    """Recipients beyond the server's limit of domains are put off; the connection is exhausted."""
    limits = {"EHLO": b"250-x\r\n250 LIMITS RCPTDOMAINMAX=2\r\n"}
    several = ["a@one.example", "b@two.example", "c@three.example", "d@ONE.example"]
    put_off = (Stage.RCPT, 452)
    async with scripted(limits) as server, a_pool(a_relay(server.port)) as pool:
        first = await sent(pool, *several)
        again = await sent(pool, "e@two.example")
        connections = server.heard["CONNECT"]
        others = await sent(pool, "f@four.example")

        assert first == [*DELIVERED, *DELIVERED, put_off, *DELIVERED]
        assert (again, connections) == (DELIVERED, 1)
        assert (others, server.heard["CONNECT"]) == (DELIVERED, 2)
