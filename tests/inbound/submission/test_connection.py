"""Tests of a session at the submission door, command by command."""

import asyncio
import base64
import smtplib
import ssl
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.inbound.smtp import MAX_UNTRUSTED_REPLIES
from services.inbound.submission.limits import LeakyBuckets
from shared.contracts import Category
from shared.runtime import tracing
from tests.collector import recording
from tests.inbound.doors import ENVELOPE, KEY, MAIL, SHOP, Clients, Door, Talk, code, opened, plain


async def test_accepted(door: Door) -> None:
    """A mail is accepted with its id, and goes out octet by octet, in its envelope."""
    async with door.logged_in() as talk:
        reply = await talk.send(MAIL, (ENVELOPE[0], ENVELOPE[1], b"RCPT TO:<eve@x.example>"))

    (command,) = door.commands
    assert reply == f"250 2.0.0 Accepted as {command.id}"
    assert door.contents == [MAIL]
    assert command.recipients == ("bob@x.example", "eve@x.example")
    assert (command.client, command.from_) == ("shop", "Ann <ann@shop.example>")
    assert (command.message_id, command.envelope_from) == ("<1@shop.example>", "ann@shop.example")
    assert (command.subject, command.category) == ("Hi", Category.TRANSACTIONAL)


async def test_offer(door: Door) -> None:
    """EHLO offers what the door can do, and AUTH alone when the connection is encrypted."""
    async with door.talk() as talk:
        lines = (await talk.ask(b"EHLO me")).split("\n")

    words = {line[4:] for line in lines[1:]}
    assert {"SIZE 100000", "8BITMIME", "SMTPUTF8", "PIPELINING", "AUTH PLAIN LOGIN"} <= words
    assert {"ENHANCEDSTATUSCODES", "STARTTLS"} & words == {"ENHANCEDSTATUSCODES"}


async def test_starttls(door: Door) -> None:
    """Nothing but a greeting is taken before STARTTLS; after it the client logs in."""

    def work() -> list[int]:
        with smtplib.SMTP("127.0.0.1", door.port) as client:
            client.ehlo()
            before = (client.has_extn("auth"), client.has_extn("starttls"))
            codes = [client.docmd(each)[0] for each in ("AUTH PLAIN", "MAIL FROM:<a@b.example>")]
            client.starttls(context=door.context)
            client.ehlo()
            after = (client.has_extn("auth"), client.has_extn("starttls"))
            client.login("shop", KEY)
            client.sendmail("ann@shop.example", ["bob@x.example"], MAIL)
        assert (before, after) == ((False, True), (True, False))
        return codes

    assert await asyncio.to_thread(work) == [538, 530]
    assert door.contents == [MAIL]


