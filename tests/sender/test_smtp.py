"""Tests of one SMTP transaction, stage by stage, against the simulator and worse servers."""

import asyncio
import ssl

import pytest
import trustme

from ops.simulator.behaviour import EXTENSIONS, Behaviour, Refusals
from ops.simulator.settings import Settings
from ops.simulator.simulator import Simulator
from services.sender.outcome import Reason, Unsendable
from services.sender.relay import Login, Patience, Tls
from services.sender.smtp import Connection
from shared.contracts import Stage
from tests.sender.mails import ANNA, a_mail, a_pool, a_relay, ends, of, sent
from tests.sender.scripted import CUT, HANG, scripted

DELIVERED = [(Stage.DOT, 250)]
STAGES = ["mail", "rcpt", "data", "dot"]
BRIEF = Patience(connect=0.3, command=0.3, dot=0.3)


@pytest.mark.parametrize("code", [450, 550])
@pytest.mark.parametrize("stage", STAGES)
async def test_refused(simulator: Simulator, stage: str, code: int) -> None:
    """A refusal is told with its stage; the connection goes on with the next mail."""
    magic = f"reply-{stage}-{code}-{code // 100}-1-1@x.example"

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        reply = of(await pool.send(a_mail(magic, sender=magic)))[magic]
        after = await sent(pool)

    assert (reply.stage, reply.code, reply.enhanced) == (stage, code, f"{code // 100}.1.1")
    assert after == DELIVERED
    assert simulator.traffic.total == 1


@pytest.mark.parametrize("stage", STAGES)
async def test_dropped(simulator: Simulator, stage: str) -> None:
    """A lost connection is told with the stage at which it was lost, and replaced."""
    magic = f"drop-{stage}@x.example"

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        result = await pool.send(a_mail(magic, sender=magic))
        after = await sent(pool)

    assert ends(result) == [(stage, 0)]
    assert after == DELIVERED
    assert simulator.traffic.total == 2


async def test_dropped_after_the_dot(simulator: Simulator) -> None:
    """When the reply to the dot is lost that is what is told, though the mail arrived."""
    magic = "drop-after-dot@x.example"

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        result = await sent(pool, magic)

    assert result == [(Stage.DOT, 0)]
    assert simulator.mailbox.count(magic) == 1


@pytest.mark.parametrize("stage", STAGES)
async def test_too_slow(simulator: Simulator, stage: str) -> None:
    """Each reply has a time limit of its own; the late reply is nobody else's."""
    magic = f"slow-60000-{stage}@x.example"

    async with a_pool(a_relay(simulator.smtp_port, patience=BRIEF)) as pool:
        result = await pool.send(a_mail(magic, sender=magic))
        after = await sent(pool)

    assert ends(result) == [(stage, 0)]
    assert after == DELIVERED


async def test_slow_enough(simulator: Simulator) -> None:
    """The limits are for each reply, not for their sum."""
    slow = [f"slow-200-rcpt+{number}@x.example" for number in range(3)]

    async with a_pool(a_relay(simulator.smtp_port, patience=BRIEF)) as pool:
        assert await sent(pool, *slow) == [(Stage.DOT, 250)] * 3


async def test_deadline(simulator: Simulator) -> None:
    """Replies that are each in time may still take too long together; the dot is apart."""
    slow = [f"slow-150-rcpt+{number}@x.example" for number in range(4)]
    loop = asyncio.get_running_loop()
    connection = await Connection.open(a_relay(simulator.smtp_port), loop.time() + 5)

    late = await connection.transact(a_mail(*slow), loop.time() + 0.4)
    fresh = await Connection.open(a_relay(simulator.smtp_port), loop.time() + 5)
    dot = await fresh.transact(a_mail("slow-400-dot@x.example"), loop.time() + 0.3)
    await fresh.quit()

    assert ends(late) == [(Stage.RCPT, 0)] * 4
    assert not connection.usable
    assert ends(dot) == DELIVERED


