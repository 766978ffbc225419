"""The faults of SMTP servers, each by its name; none of them is booked to a recipient."""

import asyncio
from collections.abc import Mapping

import pytest
from structlog.testing import capture_logs

from ops.simulator.simulator import Simulator
from services.sender.relay import Patience
from services.sender.reply import permanent
from services.sender.store import ClaimStore
from shared.contracts import Category, NotAccepted, ReplyClass, Stage
from tests.sender.commands import a_command
from tests.sender.mails import ANNA, a_mail, a_pool, a_relay, ends, of, sent
from tests.sender.scripted import CUT, HANG, PIPELINING, scripted
from tests.sender.senders import a_sender

DELIVERED = [(Stage.DOT, 250)]
STAGES = ["mail", "rcpt", "data", "dot"]
BRIEF = Patience(connect=1, command=1, dot=1, write=1)
BEN = "ben@x.example"
BIG = b"Subject: big\r\n\r\n" + b"x" * 76 * 10**5 + b"\r\n"


@pytest.fixture(params=[PIPELINING, {}], ids=["in a group", "in lock-step"])
def greeting(request: pytest.FixtureRequest) -> Mapping[str, bytes]:
    """Give what a scripted server answers to EHLO: with PIPELINING, and without."""
    return dict(request.param)


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
        ({"DATA": b"250 OK\r\n"}, (Stage.DATA, 250)),
        ({"DATA": HANG}, (Stage.DATA, 0)),
        ({"DOT": b"\xff\xfe\r\n"}, (Stage.DOT, 0)),
        ({"DOT": b"354 More\r\n"}, (Stage.DOT, 354)),
        ({"DOT": b"100 Wait\r\n"}, (Stage.DOT, 100)),
    ],
)
async def test_strange_replies(
    greeting: Mapping[str, bytes], script: Mapping[str, bytes], end: tuple[Stage, int]
) -> None:
    """What is not SMTP ends the transaction where it was said, and the connection with it."""
    patience = Patience(connect=1, command=0.5, dot=0.5)
    async with (
        scripted({**greeting, **script}) as server,
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
async def test_unusual_replies(greeting: Mapping[str, bytes], script: Mapping[str, bytes]) -> None:
    """No text, many lines, other alphabets: the code alone decides."""
    async with scripted({**greeting, **script}) as server, a_pool(a_relay(server.port)) as pool:
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
    async with scripted({"CUT-BODY": b""}) as server, a_pool(a_relay(server.port)) as pool:
        assert ends(await pool.send(a_mail(content=BIG))) == [(Stage.DATA, 0)]


async def test_refused_in_the_body() -> None:
    """A server may refuse before it has read all; the rest is not sent to anybody."""
    script = {"DATA": b"354 Go on\r\n", "IN-BODY": b"552 5.3.4 Too big\r\n"}
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        assert ends(await pool.send(a_mail(content=BIG))) == [(Stage.DOT, 552)]
        assert not pool._routes[f"127.0.0.1:{server.port}"]._idle


@pytest.mark.parametrize("reply", [b"250 OK\r\n", b"100 Wait\r\n"])
async def test_lied_to_in_the_body(reply: bytes) -> None:
    """What cannot be true before the whole mail was sent is not believed."""
    script = {"DATA": b"354 Go on\r\n", "IN-BODY": reply}
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        assert ends(await pool.send(a_mail(content=BIG))) == [(Stage.DATA, 0)]


async def test_body_not_taken() -> None:
    """No body is written for ever; as long as the dot is here the mail was not sent."""
    script = {"DATA": b"354 Go on\r\n", "IN-BODY": b""}
    async with (
        scripted(script) as server,
        a_pool(a_relay(server.port, patience=BRIEF)) as pool,
    ):
        mail = a_mail(content=BIG)

        assert ends(await pool.send(mail)) == [(Stage.DATA, 0)]
        assert not mail.progress.content_begun


async def test_mail_for_nobody() -> None:
    """A server that wants the mail although it refused all gets a lone dot, and no blame."""
    script = {"RCPT": b"550 5.1.1 No\r\n"}
    async with scripted({**PIPELINING, **script}) as server, a_pool(a_relay(server.port)) as pool:
        assert await sent(pool, ANNA, BEN) == [(Stage.RCPT, 550)] * 2
        del server.script["RCPT"]
        assert await sent(pool) == DELIVERED

    assert (server.heard["DOT"], server.heard["RSET"], server.heard["CONNECT"]) == (2, 1, 1)


@pytest.mark.parametrize("last", [b"421 4.3.0 Going\r\n", b"999 What\r\n"])
async def test_no_more_to_come(last: bytes) -> None:
    """Who says in a group that it ends is believed at once, though nothing follows."""
    script = {**PIPELINING, "MAIL": last, "RCPT": HANG, "DATA": HANG}
    patience = Patience(command=60)
    async with (
        asyncio.timeout(30),
        scripted(script) as server,
        a_pool(a_relay(server.port, patience=patience)) as pool,
    ):
        assert await sent(pool) == [(Stage.MAIL, int(last[:3]))]


@pytest.mark.parametrize("then", [b"503 5.5.1 MAIL first\r\n", CUT, b"421 4.7.0 Bye\r\n"])
async def test_sender_refused(then: bytes) -> None:
    """What the server says after it has refused the sender is about nobody else."""
    script = {"MAIL": b"550 5.1.8 No\r\n", "RCPT": then, "DATA": then}
    async with scripted({**PIPELINING, **script}) as server, a_pool(a_relay(server.port)) as pool:
        assert await sent(pool, ANNA, BEN) == [(Stage.MAIL, 550)] * 2


@pytest.mark.parametrize("then", [CUT, b"421 4.7.0 Bye\r\n"])
async def test_closed_after_a_refusal(then: bytes) -> None:
    """A refusal holds although the server then closes and leaves commands without a reply."""
    script = {f"RCPT TO:<{ANNA}>": b"550 5.1.1 No\r\n", "RCPT": then}
    async with scripted({**PIPELINING, **script}) as server, a_pool(a_relay(server.port)) as pool:
        anna, ben = await sent(pool, ANNA, BEN)

    assert anna == (Stage.RCPT, 550)
    assert ben in {(Stage.RCPT, 0), (Stage.RCPT, 421)}


@pytest.mark.parametrize(
    ("script", "end"),
    [
        # Ben's refusal would be taken for Anna's.
        ({f"RCPT TO:<{ANNA}>": HANG, "RCPT": b"550 No\r\n"}, (Stage.RCPT, 354)),
        (
            {f"RCPT TO:<{ANNA}>": HANG, "RCPT": b"550 No\r\n", "DATA": b"550 No\r\n"},
            (Stage.DATA, 0),
        ),
        ({"RCPT": b"250 Yes\r\n550 No\r\n"}, (Stage.DATA, 250)),
        ({"RCPT": b"354 Go on\r\n"}, (Stage.RCPT, 354)),
        ({"RCPT": b"550-No\r\n551 No\r\n"}, (Stage.RCPT, 0)),
        ({f"RCPT TO:<{ANNA}>": b"550 No\r\n", "RCPT": b"What\r\n"}, (Stage.RCPT, 0)),
    ],
)
async def test_miscounted(script: Mapping[str, bytes], end: tuple[Stage, int]) -> None:
    """When the replies are not as many as the commands nobody is blamed for any of them."""
    async with (
        scripted({**PIPELINING, **script}) as server,
        a_pool(a_relay(server.port, patience=BRIEF)) as pool,
    ):
        result = of(await pool.send(a_mail(ANNA, BEN)))

    assert [(reply.stage, reply.code) for reply in result.values()] == [end, end]
    assert not any(map(permanent, result.values()))


async def test_flushes_its_buffer() -> None:
    """A server that loses what comes early gets its commands one by one from then on."""
    async with (
        scripted({**PIPELINING, "FLUSH": b""}) as server,
        a_pool(a_relay(server.port, patience=BRIEF)) as pool,
    ):
        first = await sent(pool)
        others = [await sent(pool) for _ in range(3)]

    assert first == [(Stage.RCPT, 0)]
    assert others == [DELIVERED] * 3
    assert server.heard["CONNECT"] == 2


async def test_one_octet_at_a_time(greeting: Mapping[str, bytes]) -> None:
    """A reply that trickles in is a reply."""
    async with (
        scripted({**greeting, "TRICKLE": b""}) as server,
        a_pool(a_relay(server.port)) as pool,
    ):
        assert [await sent(pool) for _ in range(3)] == [DELIVERED] * 3

    assert server.heard["CONNECT"] == 1


async def test_lines_that_arrive(simulator: Simulator, claims: ClaimStore) -> None:
    """No line of a mail with encoded words or quoted-printable has over 76 characters."""
    command = a_command(
        f"{'é' * 100} <{'l' * 60}@x.example>",
        subject="é" * 60,
        text="x" * 74 + " \né\n" + "y" * 76,
        headers={f"X-{'n' * 58}": "é"},
    )
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        await a_sender(pool, claims).on_send_email(command)

    (mail,) = simulator.mailbox.find()
    assert max(map(len, mail.raw.split(b"\r\n"))) == 76


HARD_FAIL = (
    b"550-5.7.26 This message fails to pass SPF checks for a record with a hard fail policy.\r\n"
    b"550 5.7.26 To best protect our users from spam and phishing, it has been blocked.\r\n"
)
NOT_COMPLIANT = (
    b"550-5.7.1 This message is not RFC 5322 compliant, the issue is:\r\n"
    b"550-5.7.1 multiple Subject headers. To reduce the amount of spam sent\r\n"
    b"550 5.7.1 to Gmail, this message has been blocked.\r\n"
)


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ({"DOT": HARD_FAIL}, ReplyClass.AUTH_SENDER),
        ({"DOT": NOT_COMPLIANT}, ReplyClass.CONTENT),
        ({"DOT": b"552 5.3.4 too much mail data\r\n"}, ReplyClass.TOO_BIG),
        ({"MAIL": b"552 5.3.4 too much mail data\r\n"}, ReplyClass.TOO_BIG),
        (
            {"RCPT": b"551 No such user; please try <ben@y.example>\r\n"},
            ReplyClass.MAILBOX_DISABLED,
        ),
    ],
)
async def test_why(script: Mapping[str, bytes], found: ReplyClass, claims: ClaimStore) -> None:
    """What providers say beside the reason does not hide the reason (issue 10, S13)."""
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        (event,) = await a_sender(pool, claims).on_send_email(a_command())

    assert isinstance(event, NotAccepted)
    assert event.final
    assert event.reply_class is found


WIDE = "\uff14\uff11\uff12\uff10\uff12\uff19"  # 412029, full-width


@pytest.mark.parametrize("written", ["412029.", "412 029", "412-029", WIDE, "412\u00a0029"])
@pytest.mark.parametrize("refusal", ["DOT 550", "DOT 451", "RCPT 550", "MAIL 530", "DOT 250"])
async def test_codes_in_replies(written: str, refusal: str, claims: ClaimStore) -> None:
    """A relay that quotes the mail brings no code into an event or a log (issue 10, S15)."""
    verb, code = refusal.split()
    said = f"{code} 5.7.1 rejected: Your code is {written} is it\r\n".encode()
    command = a_command(category=Category.OTP)
    with capture_logs() as logs:
        async with scripted({verb: said}) as server, a_pool(a_relay(server.port)) as pool:
            told = await a_sender(pool, claims).on_send_email(command)

    assert "Your code is ***" in str(told)
    assert "029" not in str(told) + str(logs)
    assert WIDE[3:] not in str(told) + str(logs)
