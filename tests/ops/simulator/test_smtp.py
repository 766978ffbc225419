"""The server side of SMTP connections, by real clients."""

import asyncio
import ssl

import aiosmtplib
import pytest

from ops.simulator.behaviour import EXTENSIONS, Behaviour, StageRefusals
from ops.simulator.simulator import Simulator
from ops.simulator.smtp import DelayLine
from tests.clock import Watch
from tests.ops.simulator.raw import BODY, connected, greeted
from tests.waiting import PATIENCE_SECONDS


async def test_order() -> None:
    """Later data never arrive earlier, even if the latency falls to zero."""
    arrived: list[int] = []
    last = asyncio.Event()
    wire = DelayLine(asyncio.get_running_loop())

    wire.carry(lambda: arrived.append(1), 0.05)
    wire.carry(lambda: arrived.append(2), 0.01)
    wire.carry(last.set, 0)
    assert arrived == []
    async with asyncio.timeout(PATIENCE_SECONDS):
        await last.wait()

    assert arrived == [1, 2]


async def test_at_once() -> None:
    """Without a latency data arrive at once."""
    arrived: list[int] = []

    DelayLine(asyncio.get_running_loop()).carry(lambda: arrived.append(1), 0)

    assert arrived == [1]


async def test_cut() -> None:
    """Delayed data are lost when the connection is cut."""
    arrived: list[int] = []
    last = asyncio.Event()
    loop = asyncio.get_running_loop()
    wire = DelayLine(loop)

    wire.carry(lambda: arrived.append(1), 0.01)
    wire.cut()
    loop.call_later(0.02, last.set)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await last.wait()

    assert arrived == []


def client(port: int | None, **more: object) -> aiosmtplib.SMTP:
    """Return a client that uses STARTTLS only when told to."""
    options: dict[str, object] = {"start_tls": False, "timeout": 5, **more}
    return aiosmtplib.SMTP(
        hostname="127.0.0.1",
        port=port,
        local_hostname="client.example",
        **options,  # type: ignore[arg-type]  # the options differ in type
    )


async def test_keeps(simulator: Simulator) -> None:
    """A mail is stored octet by octet, with its envelope."""
    raw = b"Subject: Hello\r\n\r\n.one dot\r\n..two\r\nA sentence.\r\n.\r\n\xff\r\n"
    async with client(simulator.smtp_port) as smtp:
        await smtp.sendmail("a@x.example", ["b@x.example", "C@x.example"], raw)

    mail = simulator.mailbox.find()[0]
    assert mail.raw == raw
    assert mail.sender == "a@x.example"
    assert mail.recipients == ("b@x.example", "C@x.example")


@pytest.mark.parametrize("body", ["", "\r\n", ".\r\n", "a.\r\n", "..\r\n.\x00\r\n"])
async def test_dots(simulator: Simulator, body: str) -> None:
    """Dots at the start of lines, and empty mails, are received as RFC 5321 4.5.2 says."""
    stuffed = ("\r\n" + body).replace("\r\n.", "\r\n..")[2:]
    async with greeted(simulator.smtp_port) as smtp:
        await smtp.mail("b@x.example", body=stuffed)

    assert simulator.mailbox.find()[0].raw == body.encode()


async def test_pipelined(simulator: Simulator) -> None:
    """Pipelined commands are answered in order, those of the next mail too."""
    group = "MAIL FROM:<a@x.example>\r\nRCPT TO:<b@x.example>\r\nDATA\r\n"
    async with connected(simulator.smtp_port) as smtp:
        assert "250-PIPELINING" in (await smtp.begin()).split("\n")
        smtp.write(f"{group}{BODY}.\r\n{group}{BODY}.\r\nQUIT\r\n")
        codes = [(await smtp.hear())[:3] for _ in range(9)]

    assert codes == ["250", "250", "354", "250"] * 2 + ["221"]
    assert len(simulator.mailbox) == 2


async def test_null_sender(simulator: Simulator) -> None:
    """A bounce has an empty sender."""
    async with greeted(simulator.smtp_port) as smtp:
        await smtp.mail("b@x.example", sender="")

    assert simulator.mailbox.find()[0].sender == ""