async def test_each_recipient(simulator: Simulator) -> None:
    """One transaction, many recipients: each has its own outcome, the others get the mail."""
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


async def test_nobody_accepted(simulator: Simulator) -> None:
    """When all recipients are refused there is no DATA."""
    refused = ["reply-rcpt-550@x.example", "reply-rcpt-451@x.example"]

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        result = await sent(pool, *refused)
        after = await sent(pool)

    assert result == [(Stage.RCPT, 550), (Stage.RCPT, 451)]
    assert after == DELIVERED
    assert simulator.traffic.commands["DATA"] == 1


async def test_421_among_recipients(simulator: Simulator) -> None:
    """421 ends the whole transaction, but what was refused before stays refused."""
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
    """What arrives is what was sent, octet by octet, dots at the begin of a line included."""
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        await pool.send(a_mail(content=content))
        assert await sent(pool) == DELIVERED

    assert simulator.mailbox.find()[1].raw == content
    assert len(simulator.mailbox) == 2


async def test_size(simulator: Simulator) -> None:
    """A mail larger than the server takes is not sent at all; the next one is."""
    simulator.behaviour = Behaviour(size_limit=100)

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        result = await pool.send(a_mail(content=b"x" * 99 + b"\r\n"))
        after = await sent(pool)

    assert result == Unsendable(Reason.TOO_BIG)
    assert after == DELIVERED
    assert simulator.traffic.commands["MAIL"] == 1


async def test_plain_server(simulator: Simulator) -> None:
    """A server without extensions gets no parameters that it would refuse."""
    simulator.behaviour = Behaviour(extensions=())

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        assert await sent(pool) == DELIVERED


async def test_no_ehlo(simulator: Simulator) -> None:
    """A server without EHLO is greeted with HELO."""
    simulator.behaviour = Behaviour(refuse=Refusals(ehlo="502 5.5.1 Unknown"))

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        assert await sent(pool) == DELIVERED


async def test_smtputf8(simulator: Simulator) -> None:
    """A non-ASCII address goes out in UTF-8 where that is offered, else not at all."""
    mail = a_mail("jörg@x.example", needs_smtputf8=True)

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        offered = await pool.send(mail)
    simulator.behaviour = Behaviour(extensions=tuple(e for e in EXTENSIONS if e != "SMTPUTF8"))
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        not_offered = await pool.send(mail)

    assert ends(offered) == DELIVERED
    assert not_offered == Unsendable(Reason.SMTPUTF8_NOT_OFFERED)
    assert simulator.mailbox.count("jörg@x.example") == 1


@pytest.mark.parametrize(
    ("refuse", "end"),
    [
        (Refusals(connect="554 5.7.1 Blocked"), (Stage.CONNECT, 554)),
        (Refusals(connect="421 4.3.2 Busy"), (Stage.CONNECT, 421)),
        (Refusals(ehlo="421 4.3.2 Busy"), (Stage.EHLO, 421)),
        (Refusals(ehlo="550 5.7.1 No", helo="550 5.7.1 No"), (Stage.EHLO, 550)),
        (Refusals(auth="535 5.7.8 Wrong"), (Stage.AUTH, 535)),
        (Refusals(auth="454 4.7.0 Later"), (Stage.AUTH, 454)),
    ],
)
async def test_refused_before_mail(
    simulator: Simulator, refuse: Refusals, end: tuple[Stage, int]
) -> None:
    """A server that refuses us is told with its stage, for all recipients, and left."""
    simulator.behaviour = Behaviour(refuse=refuse)
    relay = a_relay(simulator.smtp_port, login=Login("anna", "pw"))

    async with a_pool(relay) as pool:
        assert await sent(pool, ANNA, "ben@x.example") == [end, end]
        await simulator.traffic.wait_until(lambda: simulator.traffic.open == 0)


