"""The faults of SMTP servers by name; none of them is blamed on a recipient."""

import asyncio
from collections.abc import Mapping

import pytest

from services.sender.smtp.relay import Timeouts
from shared.contracts import Stage
from shared.replies.reply import permanent
from tests.sender.mails import ANNA, a_mail, a_pool, a_relay, ends, of, sent
from tests.sender.scripted import AND_CLOSE, CUT, HANG, PIPELINING, POLITE, scripted
from tests.waiting import PATIENCE_SECONDS

DELIVERED = [(Stage.DOT, 250)]
STAGES = ["mail", "rcpt", "data", "dot"]
BRIEF = Timeouts(connect=2, command=2, dot=2, write=2)
BEN = "ben@x.example"
BIG = b"Subject: big\r\n\r\n" + b"x" * 76 * 10**5 + b"\r\n"


@pytest.fixture(params=[PIPELINING, {}], ids=["in a group", "in lock-step"])
def greeting(request: pytest.FixtureRequest) -> Mapping[str, bytes]:
    """Return a scripted server's reply to EHLO: with PIPELINING, then without."""
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
    """Octets that are no SMTP end the transaction at their stage, and the connection."""
    patience = Timeouts(connect=1, command=0.5, dot=0.5)
    async with (
        scripted({**greeting, **script}) as server,
        a_pool(a_relay(server.port, timeouts=patience)) as pool,
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
    """The code alone decides: with no text, many lines or other alphabets."""
    async with scripted({**greeting, **script}) as server, a_pool(a_relay(server.port)) as pool:
        assert await sent(pool) == DELIVERED
        assert await sent(pool) == DELIVERED

    assert server.heard["CONNECT"] == 1


LONG_REPLIES = [
    b"250 " + b"x" * 5000 + b"\r\n",
    b"250-x\r\n" * 128 + b"250 2.0.0 Queued\r\n",
    b"250-" + b"x" * 100_000 + b"\r\n" + b"250 x\r\n",
]


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DOT"])
@pytest.mark.parametrize("said", LONG_REPLIES)
async def test_long_replies(greeting: Mapping[str, bytes], verb: str, said: bytes) -> None:
    """A positive reply of any length counts, and the connection goes on (issue 10, S11)."""
    script = {**greeting, verb: said}
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        assert [await sent(pool) for _ in range(3)] == [DELIVERED] * 3

    assert (server.heard["CONNECT"], server.heard["DOT"]) == (1, 3)


@pytest.mark.parametrize("endless", [b"-x\r\n" * 20, b" " + b"x" * 100_000, b"-x\r\n" * 300_000])
async def test_replies_without_end(endless: bytes) -> None:
    """The code of an endless reply to the dot counts, and no other reply is read from it."""
    yes, no = ({"DOT": endless.replace(b"-x", b"%d-x" % code)} for code in (250, 550))
    if endless.startswith(b" "):
        yes, no = {"DOT": b"250" + endless}, {"DOT": b"550" + endless}
    for script, end in ((yes, DELIVERED), (no, [(Stage.DOT, 550)])):
        async with (
            scripted(script) as server,
            a_pool(a_relay(server.port, timeouts=BRIEF)) as pool,
        ):
            assert [await sent(pool), await sent(pool)] == [end, end]
        assert (server.heard["CONNECT"], server.heard["DOT"]) == (2, 2)


@pytest.mark.parametrize("endless", [b"250-" + b"x" * 100_000, b"250-x\r\n" * 20_000])
async def test_nothing_after_an_endless_reply(
    greeting: Mapping[str, bytes], endless: bytes
) -> None:
    """An endless positive reply to RCPT leads to no mail: the next reply might be part of it."""
    async with (
        scripted({**greeting, "RCPT": endless}) as server,
        a_pool(a_relay(server.port, timeouts=BRIEF)) as pool,
    ):
        ends_of_all = [(await sent(pool))[0], (await sent(pool))[0]]

    assert set(ends_of_all) <= {(Stage.DATA, 0), (Stage.RCPT, 354)}
    assert server.heard["CONNECT"] == 2


@pytest.mark.parametrize(
    "said",
    [
        b"550-5.1.1 No\r\nsee https://x.example\r\n550 5.1.1 Bye\r\n",
        b"554-5.1.1 No\r\n550 5.1.1 No such user\r\n",
        b"\r\n550-5.1.1 No\r\n\r\n550 5.1.1 such user\r\n\r\n",
        b"550-5.1.1 No\r\n2026 is not your year\r\n550 Bye\r\n",
    ],
)
@pytest.mark.parametrize("verb", ["RCPT", "DOT"])
async def test_refusals_out_of_form(greeting: Mapping[str, bytes], verb: str, said: bytes) -> None:
    """A refusal counts although lines of it have no code, another one, or nothing (S12)."""
    script = {**greeting, verb: said}
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        assert [await sent(pool) for _ in range(2)] == [[(Stage(verb.lower()), 550)]] * 2

    assert server.heard["CONNECT"] == 1


async def test_blank_lines(greeting: Mapping[str, bytes]) -> None:
    """A relay that sends a blank line after each reply is served as any other (S12)."""
    script = {**POLITE, "MAIL": b"250 OK\r\n", "RCPT": b"250 OK\r\n", "DOT": b"250 OK\r\n"}
    blank = {verb: said + b"\r\n \r\n" for verb, said in {**script, **greeting}.items()}
    async with scripted(blank) as server, a_pool(a_relay(server.port), idle_seconds=0) as pool:
        assert [await sent(pool, ANNA, BEN) for _ in range(3)] == [DELIVERED * 2] * 3

    assert (server.heard["CONNECT"], server.heard["DOT"]) == (1, 3)


@pytest.mark.parametrize("code", [450, 550])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("last", [b"\r\n", b"", b"\r\n421 4.3.2 Going\r\n"])
async def test_said_and_closed(
    greeting: Mapping[str, bytes], stage: str, code: int, last: bytes
) -> None:
    """A refusal counts although the server then closes, with or without 421 or a line end (S10)."""
    no = f"{code} {code // 100}.1.1 No".encode() + last + AND_CLOSE
    async with (
        scripted({**greeting, stage.upper(): no}) as server,
        a_pool(a_relay(server.port)) as pool,
    ):
        assert await sent(pool) == [(Stage(stage), code)]


async def test_accepted_and_closed(greeting: Mapping[str, bytes]) -> None:
    """A positive reply to the dot counts, with or without its end."""
    for yes in (b"250 2.0.0 Queued\r\n", b"250 2.0.0 Que", b"250-Queued\r\n", b"250"):
        script = {**greeting, "DOT": yes + AND_CLOSE}
        async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
            assert await sent(pool) == DELIVERED


async def test_refused_and_closed_in_the_body() -> None:
    """A refusal in the middle of the content counts although the server then closes."""
    script = {"DATA": b"354 Go on\r\n", "IN-BODY": b"552 5.3.4 Too big\r\n" + AND_CLOSE}
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        assert ends(await pool.send(a_mail(content=BIG))) == [(Stage.DOT, 552)]


async def test_closing_unasked(greeting: Mapping[str, bytes]) -> None:
    """A refusal counts, and a 421 after it is for the recipients after it."""
    going = b"550 5.1.1 No\r\n421 4.3.2 Going\r\n" + AND_CLOSE
    script = {**greeting, f"RCPT TO:<{ANNA}>": going}
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        anna, ben = await sent(pool, ANNA, BEN)

    assert anna == (Stage.RCPT, 550)
    assert ben == (Stage.RCPT, 421)


async def test_out_of_step() -> None:
    """An extra reply, which shifts all others by one, bounces no recipient."""
    shifted = {"DATA": b"550 5.1.1 No\r\n", "RSET": b"354 Go on\r\n"}  # BEN's, then DATA's
    async with scripted(shifted) as server, a_pool(a_relay(server.port)) as pool:
        result = of(await pool.send(a_mail(ANNA, BEN)))

    assert [reply.code for reply in result.values()] == [0, 0]
    assert not any(map(permanent, result.values()))


@pytest.mark.parametrize("extra", [b"250 OK\r\n", b"250 OK\r\n250 OK\r\n", b"354 Go on\r\n"])
async def test_replies_of_the_mail_before(greeting: Mapping[str, bytes], extra: bytes) -> None:
    """An extra reply after one mail is not read as a reply to the next (S12)."""
    script = {**greeting, "DOT": b"250 OK\r\n" + extra}
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        assert await sent(pool) == DELIVERED
        server.script["DOT"] = b"550 5.7.1 No\r\n"
        assert await sent(pool) == [(Stage.DOT, 550)]

    assert server.heard["CONNECT"] == 2


async def test_an_unasked_reply_before_mail(greeting: Mapping[str, bytes]) -> None:
    """A reply received before MAIL is no reply to it."""
    script = {**greeting, "RSET": b"250 OK\r\n250 OK\r\n", "RCPT": b"550 5.1.1 No\r\n"}
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        assert await sent(pool) == [(Stage.RCPT, 550)]
        server.script["RCPT"] = b"250 OK\r\n"
        server.script["DOT"] = b"550 5.7.1 No\r\n"
        assert await sent(pool) == [(Stage.DOT, 550)]

    assert server.heard["CONNECT"] == 2


async def test_a_reply_too_many() -> None:
    """Of two replies to the dot the first one counts, and the second is no other reply."""
    script = {"DOT": b"250 OK\r\n550 Sorry\r\n"}
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        assert await sent(pool) == DELIVERED
        assert await sent(pool) == DELIVERED

    assert server.heard["CONNECT"] == 2


async def test_no_reset() -> None:
    """A refusal counts with any result of the RSET after it."""
    script = {"RCPT": b"550 No\r\n", "RSET": CUT}
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        assert await sent(pool) == [(Stage.RCPT, 550)]
        assert await sent(pool) == [(Stage.RCPT, 550)]

    assert server.heard["CONNECT"] == 2


async def test_cut_in_the_body() -> None:
    """While part of the content is unsent the dot is too: nothing is uncertain."""
    async with scripted({"CUT-BODY": b""}) as server, a_pool(a_relay(server.port)) as pool:
        assert ends(await pool.send(a_mail(content=BIG))) == [(Stage.DATA, 0)]


async def test_refused_in_the_body() -> None:
    """A server may refuse in the middle of the content; the rest is not sent."""
    script = {"DATA": b"354 Go on\r\n", "IN-BODY": b"552 5.3.4 Too big\r\n"}
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        assert ends(await pool.send(a_mail(content=BIG))) == [(Stage.DOT, 552)]
        assert not pool._pools[f"127.0.0.1:{server.port}"]._idle


@pytest.mark.parametrize("reply", [b"250 OK\r\n", b"100 Wait\r\n"])
async def test_lied_to_in_the_body(reply: bytes) -> None:
    """A positive reply before the end of the mail does not count."""
    script = {"DATA": b"354 Go on\r\n", "IN-BODY": reply}
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        assert ends(await pool.send(a_mail(content=BIG))) == [(Stage.DATA, 0)]


async def test_body_not_taken() -> None:
    """The sending of a body has a limit; while the dot is unsent the mail is too."""
    script = {"DATA": b"354 Go on\r\n", "IN-BODY": b""}
    async with (
        scripted(script) as server,
        a_pool(a_relay(server.port, timeouts=BRIEF)) as pool,
    ):
        mail = a_mail(content=BIG)

        assert ends(await pool.send(mail)) == [(Stage.DATA, 0)]
        assert not mail.progress.content_begun


async def test_no_accepted_recipient_after_a_354() -> None:
    """A server that replies 354 although it refused all recipients gets a lone dot."""
    script = {"RCPT": b"550 5.1.1 No\r\n"}
    async with scripted({**PIPELINING, **script}) as server, a_pool(a_relay(server.port)) as pool:
        assert await sent(pool, ANNA, BEN) == [(Stage.RCPT, 550)] * 2
        del server.script["RCPT"]
        assert await sent(pool) == DELIVERED

    assert (server.heard["DOT"], server.heard["RSET"], server.heard["CONNECT"]) == (2, 1, 1)


@pytest.mark.parametrize("last", [b"421 4.3.0 Going\r\n", b"999 What\r\n"])
async def test_no_more_to_come(last: bytes) -> None:
    """A 421 in a group of replies counts at once, though no reply follows."""
    script = {**PIPELINING, "MAIL": last, "RCPT": HANG, "DATA": HANG}
    patience = Timeouts(command=60)
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        scripted(script) as server,
        a_pool(a_relay(server.port, timeouts=patience)) as pool,
    ):
        assert await sent(pool) == [(Stage.MAIL, int(last[:3]))]