async def test_starttls_injection(door: Door) -> None:
    """Commands that come in clear behind STARTTLS are never executed (RFC 3207 5)."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    talk = Talk(reader, writer)
    await talk.reply()
    await talk.ask(b"EHLO me")

    assert code(await talk.ask(b"STARTTLS\r\nNOOP")) == "503 5.5.0"
    assert await talk.reply() == "421 4.7.0 Closing"
    assert await talk.reply() == ""
    writer.close()


@pytest.mark.parametrize("mechanism", [b"LOGIN", b"login", b"PLAIN"])
async def test_login_by_challenges(door: Door, mechanism: bytes) -> None:
    """The id and the key may come as responses to challenges."""
    words = [b"shop", KEY.encode()] if mechanism.upper() == b"LOGIN" else [b"shop\0shop\0right"]
    async with door.talk() as talk:
        await talk.ask(b"EHLO me")
        replies = await talk.say(b"AUTH " + mechanism, *map(base64.b64encode, words))

    assert replies == ["334"] * len(words) + ["235 2.7.0"]


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (plain("shop", "wrong"), "535 5.7.8"),
        (plain("other", KEY), "535 5.7.8"),
        (plain("", ""), "535 5.7.8"),
        (plain("\u00e4 \n", "x" * 2500), "535 5.7.8"),
        (b"AUTH CRAM-MD5", "504 5.5.4"),
        (b"AUTH", "504 5.5.4"),
        (b"AUTH PLAIN !", "501 5.5.2"),
        (b"AUTH PLAIN =", "501 5.5.2"),
        (b"AUTH PLAIN " + base64.b64encode(b"other\0shop\0right"), "501 5.5.2"),
        (b"AUTH PLAIN " + base64.b64encode(b"\xff\0\xff\0\xff"), "501 5.5.2"),
        (b"MAIL FROM:<ann@shop.example>", "530 5.7.0"),
        (b"RCPT TO:<bob@x.example>", "530 5.7.0"),
        (b"DATA", "530 5.7.0"),
        (b"VRFY bob", "530 5.7.0"),
    ],
)
async def test_no_login(door: Door, command: bytes, reply: str) -> None:
    """Without the right key there is no mail, and the reply says why."""
    async with door.talk() as talk:
        assert await talk.say(b"EHLO me", command) == ["250", reply]
        assert await talk.say(*ENVELOPE, b"DATA") == ["530 5.7.0"] * 3


async def test_guessing(door: Door) -> None:
    """A connection ends at its third wrong key, and an address must wait after ten."""
    codes = list[str]()
    for _ in range(4):
        async with door.talk() as talk:
            await talk.ask(b"EHLO me")
            with suppress(ConnectionError):
                codes += [await talk.ask(plain("shop", str(guess))) for guess in range(3)]
            assert await talk.reply() == "421 4.7.0 Closing"

    assert [each[:9] for each in codes] == ["535 5.7.8"] * 10 + ["454 4.7.0"] * 2
    assert len(door.clients.asked) == 10


async def test_scope(door: Door) -> None:
    """A client without the scope to send cannot log in."""
    door.clients.client = SHOP.model_copy(update={"scopes": ("read",)})
    async with door.talk() as talk:
        assert await talk.say(b"EHLO me", plain()) == ["250", "535 5.7.1"]


async def test_gateway_away(door: Door) -> None:
    """While the gateway cannot be asked, the login is refused for now."""
    door.clients.is_away = True
    async with door.talk() as talk:
        assert await talk.say(b"EHLO me", plain()) == ["250", "454 4.7.0"]


@pytest.mark.parametrize(
    ("commands", "reply"),
    [
        ([b"MAIL FROM:<ann@other.example>"], "550 5.7.1"),
        ([b"MAIL FROM:<>"], "250 2.1.0"),
        ([b"mail from: <ann@shop.example> size=10 body=8bitmime smtputf8 auth=<>"], "250 2.1.0"),
        ([b"MAIL FROM:<ann>"], "501 5.1.7"),
        ([b"MAIL FROM:ann@shop.example"], "501 5.5.4"),
        ([b"MAIL"], "501 5.5.4"),
        ([b"MAIL TO:<ann@shop.example>"], "501 5.5.4"),
        ([b"MAIL FROM:<ann@shop.example>\nRCPT TO:<bob@x.example>"], "501 5.5.4"),
        ([b"MAIL FROM:<ann@shop.example\n>"], "501 5.5.4"),
        ([b"MAIL FROM:<a\xc3\xa4@shop.example>"], "553 5.6.7"),
        ([b"MAIL FROM:<a\xc3\xa4@shop.example> SMTPUTF8"], "250 2.1.0"),
        ([b"MAIL FROM:<ann@shop.example> SIZE=100001"], "552 5.3.4"),
        ([b"MAIL FROM:<ann@shop.example> SIZE=" + b"9" * 3000], "552 5.3.4"),
        ([b"MAIL FROM:<ann@shop.example> RET=HDRS"], "555 5.5.4"),
        ([b"RCPT TO:<bob@x.example>"], "503 5.5.1"),
        ([b"DATA"], "554 5.5.1"),
        ([ENVELOPE[0], ENVELOPE[0]], "503 5.5.1"),
        ([ENVELOPE[0], b"RCPT TO:<bob>"], "553 5.1.3"),
        ([ENVELOPE[0], b"RCPT TO:<>"], "553 5.1.3"),
        ([ENVELOPE[0], b"RCPT TO:<b\xc3\xa4@x.example>"], "553 5.6.7"),
        ([ENVELOPE[0], b"RCPT TO:<bob@x.example> NOTIFY=NEVER"], "555 5.5.4"),
        ([ENVELOPE[0], b"RCPT bob@x.example"], "501 5.5.4"),
        ([ENVELOPE[0], b"DATA"], "554 5.5.1"),
        ([*ENVELOPE, b"DATA now"], "501 5.5.4"),
        ([*ENVELOPE, b"RSET", b"DATA"], "554 5.5.1"),
        ([*ENVELOPE, b"EHLO me", b"DATA"], "554 5.5.1"),
        ([b"AUTH PLAIN AA=="], "503 5.5.1"),
        ([b"STARTTLS"], "503 5.5.1"),
        ([b"EHLO"], "501 5.5.4"),
        ([b"NOOP\nQUIT"], "500 5.5.2"),
        ([b"NOOP " + b"x" * 5000], "500 5.5.2"),
        ([b"x" * 300_000], "500 5.5.2"),
    ],
    ids=lambda value: repr(value)[-40:],
)
async def test_replies(door: Door, commands: list[bytes], reply: str) -> None:
    """Each refusal is in the reply to its command, and the session goes on."""
    async with door.logged_in() as talk:
        assert (await talk.say(*commands))[-1] == reply
        assert await talk.say(b"RSET") == ["250 2.0.0"]
        assert (await talk.send(MAIL)).startswith("250 2.0.0")


async def test_many_recipients(door: Door) -> None:
    """The 101st recipient is refused for this mail, and the others get it."""
    async with door.logged_in() as talk:
        codes = await talk.say(
            ENVELOPE[0],
            *(b"RCPT TO:<a%d@x.example>" % number for number in range(101)),
            b"RCPT TO:<a0@x.example>",
            b"DATA",
        )
        await talk.ask(MAIL + b".")

    assert codes[1:-3] == ["250 2.1.5"] * 100
    assert codes[-3:-1] == ["452 4.5.3", "250 2.1.5"]
    assert len(door.commands[0].recipients) == 100


@pytest.mark.parametrize(
    ("content", "reply"),
    [
        (MAIL.replace(b"Hello", b"a\x00b"), "554 5.6.0"),
        (MAIL.replace(b"Hello", b"a\nb"), "554 5.6.0"),
        (MAIL.replace(b"Hello", b"a\rb"), "554 5.6.0"),
        (MAIL.replace(b"Hello", b"a\n.\nMAIL FROM:<x@y.example>"), "554 5.6.0"),
        (MAIL.replace(b"Hello", b"a\r\n.\nMAIL FROM:<x@y.example>"), "554 5.6.0"),
        (MAIL.replace(b"Hello", b"a\n.\r\nMAIL FROM:<x@y.example>"), "554 5.6.0"),
        (MAIL.replace(b"ann@shop", b"ann@other"), "550 5.7.1"),
        (MAIL.replace(b"From", b"X-From"), "554 5.6.0"),
        (b"Sender: eve@other.example\r\n" + MAIL, "550 5.7.1"),
        (b"", "554 5.6.0"),
        (MAIL + b"x" * 70 + b"\r\n" * 60_000, "552 5.3.4"),
        (MAIL + b"x" * 999 + b"\r\n", "554 5.6.0"),
        (b"X-Postrider-Category: none\r\n" + MAIL, "554 5.6.0"),
    ],
    ids=lambda value: repr(value)[-40:],
)
async def test_refused_mails(door: Door, content: bytes, reply: str) -> None:
    """A mail that is not taken is refused after its dot, and the next one is taken."""
    async with door.logged_in() as talk:
        assert code(await talk.send(content)) == reply
        assert (await talk.send(MAIL)).startswith("250 2.0.0")

    assert door.contents == [MAIL]


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b".\r\n", b"..\r\n.\r\n", b"\r\n", b"\r\n\r\n.\r\n\r\n", b"a\r\n.b\r\n.\r\n"),
        *(
            b"\xff\xfe\r\n",
            b"x" * 998 + b"\r\n",
            b" \t \r\n",
            b"x" * 900 + b"\r\n" + b".\r\n" * 30_000,
        ),
    ],
    ids=lambda value: repr(value)[-40:],
)
async def test_octets(door: Door, body: bytes) -> None:
    """Line ends and dots arrive as they were."""
    content = MAIL.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body
    async with door.logged_in() as talk:
        assert (await talk.send(content)).startswith("250 2.0.0")

    assert door.contents == [content]


async def test_pipelining(door: Door) -> None:
    """The commands of an envelope may come in one group, and several mails over a connection."""
    async with door.logged_in() as talk:
        for _ in range(3):
            talk.writer.write(b"\r\n".join((*ENVELOPE, b"DATA", b"")))
            assert [code(await talk.reply()) for _ in range(3)] == ["250 2.1.0", "250 2.1.5", "354"]
            talk.writer.write(MAIL + b".\r\nNOOP\r\n")
            assert [code(await talk.reply()) for _ in range(2)] == ["250 2.0.0"] * 2

    assert door.contents == [MAIL] * 3
    assert len({each.id for each in door.commands}) == 1


async def test_early_content(door: Door) -> None:
    """Octets behind DATA that came before its reply end the session: they may be commands."""
    async with door.logged_in() as talk:
        talk.writer.write(b"\r\n".join((*ENVELOPE, b"DATA", MAIL, b".", b"")))
        codes = [code(await talk.reply()) for _ in range(4)]
        assert await talk.reply() == ""

    assert codes == ["250 2.1.0", "250 2.1.5", "503 5.5.0", "421 4.7.0"]
    assert not door.commands


async def test_broker_away(door: Door) -> None:
    """Without the broker's confirm the mail is refused for now."""
    async with door.logged_in() as talk:
        door.is_full = True
        assert code(await talk.send(MAIL)) == "451 4.3.0"
        door.is_full = False
        assert code(await talk.send(MAIL)) == "250 2.0.0"