async def test_one_failed_login(secure: Simulator, trusting: ssl.SSLContext) -> None:
    """A wrong password is tried once, not once for each method: servers lock accounts."""
    login = Login("anna", "wrong")
    relay = a_relay(secure.smtp_port, Tls.STARTTLS, trusting, login)

    async with a_pool(relay) as pool:
        assert await sent(pool) == [(Stage.AUTH, 535)]

    assert secure.traffic.commands["AUTH"] == 1


@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.IMPLICIT])
async def test_tls(secure: Simulator, trusting: ssl.SSLContext, tls: Tls) -> None:
    """Encrypted by either way and logged in once, then many mails."""
    port = secure.smtp_port if tls is Tls.STARTTLS else secure.tls_port
    assert port is not None
    secure.behaviour = Behaviour(require_tls=tls is Tls.STARTTLS, require_auth=True)

    async with a_pool(a_relay(port, tls, trusting, Login("anna", "pw"))) as pool:
        assert [await sent(pool) for _ in range(5)] == [DELIVERED] * 5

    (visit,) = secure.traffic.visits
    assert (visit.encrypted, visit.authenticated, visit.mails) == (True, True, 5)
    assert secure.traffic.commands["AUTH"] == 1


async def test_starttls_not_offered(simulator: Simulator, trusting: ssl.SSLContext) -> None:
    """Without STARTTLS nothing is said in the clear: no login, no mail."""
    relay = a_relay(simulator.smtp_port, Tls.STARTTLS, trusting, Login("anna", "pw"))

    async with a_pool(relay) as pool:
        assert await sent(pool) == [(Stage.TLS, 0)]

    assert set(simulator.traffic.commands) <= {"EHLO", "QUIT"}


@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.IMPLICIT])
async def test_certificate(secure: Simulator, tls: Tls) -> None:
    """A certificate that is not the relay's ends the conversation before the login."""
    port = secure.smtp_port if tls is Tls.STARTTLS else secure.tls_port
    assert port is not None
    strangers = ssl.create_default_context()
    trustme.CA().configure_trust(strangers)

    async with a_pool(a_relay(port, tls, strangers, Login("anna", "pw"))) as pool:
        result = await pool.send(a_mail())

    assert ends(result) == [(Stage.TLS, 0)]
    assert "CERTIFICATE_VERIFY_FAILED" in of(result)[ANNA].text
    assert secure.traffic.commands["AUTH"] == 0