async def test_international(simulator: Simulator) -> None:
    """An address beyond ASCII needs SMTPUTF8 (RFC 6531), and must be UTF-8."""
    async with greeted(simulator.smtp_port) as smtp:
        assert (await smtp.say("MAIL FROM:<jürgen@x.example>"))[:9] == "553 5.6.7"
        assert (await smtp.say("MAIL FROM:<a@x.example> SMTPUTF8"))[:3] == "250"
        assert (await smtp.say("RCPT TO:<\udcff@x.example>"))[:3] == "553"
        assert (await smtp.say("RCPT TO:<jürgen@x.example>"))[:3] == "250"


async def test_long_line(simulator: Simulator) -> None:
    """A line of 998 octets is the longest that is accepted (RFC 5321 4.5.3.1.6)."""
    async with greeted(simulator.smtp_port) as smtp:
        longest = await smtp.mail("b@x.example", body="x" * 998 + "\r\n")
        longer = await smtp.mail("b@x.example", body="x" * 999 + "\r\n")

    assert longest[:3] == "250"
    assert longer[:9] == "500 5.5.2"
    assert len(simulator.mailbox) == 1


async def test_out_of_order(simulator: Simulator) -> None:
    """DATA without a recipient is refused, and the session goes on."""
    async with greeted(simulator.smtp_port) as smtp:
        assert (await smtp.say("DATA"))[:3] == "503"
        assert (await smtp.say("NOOP"))[:3] == "250"
        assert "MAIL" in await smtp.say("HELP")


@pytest.mark.parametrize(
    ("sender", "to", "reply"),
    [
        ("reply-mail-450-4-7-0@x.example", "b@x.example", "450 4.7.0"),
        ("a@x.example", "reply-rcpt-550-5-1-1@x.example", "550 5.1.1"),
        ("a@x.example", "reply-data-451-4-3-0@x.example", "451 4.3.0"),
        ("a@x.example", "reply-dot-554-5-6-0@x.example", "554 5.6.0"),
    ],
)
async def test_replies(simulator: Simulator, sender: str, to: str, reply: str) -> None:
    """A refusal comes at its stage, nothing is stored, and the session goes on."""
    async with greeted(simulator.smtp_port) as smtp:
        assert (await smtp.mail(to, sender))[:9] == reply
        await smtp.say("RSET")
        assert len(simulator.mailbox) == 0
        assert (await smtp.mail("b@x.example"))[:3] == "250"


async def test_a_refusal_that_closes(simulator: Simulator) -> None:
    """`closes` closes the connection after a refusal."""
    simulator.behaviour = Behaviour(refuse=StageRefusals(ehlo="501 5.5.4 No", closes=True))
    async with connected(simulator.smtp_port) as smtp:
        assert await smtp.begin() == "501 5.5.4 No"
        assert await smtp.say("HELO client.example") == ""


async def test_421_closes(simulator: Simulator) -> None:
    """After a 421 the connection is closed, whatever was pipelined (RFC 5321 3.8)."""
    async with greeted(simulator.smtp_port) as smtp:
        smtp.write("MAIL FROM:<reply-mail-421-4-3-2@x.example>\r\nNOOP\r\n")

        assert (await smtp.hear())[:9] == "421 4.3.2"
        assert await smtp.hear() == ""
    assert simulator.traffic.commands["NOOP"] == 0


@pytest.mark.parametrize(
    ("sender", "to", "kept"),
    [
        ("drop-mail@x.example", "b@x.example", 0),
        ("a@x.example", "drop-rcpt@x.example", 0),
        ("a@x.example", "drop-data@x.example", 0),
        ("a@x.example", "drop-dot@x.example", 0),
        ("a@x.example", "drop-after-dot@x.example", 1),
    ],
)
async def test_drops(simulator: Simulator, sender: str, to: str, kept: int) -> None:
    """The connection is cut without a reply; only after the dot the mail is stored."""
    async with greeted(simulator.smtp_port) as smtp:
        assert await smtp.mail(to, sender) == ""

    await simulator.traffic.wait_until(lambda: simulator.traffic.open == 0)
    assert len(simulator.mailbox) == kept


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "dot"])
async def test_slow(simulator: Simulator, stage: str) -> None:
    """A slow reply is late at its stage alone."""
    loop = asyncio.get_running_loop()
    slow = f"slow-1000-{stage}@x.example"
    lines = [f"MAIL FROM:<{slow}>", f"RCPT TO:<{slow}>", "DATA", f"{BODY}."]
    took = {}
    async with greeted(simulator.smtp_port) as smtp:
        for name, line in zip(["mail", "rcpt", "data", "dot"], lines, strict=True):
            began = loop.time()
            assert (await smtp.say(line))[:1] in {"2", "3"}
            took[name] = loop.time() - began

    assert took.pop(stage) >= 0.999
    assert min(took.values()) < 0.999


