"""The SMTP server for reports, by real connections: which mail it takes, and its limits."""

import asyncio
import smtplib
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog

from services.inbound.reports.door import UNKNOWN
from services.inbound.reports.reading import MAX_READ_OCTETS
from services.inbound.reports.receiving import ACCEPTED, AWAY, NEW_DAYS
from services.inbound.smtp import MAX_UNTRUSTED_REPLIES
from shared.contracts import MailReceived, ReportBounced
from shared.errors import NoAnswer, Unavailable
from shared.return_path import VALID_DAYS
from shared.runtime.http_connections import Limits
from tests.inbound.doors import Talk, code
from tests.inbound.reports.mails import MAIL, NOW, a_path, arf, dsn
from tests.inbound.reports.world import (
    TERMS,
    World,
    arrived,
    called,
    connected,
    envelope,
    given,
    serving,
)
from tests.waiting import PATIENCE_SECONDS, until


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """Open a door for one test."""
    async with serving(tmp_path) as opened:
        yield opened


async def test_a_report_is_read_and_published(world: World) -> None:
    """A report to a return path, in letters of any case, is an event before the 250."""
    code, text = await called(world, given(dsn(), a_path().upper()))

    assert f"{code} {text.decode()}" == ACCEPTED
    [event] = world.published
    assert isinstance(event, ReportBounced)
    assert (event.email_id, event.recipient) == ("mail-1", MAIL.recipient)


@pytest.mark.parametrize(
    "to",
    [
        *("someone@bounce.our.example", "ann@example.org", "b-@bounce.our.example", "root"),
        a_path().replace("our", "their"),
        a_path()[:20] + ("b" if a_path()[20] == "a" else "a") + a_path()[21:],
        a_path(NOW - timedelta(days=VALID_DAYS + 1)),
        "abuse@our.example",
    ],
    ids=["other", "relay", "short", "local", "domain", "forged", "old", "abuse"],
)
async def test_nothing_else_is_taken(world: World, to: str) -> None:
    """A forged or old return path, another mailbox and another domain are unknown."""
    code, text = await called(world, given(dsn(), to))

    assert f"{code} {text.decode()}" == UNKNOWN
    assert world.published == []


@pytest.mark.parametrize("to", ["postmaster@bounce.our.example", "FBL@our.example"])
async def test_a_feedback_loop_has_an_address(world: World, to: str) -> None:
    """A complaint to an address of ours is about the mail whose return path is in it."""
    assert (await called(world, given(arf(), to)))[0] == 250
    assert len(world.published) == 1

    forged = a_path().replace("our", "their")
    assert (await called(world, given(arf(sender=forged), to)))[0] == 250
    assert len(world.published) == 1


async def test_a_report_before_its_mail_is_recorded(world: World) -> None:
    """A report that is quicker than the ledger comes again; one about a forgotten mail does not."""
    world.is_recorded = False
    old = a_path(NOW - timedelta(days=NEW_DAYS + 1))
    replies = [(await called(world, given(dsn(), to)))[0] for to in (a_path(), old)]
    world.is_recorded = True
    again = await called(world, given(dsn()))

    assert replies == [451, 250]
    assert again[0] == 250
    assert len(world.published) == 1


@pytest.mark.parametrize("failure", [Unavailable("away"), NoAnswer("no answer")])
async def test_the_other_server_keeps_what_cannot_be_kept(world: World, failure: Exception) -> None:
    """Without the broker or the ledger the reply is temporary; the mail comes again."""
    world.failure = failure
    code, text = await called(world, given(dsn()))
    world.failure = None
    again = await called(world, given(dsn()))

    assert f"{code} {text.decode()}" == AWAY
    assert again[0] == 250
    assert len(world.published) == 1