async def test_certificate_of_another(authority: trustme.CA, trusting: ssl.SSLContext) -> None:
    """The name in the certificate is checked."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("other.example").configure_cert(context)

    async with (
        Simulator(Settings(tls=context)) as other,
        a_pool(a_relay(other.smtp_port, Tls.STARTTLS, trusting)) as pool,
    ):
        assert await sent(pool) == [(Stage.TLS, 0)]


async def test_introduction() -> None:
    """Without a name of our own we introduce ourselves by address."""
    async with scripted({"EHLO": b"250 OK\r\n"}) as server, a_pool(a_relay(server.port)) as pool:
        assert await sent(pool) == DELIVERED

    assert server.lines[0] == b"EHLO [127.0.0.1]\r\n"


@pytest.mark.parametrize(
    ("script", "end"),
    [
        ({"CONNECT": CUT}, (Stage.CONNECT, 0)),
        ({"CONNECT": HANG}, (Stage.CONNECT, 0)),
        ({"CONNECT": b"\x16\x03\x01 no SMTP\r\n"}, (Stage.CONNECT, 0)),
        ({"EHLO": HANG}, (Stage.EHLO, 0)),
        ({"EHLO": CUT}, (Stage.EHLO, 0)),
        ({"MAIL": b"999 What\r\n"}, (Stage.MAIL, 999)),
        ({"MAIL": b"354 Go on\r\n"}, (Stage.MAIL, 354)),
        ({"RCPT": b"no reply\r\n"}, (Stage.RCPT, 0)),
        ({"RCPT": b"250-" + b"x" * 100_000}, (Stage.RCPT, 0)),
        ({"RCPT": b"250-x\r\n" * 20_000}, (Stage.RCPT, 0)),
        ({"RCPT": b"250 Yes\r\n550 No\r\n"}, (Stage.RCPT, 0)),
        ({"DATA": b"250 OK\r\n"}, (Stage.DATA, 250)),
        ({"DATA": HANG}, (Stage.DATA, 0)),
        ({"DOT": b"\xff\xfe\r\n"}, (Stage.DOT, 0)),
        ({"DOT": b"354 More\r\n"}, (Stage.DOT, 354)),
        ({"DOT": b"100 Wait\r\n"}, (Stage.DOT, 100)),
    ],
)
async def test_strange_replies(script: dict[str, bytes], end: tuple[Stage, int]) -> None:
    """What is not SMTP ends the transaction where it was said, and the connection with it."""
    patience = Patience(connect=1, command=0.5, dot=0.5)
    async with (
        scripted(script) as server,
        a_pool(a_relay(server.port, patience=patience)) as pool,
    ):
        first = await sent(pool)
        second = await sent(pool)

    assert (first, second) == ([end], [end])
    assert server.heard["CONNECT"] == 2


@pytest.mark.parametrize(
    "script",
    [
        {"MAIL": b"250\r\n", "RCPT": b"250\r\n", "DATA": b"354\r\n", "DOT": b"250\r\n"},
        {"MAIL": b"250-one\r\n250-two\r\n250 three\r\n"},
        {"RCPT": b"251 Will forward\r\n"},
        {"DOT": b"250 gr\xc3\xbc\xc3\x9fe \x1b$B\xff\r\n"},
    ],
)
async def test_unusual_replies(script: dict[str, bytes]) -> None:
    """No text, many lines, other alphabets: the code alone decides."""
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        assert await sent(pool) == DELIVERED
        assert await sent(pool) == DELIVERED

    assert server.heard["CONNECT"] == 1


async def test_a_reply_too_many() -> None:
    """Two replies to the dot: the first one counts, the second is nobody's."""
    script = {"DOT": b"250 OK\r\n550 Sorry\r\n"}
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        assert await sent(pool) == DELIVERED
        assert await sent(pool) == DELIVERED

    assert server.heard["CONNECT"] == 2


async def test_no_reset() -> None:
    """A refusal is told whatever becomes of the RSET after it."""
    script = {"RCPT": b"550 No\r\n", "RSET": CUT}
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        assert await sent(pool) == [(Stage.RCPT, 550)]
        assert await sent(pool) == [(Stage.RCPT, 550)]

    assert server.heard["CONNECT"] == 2


async def test_cut_in_the_body() -> None:
    """While part of the content is still here the dot was not sent: nothing is uncertain."""
    big = b"Subject: big\r\n\r\n" + b"x" * 76 * 10**5 + b"\r\n"
    async with scripted({"CUT-BODY": b""}) as server, a_pool(a_relay(server.port)) as pool:
        assert ends(await pool.send(a_mail(content=big))) == [(Stage.DATA, 0)]


async def test_refused_in_the_body() -> None:
    """A server may refuse before it has read all; the rest is not sent to anybody."""
    big = b"Subject: big\r\n\r\n" + b"x" * 76 * 10**5 + b"\r\n"
    script = {"DATA": b"354 Go on\r\n", "IN-BODY": b"552 5.3.4 Too big\r\n"}
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        assert ends(await pool.send(a_mail(content=big))) == [(Stage.DOT, 552)]
        assert not pool._idle


async def test_nobody_there() -> None:
    """A name that does not resolve, a port that is closed: told, not raised."""
    async with scripted({}) as server:
        port = server.port
    async with a_pool(a_relay(port)) as pool:
        assert await sent(pool) == [(Stage.CONNECT, 0)]