async def test_greylist(simulator: Simulator, clock: Watch) -> None:
    """451 4.7.1 until so long after the first attempt, and then delivered."""
    async with greeted(simulator.smtp_port) as smtp:
        assert (await smtp.mail("greylist-60@x.example"))[:9] == "451 4.7.1"
        await smtp.say("RSET")
        clock.now += 59
        assert (await smtp.mail("greylist-60@x.example"))[:9] == "451 4.7.1"
        await smtp.say("RSET")
        clock.now += 1
        assert (await smtp.mail("greylist-60@x.example"))[:3] == "250"


async def test_some_recipients(simulator: Simulator) -> None:
    """The refused recipients of a mail do not hinder the others."""
    bad = "reply-rcpt-550-5-1-1+1@x.example"
    async with client(simulator.smtp_port) as smtp:
        refused, _ = await smtp.sendmail("a@x.example", [bad, "b@x.example"], BODY)

    assert set(refused) == {bad}
    assert simulator.mailbox.find()[0].recipients == ("b@x.example",)


async def test_starttls(secure: Simulator, trusting: ssl.SSLContext) -> None:
    """STARTTLS is offered until TLS is on."""
    smtp = client(secure.smtp_port, start_tls=True, tls_context=trusting)
    async with smtp:
        await smtp.ehlo()
        assert not smtp.supports_extension("starttls")
        await smtp.sendmail("a@x.example", ["b@x.example"], BODY)

    assert secure.traffic.sessions[0].encrypted
    assert len(secure.mailbox) == 1


async def test_implicit_tls(secure: Simulator, trusting: ssl.SSLContext) -> None:
    """The TLS port speaks TLS from the first octet."""
    smtp = client(secure.tls_port, start_tls=None, use_tls=True, tls_context=trusting)
    async with smtp:
        await smtp.sendmail("a@x.example", ["b@x.example"], BODY)

    assert secure.traffic.sessions[0].encrypted


async def test_login(secure: Simulator) -> None:
    """Only the configured user with the right password may log in."""
    async with client(secure.smtp_port, username="anna", password="pw"):
        assert secure.traffic.sessions[0].commands.count("AUTH") == 1
    for user, password in (("anna", "no"), ("bob", "pw")):
        with pytest.raises(aiosmtplib.SMTPAuthenticationError):
            await client(secure.smtp_port, username=user, password=password).connect()


async def test_anybody(simulator: Simulator) -> None:
    """Without configured credentials any login is accepted."""
    async with client(simulator.smtp_port, username="who", password="ever") as smtp:
        await smtp.quit()

    assert simulator.traffic.sessions[0].authenticated


async def test_counts(simulator: Simulator) -> None:
    """Connections, commands and mails are counted for each session and in all."""
    traffic = simulator.traffic
    async with client(simulator.smtp_port) as smtp:
        await smtp.sendmail("a@x.example", ["b@x.example"], BODY)
        await smtp.sendmail("a@x.example", ["b@x.example"], BODY)
        assert traffic.open == 1
    await traffic.wait_until(lambda: traffic.open == 0)

    visit = traffic.sessions[0]
    mail = ["MAIL", "RCPT", "DATA"]
    assert list(visit.commands) == ["EHLO", *mail, *mail, "QUIT"]
    assert visit.mails == 2
    assert (traffic.total, traffic.commands["QUIT"]) == (1, 1)


def envelope(to: str) -> str:
    """Return the commands before BDAT."""
    return f"MAIL FROM:<a@x.example>\r\nRCPT TO:<{to}@x.example>\r\n"


ENVELOPE = envelope("b")


@pytest.fixture
def chunking(simulator: Simulator) -> Simulator:
    """Return a simulator that offers CHUNKING."""
    simulator.behaviour = with_chunking()
    return simulator


def with_chunking(**more: object) -> Behaviour:
    """Return the default behaviour with CHUNKING."""
    fields = {"extensions": (*EXTENSIONS, "CHUNKING"), **more}
    return Behaviour.model_validate(fields)


async def replies_to(simulator: Simulator, text: str, count: int) -> list[str]:
    """Send octets in one write after EHLO; return the codes of so many replies."""
    async with greeted(simulator.smtp_port) as smtp:
        smtp.write(text)
        return [(await smtp.hear())[:3] for _ in range(count)]