async def test_revoked(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is kept open ends to be trusted when its key is revoked."""
    monkeypatch.setattr("services.inbound.submission.logins.KEPT_SECONDS", 0.0)
    async with door.logged_in() as talk:
        assert code(await talk.send(MAIL)) == "250 2.0.0"
        door.clients.is_away = True
        assert code(await talk.ask(ENVELOPE[0])) == "451 4.7.0"
        door.clients.is_away, door.clients.client = False, None
        assert await talk.say(ENVELOPE[0], ENVELOPE[0]) == ["530 5.7.0"] * 2


async def test_rate(certified: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    """A client over its rate is told to wait."""
    rates = LeakyBuckets(1, 1000)
    async with opened(certified, trusting, rates=rates) as door, door.logged_in() as talk:
        assert code(await talk.send(MAIL)) == "250 2.0.0"
        assert code(await talk.send(MAIL)) == "451 4.7.0"


async def test_room(certified: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    """The octets of all mails together are bounded, and free again after each."""
    big = MAIL + b"x" * 70 + b"\r\n" * 30_000
    async with opened(certified, trusting, budget=50_000) as door, door.logged_in() as talk:
        for _ in range(2):
            assert code(await talk.send(big)) == "452 4.3.1"
            assert code(await talk.send(MAIL)) == "250 2.0.0"


async def test_slow(certified: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    """A client that sends a mail byte by byte is cut when its time is over."""
    async with opened(certified, trusting, seconds=0.5) as door, door.logged_in() as talk:
        await talk.say(*ENVELOPE, b"DATA")

        async def drip() -> None:
            while True:
                talk.writer.write(b"x")
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        assert await talk.reply() == "421 4.4.2 Timeout"
        dripping.cancel()

    assert not door.commands


async def test_slow_login(certified: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    """A client without a login is cut when its time is over, long before that of a command."""
    async with opened(certified, trusting, login_seconds=0.5) as door, door.talk() as talk:
        await talk.ask(b"NOOP")
        assert await talk.reply() == "421 4.4.2 Timeout"


async def test_many_commands(door: Door) -> None:
    """A client without a login may not talk for ever, one with a login may."""
    commands = [b"NOOP"] * MAX_UNTRUSTED_REPLIES
    async with door.logged_in() as known, door.talk() as talk:
        assert {*await known.say(*commands)} == {*await talk.say(*commands[1:])} == {"250 2.0.0"}
        assert await known.say(b"NOOP") == ["250 2.0.0"]
        assert await talk.ask(b"NOOP") == "250 2.0.0 OK"
        assert await talk.reply() == "421 4.7.0 Too many commands"


async def test_errors(door: Door) -> None:
    """A session with errors alone comes to an end."""
    async with door.logged_in() as talk:
        replies = [await talk.ask(b"RCPT TO:<bob>") for _ in range(51)]
        assert await talk.reply() == "421 4.7.0 Too many errors"

    assert {code(each) for each in replies} == {"503 5.5.1"}


async def test_traces(door: Door) -> None:
    """Each mail is a trace of its own; one that could not be kept failed, a refused one did not."""
    with recording() as collector:
        async with door.logged_in() as talk:
            for content, door.is_full in ((MAIL, False), (b"\r\n", False), (MAIL, True)):
                await talk.send(content)
        tracing.stop()
        spans = collector.spans

    ends = [(each.attributes["postrider.smtp.reply_code"], each.failed) for each in spans]
    assert ends == [(250, False), (554, False), (451, True)]
    assert len({each.trace_id for each in spans}) == len(spans)
    assert {(each.name, each.parent) for each in spans} == {("SMTP DATA", "")}


COMMANDS = st.sampled_from(
    [
        *(b"EHLO me", b"HELO me", b"RSET", b"NOOP", b"HELP", b"VRFY a", b"EXPN a", b"STARTTLS"),
        *(*ENVELOPE, b"DATA", MAIL + b".", b".", b"AUTH PLAIN", b"AUTH LOGIN", plain(), b"*"),
        *(b"MAIL FROM:<>", b"RCPT TO:<eve@x.example> X=1", b"BDAT 3", b"XCLIENT A=b", b"LHLO me"),
    ]
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(COMMANDS | st.binary(max_size=80), max_size=12), st.booleans())
async def test_any_session(door: Door, commands: list[bytes], is_known: bool) -> None:  # noqa: FBT001 -- drawn
    """The door survives any session, and accepts nothing but a whole mail."""
    door.commands.clear()
    door.clients = Clients()
    async with door.logged_in() if is_known else door.talk() as talk:
        talk.writer.write(b"\r\n".join([*commands, b""]))
        talk.writer.write_eof() if talk.writer.can_write_eof() else talk.writer.close()
        with suppress(ConnectionError):
            while await talk.reply():
                pass

    assert all(content == MAIL for content in door.contents)
    async with door.logged_in() as talk:
        assert code(await talk.send(MAIL)) == "250 2.0.0"