@pytest.mark.parametrize("then", [b"503 5.5.1 MAIL first\r\n", CUT, b"421 4.7.0 Bye\r\n"])
async def test_sender_refused(then: bytes) -> None:
    """Replies after a refused sender are about no recipient."""
    script = {"MAIL": b"550 5.1.8 No\r\n", "RCPT": then, "DATA": then}
    async with scripted({**PIPELINING, **script}) as server, a_pool(a_relay(server.port)) as pool:
        assert await sent(pool, ANNA, BEN) == [(Stage.MAIL, 550)] * 2


@pytest.mark.parametrize("then", [CUT, b"421 4.7.0 Bye\r\n"])
async def test_closed_after_a_refusal(then: bytes) -> None:
    """A refusal counts although the server then closes without a reply to other commands."""
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
        # A reply without its end takes the next one in: the count is wrong.
        ({f"RCPT TO:<{ANNA}>": b"550-No\r\n", "RCPT": b"550 No\r\n"}, (Stage.RCPT, 354)),
        ({f"RCPT TO:<{ANNA}>": b"250-Yes\r\n", "DATA": b"550 No\r\n"}, (Stage.DATA, 0)),
        ({f"RCPT TO:<{ANNA}>": b"550 No\r\n", "RCPT": b"What\r\n"}, (Stage.RCPT, 0)),
    ],
)
async def test_miscounted(script: Mapping[str, bytes], end: tuple[Stage, int]) -> None:
    """When there are not as many replies as commands no recipient is blamed."""
    async with (
        scripted({**PIPELINING, **script}) as server,
        a_pool(a_relay(server.port, timeouts=BRIEF)) as pool,
    ):
        result = of(await pool.send(a_mail(ANNA, BEN)))

    assert [(reply.stage, reply.code) for reply in result.values()] == [end, end]
    assert not any(map(permanent, result.values()))


async def test_flushes_its_buffer() -> None:
    """A server that loses early commands gets them one by one from then on."""
    async with (
        scripted({**PIPELINING, "FLUSH": b""}) as server,
        a_pool(a_relay(server.port, timeouts=BRIEF)) as pool,
    ):
        first = await sent(pool)
        others = [await sent(pool) for _ in range(3)]

    assert first == [(Stage.RCPT, 0)]
    assert others == [DELIVERED] * 3
    assert server.heard["CONNECT"] == 2


async def test_one_octet_at_a_time(greeting: Mapping[str, bytes]) -> None:
    """A reply that comes octet by octet counts."""
    async with (
        scripted({**greeting, "TRICKLE": b""}) as server,
        a_pool(a_relay(server.port)) as pool,
    ):
        assert [await sent(pool) for _ in range(3)] == [DELIVERED] * 3

    assert server.heard["CONNECT"] == 1