async def test_chunks(chunking: Simulator) -> None:
    """A mail is stored as it is, from one chunk or several, and all of it may be pipelined."""
    raw = ".\r\n..\r\nQUIT\r\n.\r\nDATA\r\n"
    whole = f"{ENVELOPE}BDAT {len(raw)} LAST\r\n{raw}"
    parts = f"{ENVELOPE}BDAT 1\r\n{raw[0]}BDAT 5\r\n{raw[1:6]}BDAT {len(raw) - 6}\r\n{raw[6:]}"

    codes = await replies_to(chunking, f"{whole}{parts}BDAT 0 LAST\r\nQUIT\r\n", 10)

    assert codes == ["250"] * 9 + ["221"]
    assert [mail.raw.decode() for mail in chunking.mailbox.find()] == [raw, raw]


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("BDAT 6 LAST\r\nQUIT\r\n", ["503"]),
        (f"{ENVELOPE}BDAT\r\n", ["250", "250", "501"]),
        (f"{ENVELOPE}BDAT -1 LAST\r\n", ["250", "250", "501"]),
        (f"{ENVELOPE}BDAT 6 FIRST\r\n", ["250", "250", "501"]),
        (f"{ENVELOPE}BDAT 2\r\na\nDATA\r\n", ["250", "250", "250", "503"]),
        (f"{ENVELOPE}BDAT 1\r\naRCPT TO:<c@x.example>\r\n", ["250", "250", "250", "503"]),
        (f"{ENVELOPE}BDAT 1\r\naRSET\r\nBDAT 6 LAST\r\nQUIT\r\n", ["250"] * 4 + ["503"]),
        (f"{ENVELOPE}BDAT 1 LAST\r\naBDAT 6 LAST\r\nQUIT\r\n", ["250"] * 3 + ["503"]),
        (f"{ENVELOPE}BDAT 999 LAST\r\n{'x' * 999}", ["250", "250", "554"]),
        (
            f"{envelope('reply-rcpt-550')}BDAT 6 LAST\r\nQUIT\r\n",
            ["250", "550", "503"],
        ),
        (
            f"{envelope('reply-data-451')}BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\n",
            ["250", "250", "451", "503"],
        ),
        (
            f"{envelope('reply-dot-554')}BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\n",
            ["250", "250", "250", "554"],
        ),
    ],
)
async def test_refused_chunks(chunking: Simulator, text: str, codes: list[str]) -> None:
    """A chunk that cannot be accepted is refused; its octets are no commands (RFC 3030 2)."""
    assert await replies_to(chunking, f"{text}NOOP\r\n", len(codes) + 1) == [*codes, "250"]


async def test_chunks_too_big(simulator: Simulator) -> None:
    """The limit is for all chunks together, and refuses the mail."""
    simulator.behaviour = with_chunking(size_limit=100)
    text = f"{ENVELOPE}BDAT 60\r\n{'x' * 60}BDAT 60\r\n{'x' * 60}BDAT 0 LAST\r\n"

    assert await replies_to(simulator, text, 5) == ["250", "250", "250", "552", "503"]


async def test_chunks_without_the_offer(simulator: Simulator) -> None:
    """To a server without CHUNKING BDAT is no command, and its octets are some."""
    async with connected(simulator.smtp_port) as smtp:
        assert "CHUNKING" not in await smtp.begin()

    text = f"{ENVELOPE}BDAT 6 LAST\r\nNOOP\r\n"
    assert await replies_to(simulator, text, 4) == ["250", "250", "502", "250"]


@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        ("unknown", ["250", "250", "502", "500", "250"]),
        ("refused", ["250", "250", "503", "250", "421"]),
        ("silent", ["250", "250", "250", "421"]),
        ("cut", ["250", "250", ""]),
        ("hangs", ["250", "250", "421", ""]),
    ],
)
async def test_faults_at_bdat(simulator: Simulator, fault: str, codes: list[str]) -> None:
    """A server may offer CHUNKING and fail at it; no mail is stored."""
    simulator.behaviour = with_chunking(bdat_fault=fault, idle_timeout_ms=500)

    assert (
        await replies_to(simulator, f"{ENVELOPE}BDAT 6 LAST\r\nxxxx\r\nNOOP\r\n", len(codes))
        == codes
    )
    assert not simulator.mailbox.find()