@pytest.mark.parametrize(
    ("content", "reply"),
    [
        (b"Subject: x\n\r\nhello\r\n", "550 5.6.0"),
        (b"Subject: x\r\n\r\nhel\0lo\r\n", "550 5.6.0"),
        (b"Subject: x\r\n\r\n\n.\r\nMAIL FROM:<>\r\n", "550 5.6.0"),
        (b"Subject: x\r\n\r\n" + b"yyyyyyyyyyyyyyy\r\n" * 9_000 + b"\n\r\n", "550 5.6.0"),
        (b"Subject: x\r\n\r\n" + b"y" * 40_000 + b"\r\n", "500 5.5.2"),
        (b"Subject: x\r\n\r\n" + b"yyyyyyyyyyyyyyy\r\n" * 70_000, "552 5.3.4"),
    ],
    ids=["bare LF", "NUL", "smuggled", "bare LF later", "long line", "too big"],
)
async def test_what_no_server_sends_is_refused(world: World, content: bytes, reply: str) -> None:
    """A bare line end, a NUL, a line and a mail that are too long are refused at the final dot."""
    async with connected(world) as talk:
        answer = await talk.send(content, envelope())
        assert await talk.say(b"QUIT") == ["221 2.0.0"]

    assert code(answer) == reply
    assert world.contents == []


async def test_only_the_beginning_of_a_mail_is_kept(world: World) -> None:
    """Of a large mail the first octets are read, without dot stuffing; the rest is dropped."""
    large = b"Subject: x\r\n\r\n.dot\r\n" + b"0123456789\r\n" * 80_000
    async with connected(world) as talk:
        assert code(await talk.send(large, envelope())) == "250 2.0.0"

    [content] = world.contents
    assert content.startswith(b"Subject: x\r\n\r\n.dot\r\n")
    assert MAX_READ_OCTETS - 10 <= len(content) <= MAX_READ_OCTETS


async def test_commands_in_a_group(world: World) -> None:
    """A server may send commands in a group, also behind a mail (RFC 2920)."""
    group = b"\r\n".join([*envelope(), b"DATA", b""])
    mail = dsn().replace(b"\r\n.", b"\r\n..") + b".\r\n"
    async with connected(world) as talk:
        talk.writer.write(group)
        codes = [code(await talk.reply()) for _ in range(3)]
        talk.writer.write(mail + group)
        codes += [code(await talk.reply()) for _ in range(4)]
        talk.writer.write(mail + b"QUIT\r\n")
        codes += [code(await talk.reply()) for _ in range(2)]

    begun = ["250 2.1.0", "250 2.1.5", "354"]
    assert codes == [*begun, "250 2.0.0", *begun, "250 2.0.0", "221 2.0.0"]


async def test_a_mail_before_the_reply_to_data(world: World) -> None:
    """Octets behind DATA may be a mail or commands: they end the session (RFC 2920 3.1)."""
    async with connected(world) as talk:
        talk.writer.write(b"\r\n".join([*envelope(), b"DATA", dsn() + b".", b"QUIT", b""]))
        codes = [code(await talk.reply()) for _ in range(4)]

    assert codes == ["250 2.1.0", "250 2.1.5", "503 5.5.0", "421 4.7.0"]
    assert world.contents == []


@pytest.mark.parametrize(
    ("commands", "reply"),
    [
        ([b"MAIL FROM:<ann@example.org> SIZE=10 BODY=8BITMIME"], "250 2.1.0"),
        ([b"MAIL FROM:<> SIZE=1000001"], "552 5.3.4"),
        ([b"MAIL FROM:<> RET=HDRS"], "555 5.5.4"),
        ([b"RCPT TO:<postmaster>"], "503 5.5.1"),
        ([b"MAIL FROM:<>", b"RCPT TO:<postmaster>"], "250 2.1.5"),
        ([b"MAIL FROM:<>", b"DATA"], "554 5.5.1"),
        ([b"AUTH PLAIN AHNob3AAcmlnaHQ="], "502 5.5.1"),
        ([b"STARTTLS"], "503 5.5.1"),
        ([b"VRFY postmaster@bounce.our.example"], "252 2.0.0"),
        ([b"VRFY <"], "252 2.0.0"),
        ([b"VRFY \xff"], "252 2.0.0"),
        ([b"EXPN all"], "502 5.5.1"),
        ([b"HELP"], "250 2.0.0"),
        ([b"HELO mx"], "250"),
        ([b"RSET now"], "501 5.5.4"),
        ([b"XCLIENT"], "500 5.5.2"),
        ([b"\xff"], "500 5.5.2"),
    ],
    ids=lambda value: repr(value)[-40:],
)
async def test_replies(world: World, commands: list[bytes], reply: str) -> None:
    """Each reply but a greeting has an enhanced code (RFC 2034 4), and the session goes on."""
    async with connected(world) as talk:
        assert (await talk.say(*commands))[-1] == reply
        assert await talk.say(b"RSET") == ["250 2.0.0"]
        assert code(await talk.send(dsn(), envelope())) == "250 2.0.0"


async def test_starttls(
    tmp_path: Path, certified: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    """With a certificate STARTTLS is offered and not demanded; commands before it are forgotten."""

    def work(client: smtplib.SMTP) -> tuple[int, bytes]:
        client.ehlo("mx.example")
        assert client.has_extn("starttls")
        client.mail("")
        client.starttls(context=trusting)
        assert client.rcpt(a_path())[0] == 503
        reply = given(dsn())(client)
        assert not client.has_extn("starttls")
        assert client.docmd("STARTTLS")[0] == 503
        return reply

    async with serving(tmp_path, terms=replace(TERMS, context=certified)) as world:
        assert (await called(world, work))[0] == 250
        assert (await called(world, given(dsn())))[0] == 250
        async with connected(world) as talk:
            assert code(await talk.ask(b"STARTTLS\r\nNOOP")) == "503 5.5.0"
            assert await talk.reply() == "421 4.7.0 Closing"

    assert len(world.published) == 2


async def test_a_server_greets_first(world: World) -> None:
    """Without a greeting there is no mail."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    talk = Talk(reader, writer)
    await talk.reply()

    assert await talk.say(*envelope(), b"DATA") == ["503 5.5.1"] * 3
    assert await talk.say(b"HELO mx", *envelope(), b"DATA") == [
        *("250", "250 2.1.0", "250 2.1.5", "354")
    ]
    writer.close()


async def test_too_many_commands(world: World) -> None:
    """A session without a mail ends; a mail begins the count anew."""
    async with connected(world) as talk:
        assert await talk.say(*[b"NOOP"] * (MAX_UNTRUSTED_REPLIES - 10)) == ["250 2.0.0"] * 190
        assert code(await talk.send(dsn(), envelope())) == "250 2.0.0"
        replies = await talk.say(*[b"NOOP"] * MAX_UNTRUSTED_REPLIES)
        assert await talk.reply() == "421 4.7.0 Too many commands"

    assert replies == ["250 2.0.0"] * MAX_UNTRUSTED_REPLIES


async def test_too_many_mails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection ends after a number of mails, the last of which is answered."""
    monkeypatch.setattr("services.inbound.reports.door.MAX_MAILS", 2)
    async with connected(world) as talk:
        replies = [await talk.send(dsn(), envelope()) for _ in range(2)]
        assert (await talk.reply()).startswith("421 4.7.0 ")

    assert [code(each) for each in replies] == ["250 2.0.0"] * 2


async def test_too_many_connections(tmp_path: Path) -> None:
    """Beyond the limit of an address the next connection is told so and closed."""
    few = Limits(50, 2)
    async with serving(tmp_path, limits=few) as world, connected(world), connected(world) as second:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        refused = await reader.read()
        writer.close()
        assert await second.say(b"QUIT") == ["221 2.0.0"]
        assert await second.reply() == ""
        async with connected(world):
            pass

    assert refused.startswith(b"421 4.7.0 Too many connections")


@pytest.mark.parametrize("limits", [{"command_seconds": 0.05}, {"untrusted_seconds": 0.05}])
async def test_a_slow_connection_is_closed(tmp_path: Path, limits: dict[str, Any]) -> None:
    """A connection that says nothing, or takes too long, is closed."""
    async with serving(tmp_path, terms=replace(TERMS, **limits)) as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
        answer = await reader.read()
        writer.close()

    assert answer.endswith(b"421 4.4.2 Timeout\r\n")


async def test_a_client_that_hangs_up(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A connection that is reset in the middle of anything is no error of ours."""
    group = b"\r\n".join([*envelope(), b"DATA", b""])
    with structlog.testing.capture_logs() as logs:
        for octets in (b"NOOP\r\n" * 100, group, group[:-10]):
            async with connected(world) as talk:
                talk.writer.write(octets)
                await talk.reply()
        assert (await called(world, given(dsn())))[0] == 250

    assert [each for each in logs if each["log_level"] in {"warning", "error"}] == []
    assert caplog.records == []


async def test_a_slow_mail_is_cut(tmp_path: Path) -> None:
    """A mail that does not end within its time is not received."""
    async with serving(tmp_path, terms=replace(TERMS, mail_seconds=0.05)) as world:
        async with connected(world) as talk:
            await talk.say(*envelope(), b"DATA")
            talk.writer.write(b"Subject: x\r\n")
            assert await talk.reply() == "421 4.4.2 Timeout"

        assert world.contents == []


async def test_an_answer_that_takes_long_comes(tmp_path: Path) -> None:
    """A mail that was received whole is answered, also when the time of its session is over."""
    async with serving(tmp_path, terms=replace(TERMS, command_seconds=0.05)) as world:
        world.hold = asyncio.Event()
        async with connected(world) as talk:
            sending = asyncio.create_task(talk.send(dsn(), envelope()))
            await until(partial(arrived, world))
            asyncio.get_running_loop().call_later(0.2, world.hold.set)
            assert code(await sending) == "250 2.0.0"
            assert (await talk.reply()).startswith("421 4.7.0 ")

    assert len(world.published) == 1


async def test_too_many_recipients(world: World) -> None:
    """A report has one recipient; of many the others are put off."""
    to = [a_path(recipient=f"{number}@x.example") for number in range(11)]

    assert (await called(world, given(dsn(), *to)))[0] == 452


async def test_the_end(tmp_path: Path) -> None:
    """At a shutdown idle connections end at once, and others when their mail is answered."""
    async with AsyncExitStack() as stack:
        async with serving(tmp_path) as world:
            world.hold = asyncio.Event()
            idle = await stack.enter_async_context(connected(world))
            busy = await stack.enter_async_context(connected(world))
            sending = asyncio.create_task(busy.send(dsn(), envelope()))
            await until(partial(arrived, world))
            asyncio.get_running_loop().call_later(0.01, world.hold.set)

        assert code(await sending) == "250 2.0.0"
        assert [code(await each.reply()) for each in (idle, busy)] == ["421 4.3.2"] * 2
    assert len(world.published) == 1


async def test_the_end_of_a_client_that_stays(
    tmp_path: Path, certified: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    """A client that has left by QUIT, and does not close its side of TLS, delays no shutdown."""

    def leave(port: int) -> smtplib.SMTP:
        client = smtplib.SMTP("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        client.starttls(context=trusting)
        assert client.docmd("QUIT")[0] == 221
        return client

    with structlog.testing.capture_logs() as logs:
        async with serving(tmp_path, terms=replace(TERMS, context=certified)) as world:
            client = await asyncio.to_thread(leave, world.port)
    client.close()

    assert logs == []


async def test_a_mail_that_is_no_report_is_told(tmp_path: Path) -> None:
    """With the setting it becomes an event with its mail, by its return path, once for a copy."""
    note = (
        b"From: =?utf-8?q?J=C3=BCrgen?= <juergen@example.org>\r\nSubject: Re: Hello\r\n"
        b"Content-Type: text/plain; charset=iso-8859-1\r\n\r\nGr\xfc\xdfe\r\n\x07!\r\n"
    )
    async with serving(tmp_path, publishes_others=True) as world, connected(world) as talk:
        begun = [b"MAIL FROM:<juergen@example.org>", *envelope(a_path(), "fbl@our.example")[1:]]
        assert [code(await talk.send(note, begun)) for _ in range(2)] == ["250 2.0.0"] * 2
        vacation = b"Auto-Submitted: auto-replied\r\n\r\nAway\r\n"
        assert code(await talk.send(vacation, begun)) == "250 2.0.0"
        assert code(await talk.send(dsn(), envelope())) == "250 2.0.0"
        world.failure = Unavailable("no queue takes it")
        assert code(await talk.send(note, begun)) == "451 4.3.0"

    one, other, *copies, report = world.published
    assert isinstance(one, MailReceived)
    assert isinstance(other, MailReceived)
    assert isinstance(report, ReportBounced)
    assert copies == [one, other]
    assert (one.sender, one.text) == ("juergen@example.org", "Gr\u00fc\u00dfe\n!\n")
    assert one.headers[0].value == "J\u00fcrgen <juergen@example.org>"
    assert (one.to, one.email_id, one.client) == (a_path(), MAIL.email_id, MAIL.client)
    assert (one.recipient, one.message_id) == (MAIL.recipient, MAIL.message_id)
    assert (other.to, other.email_id, other.client) == ("fbl@our.example", None, None)
    assert one.id != other.id
    assert not (tmp_path / "kept").exists()
