"""Tests of BDAT: a mail in one write with its commands, and what is known when that goes wrong."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from ops.simulator.behaviour import EXTENSIONS, BdatFault, Behaviour
from ops.simulator.simulator import Simulator
from services.sender.claims import LostClaim
from services.sender.mail.compose import AttemptProgress, OutgoingMail
from services.sender.smtp.pool import SmtpPool
from services.sender.smtp.relay import MAX_JOINED_OCTETS, Timeouts
from services.sender.store import ClaimStore
from shared.contracts import Category, EmailUncertain, Stage
from tests.sender import verifier
from tests.sender.commands import a_command
from tests.sender.keys import PUBLIC
from tests.sender.mails import ANNA, CONTENT, a_mail, a_pool, a_relay, ends, sent
from tests.sender.scripted import AND_CLOSE, CHUNKING, CUT, HANG, Scripted, scripted
from tests.sender.senders import SIGNING, a_sender
from tests.waiting import until

DELIVERED = [(Stage.DOT, 250)]
UNCERTAIN = [(Stage.DOT, 0)]
BEN = "ben@x.example"
BRIEF = Timeouts(connect=5, command=1, dot=1, write=5)
FIRST_LINE, REST = CONTENT[:16], CONTENT[16:]
LARGE = b"Subject: large\r\n\r\n" + (b"x" * 70 + b"\r\n") * 1800
ALL_CHUNKING = Behaviour(extensions=(*EXTENSIONS, "CHUNKING"))


@pytest.fixture(params=["trial", "joined"])
def is_proven(request: pytest.FixtureRequest) -> bool:
    """Return whether the relay has accepted a mail by BDAT."""
    return bool(request.param == "joined")


@pytest.fixture(autouse=True)
def at_any_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use BDAT over connections that were idle for as long as a busy machine takes."""
    monkeypatch.setattr("services.sender.smtp.relay.MAX_JOINED_IDLE_SECONDS", 60.0)


def failures(port: int) -> float:
    """Return how often a relay failed at BDAT."""
    labels = {"category": "test", "relay": f"127.0.0.1:{port}"}
    name = "postrider_smtp_chunking_failed_total"
    return REGISTRY.get_sample_value(name, labels) or 0


async def send(pool: SmtpPool, mail: OutgoingMail) -> list[tuple[Stage, int]]:
    """Send a mail and return stage and code for each recipient."""
    return ends(await pool.send(mail))


async def prove(simulator: Simulator, pool: SmtpPool, *, is_proven: bool) -> None:
    """Offer CHUNKING, and accept a mail by BDAT if that is wanted."""
    simulator.behaviour = ALL_CHUNKING
    if is_proven:
        assert await sent(pool, "first@x.example") == DELIVERED
        simulator.mailbox.remove(simulator.mailbox.find())


async def test_one_write() -> None:
    """After a trial all commands and the content go out before any reply, as they are."""
    async with scripted(CHUNKING) as server, a_pool(a_relay(server.port)) as pool:
        assert await sent(pool) == DELIVERED
        together = b"250 1\r\n250 2\r\n250 3\r\n"
        server.script.update({"MAIL": HANG, "RCPT": HANG, "LAST": together})
        assert await sent(pool) == DELIVERED

    assert server.chunks == [FIRST_LINE, REST, CONTENT]
    assert server.heard["CONNECT"] == 1
    assert server.lines[1:-1] == [
        b"MAIL FROM:<post@our.example>\r\n",
        b"RCPT TO:<anna@x.example>\r\n",
        b"BDAT 16\r\n",
        b"BDAT %d LAST\r\n" % len(REST),
        b"MAIL FROM:<post@our.example>\r\n",
        b"RCPT TO:<anna@x.example>\r\n",
        b"BDAT %d LAST\r\n" % len(CONTENT),
    ]


@pytest.mark.parametrize(
    "mail",
    [
        a_mail(content=b"Subject: .\r\n\r\n.\r\n..\r\n.\r\nQUIT\r\n.. \r\n"),
        a_mail("jörg@x.example", content="Subject: ü\r\n\r\n.ß\r\n".encode(), needs_smtputf8=True),
        a_mail(content=LARGE[:MAX_JOINED_OCTETS]),
        a_mail(content=LARGE * 3),
    ],
)
async def test_octets(simulator: Simulator, mail: OutgoingMail, *, is_proven: bool) -> None:
    """The content arrives byte by byte, with its dots and line ends."""
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        await prove(simulator, pool, is_proven=is_proven)

        assert await send(pool, mail) == DELIVERED
        assert await sent(pool) == DELIVERED

    assert simulator.mailbox.find()[1].raw == mail.content
    assert simulator.traffic.total == 1


async def test_large(simulator: Simulator) -> None:
    """A content over the limit goes by DATA, after the replies to its recipients."""
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        await prove(simulator, pool, is_proven=True)
        before = simulator.traffic.commands["BDAT"]
        large = a_mail("reply-rcpt-550@x.example", content=LARGE * 3)

        assert await send(pool, large) == [(Stage.RCPT, 550)]
        assert await send(pool, replace(large, recipients=(ANNA,))) == DELIVERED
    assert simulator.traffic.commands["BDAT"] == before


@pytest.mark.parametrize("without", ["the setting", "CHUNKING", "PIPELINING"])
async def test_without(simulator: Simulator, without: str) -> None:
    """BDAT needs CHUNKING, PIPELINING and the setting."""
    offered = tuple(each for each in ALL_CHUNKING.extensions if each != without)
    simulator.behaviour = Behaviour(extensions=offered)
    relay = replace(a_relay(simulator.smtp_port), chunking=without != "the setting")
    async with a_pool(relay) as pool:
        assert [await sent(pool), await sent(pool)] == [DELIVERED] * 2

    assert simulator.traffic.commands["BDAT"] == 0


async def test_some_are_refused(simulator: Simulator, *, is_proven: bool) -> None:
    """The content goes to the recipients that are left."""
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        await prove(simulator, pool, is_proven=is_proven)
        result = await sent(pool, ANNA, "reply-rcpt-550@x.example", BEN)
        assert await sent(pool) == DELIVERED

    assert result == [(Stage.DOT, 250), (Stage.RCPT, 550), (Stage.DOT, 250)]
    assert simulator.mailbox.find()[1].recipients == (ANNA, BEN)
    assert (simulator.traffic.total, simulator.traffic.commands["DATA"]) == (1, 0)


@pytest.mark.parametrize("content", [CONTENT, LARGE[:MAX_JOINED_OCTETS]])
async def test_all_are_refused(simulator: Simulator, content: bytes, *, is_proven: bool) -> None:
    """When no recipient is left the outcome is that of RCPT, and the connection stays."""
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        await prove(simulator, pool, is_proven=is_proven)
        mail = a_mail("reply-rcpt-550@x.example", "reply-rcpt-450-4-2-0@x.example", content=content)
        result = await send(pool, mail)
        assert await sent(pool) == DELIVERED

    assert result == [(Stage.RCPT, 550), (Stage.RCPT, 450)]
    assert not mail.progress.content_begun
    assert (len(simulator.mailbox), simulator.traffic.total) == (1, 1)
    assert (simulator.traffic.commands["DATA"], failures(simulator.smtp_port)) == (0, 0)


@pytest.mark.parametrize("reply", ["552-5-3-4", "450-4-7-1", "550"])
async def test_refused_at_mail(simulator: Simulator, reply: str, *, is_proven: bool) -> None:
    """A refused MAIL is not uncertain though the content was written with it."""
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        await prove(simulator, pool, is_proven=is_proven)
        mail = a_mail(sender=f"reply-mail-{reply}@x.example", content=LARGE[:MAX_JOINED_OCTETS])
        result = await send(pool, mail)
        assert await sent(pool) == DELIVERED

    assert result == [(Stage.MAIL, int(reply[:3]))]
    assert not mail.progress.content_begun
    assert (len(simulator.mailbox), simulator.traffic.total) == (1, 1)


async def test_421_at_mail(simulator: Simulator, *, is_proven: bool) -> None:
    """A kept connection that takes no more mails costs no attempt."""
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        await prove(simulator, pool, is_proven=is_proven)
        simulator.behaviour = ALL_CHUNKING.model_copy(update={"mails_per_connection": 2})
        assert [await sent(pool) for _ in range(5)] == [DELIVERED] * 5

    assert (simulator.traffic.commands["DATA"], failures(simulator.smtp_port)) == (0, 0)


@pytest.mark.parametrize("stage", ["data", "dot"])
@pytest.mark.parametrize("code", [421, 451, 554])
async def test_refused_content(
    simulator: Simulator, stage: str, code: int, *, is_proven: bool
) -> None:
    """A refused content is the outcome of all recipients that were taken."""
    magic = f"reply-{stage}-{code}@x.example"
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        await prove(simulator, pool, is_proven=is_proven)
        mail = a_mail(magic, "reply-rcpt-550@x.example")
        result = await send(pool, mail)
        assert await sent(pool) == DELIVERED

    where = stage if not is_proven else "dot"
    assert result == [(where, code), (Stage.RCPT, 550)]
    assert mail.progress.content_begun is (code == 421 and stage == "dot" and not is_proven)
    assert failures(simulator.smtp_port) == 0


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data", "dot", "after-dot"])
async def test_lost(simulator: Simulator, stage: str) -> None:
    """A connection lost after the write and before the reply to BDAT leaves a mail uncertain."""
    magic = f"drop-{stage}@x.example"
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        await prove(simulator, pool, is_proven=True)
        mail = a_mail(magic, sender=magic)
        result = await send(pool, mail)
        data = simulator.traffic.commands["DATA"]
        after = await sent(pool)

    assert result == UNCERTAIN
    assert mail.progress.content_begun
    assert simulator.mailbox.count(magic) == (stage == "after-dot")
    assert (after, data, simulator.traffic.commands["DATA"]) == (DELIVERED, 0, 1)
    assert failures(simulator.smtp_port) == 1


@pytest.mark.parametrize("stage", ["rcpt", "data"])
async def test_lost_in_a_trial(simulator: Simulator, stage: str) -> None:
    """A connection lost before the last chunk accepted nothing, so the mail goes by DATA."""
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        await prove(simulator, pool, is_proven=False)
        mail = a_mail(f"drop-{stage}@x.example")
        result = await send(pool, mail)

    assert result == [(stage, 0)]
    assert (simulator.traffic.commands["BDAT"] > 0) == (stage == "data")
    assert not mail.progress.content_begun


@pytest.mark.parametrize("fault", ["unknown", "refused", "silent", "cut", "hangs"])
async def test_faults_at_a_trial(simulator: Simulator, fault: BdatFault) -> None:
    """A relay that fails at the first chunk gets the mail by DATA, and all others; it is logged."""
    async with a_pool(a_relay(simulator.smtp_port, timeouts=BRIEF)) as pool:
        simulator.behaviour = ALL_CHUNKING.model_copy(update={"bdat_fault": fault})
        with capture_logs() as lines:
            assert [await sent(pool) for _ in range(3)] == [DELIVERED] * 3

    assert (len(simulator.mailbox), simulator.traffic.total) == (3, 2)
    assert (simulator.traffic.commands["BDAT"], simulator.traffic.commands["DATA"]) == (1, 3)
    assert failures(simulator.smtp_port) == 1
    assert [line["event"] for line in lines] == ["the relay failed at BDAT: it has DATA now"]


@pytest.mark.parametrize(
    ("fault", "result"),
    [
        ("unknown", DELIVERED),
        ("refused", DELIVERED),
        ("silent", UNCERTAIN),
        ("cut", UNCERTAIN),
        ("hangs", UNCERTAIN),
    ],
)
async def test_faults_later(
    simulator: Simulator, fault: BdatFault, result: list[tuple[Stage, int]]
) -> None:
    """A mail goes again by DATA only if its content was refused; the others go by DATA."""
    async with a_pool(a_relay(simulator.smtp_port, timeouts=BRIEF)) as pool:
        await prove(simulator, pool, is_proven=True)
        simulator.behaviour = ALL_CHUNKING.model_copy(update={"bdat_fault": fault})
        assert await sent(pool) == result
        assert await sent(pool, BEN) == DELIVERED

    assert simulator.mailbox.count(ANNA) == (result == DELIVERED)
    assert simulator.traffic.commands["BDAT"] == 3
    assert failures(simulator.smtp_port) == 1


@pytest.mark.parametrize(
    ("script", "result", "failed"),
    [
        # The replies belong to other commands.
        ({"LAST": b"250 1\r\n250 2\r\n"}, UNCERTAIN, True),
        ({"RCPT": b"550 No\r\n", "LAST": b"250 OK\r\n"}, UNCERTAIN, True),
        ({"LAST": b"354 Go on\r\n"}, UNCERTAIN, True),
        ({"RCPT": b"999 What\r\n"}, UNCERTAIN, True),
        ({"MAIL": HANG}, UNCERTAIN, True),
        ({"RCPT": HANG}, UNCERTAIN, True),
        ({"LAST": b"no reply\r\n"}, UNCERTAIN, True),
        # It has refused before it closes, or is silent.
        ({"RCPT": b"550 No\r\n", "LAST": CUT}, [(Stage.RCPT, 550)], False),
        ({"RCPT": b"550 No\r\n" + AND_CLOSE}, [(Stage.RCPT, 550)], False),
        ({"MAIL": b"550 No\r\n" + AND_CLOSE}, [(Stage.MAIL, 550)], False),
        ({"RCPT": b"421 Busy\r\n" + AND_CLOSE}, [(Stage.RCPT, 421)], False),
        ({"LAST": b"421 Busy\r\n" + AND_CLOSE}, [(Stage.DOT, 421)], False),
        # It closes after its reply.
        ({"LAST": b"250 OK\r\n421 Enough\r\n" + AND_CLOSE}, DELIVERED, False),
        ({"LAST": b"554 No\r\n421 Enough\r\n" + AND_CLOSE}, [(Stage.DOT, 554)], False),
    ],
)
async def test_replies_in_order(
    script: Mapping[str, bytes], result: list[tuple[Stage, int]], *, failed: bool
) -> None:
    """Replies are matched by count; a mail is uncertain unless they show what became of it."""
    async with (
        scripted(CHUNKING) as server,
        a_pool(a_relay(server.port, timeouts=BRIEF)) as pool,
    ):
        assert await sent(pool) == DELIVERED
        server.script.update(script)
        mail = a_mail()
        assert await send(pool, mail) == result

    assert mail.progress.content_begun is (result in (UNCERTAIN, DELIVERED))
    assert failures(server.port) == failed


async def test_a_lost_claim(*, is_proven: bool) -> None:
    """The claim is checked before the write, since the content is in it."""

    def refuse() -> None:
        raise LostClaim("content")

    async with scripted(CHUNKING) as server, a_pool(a_relay(server.port)) as pool:
        if is_proven:
            assert await sent(pool) == DELIVERED
        before = len(server.chunks)
        mail = replace(a_mail(), progress=AttemptProgress(commit=refuse))
        with pytest.raises(LostClaim):
            await pool.send(mail)
        assert await sent(pool) == DELIVERED

    kept = [FIRST_LINE] if not is_proven else []
    assert server.chunks[before : before + len(kept)] == kept
    assert server.heard["LAST"] == 1 + is_proven
    assert not mail.progress.content_begun


async def heard(server: Scripted, verb: str, count: int) -> bool:
    """Return whether there were so many of a verb."""
    return server.heard[verb] >= count


@pytest.mark.parametrize(
    ("script", "begun"),
    [
        ({"MAIL": HANG}, True),
        ({"RCPT": HANG}, True),
        ({"LAST": HANG}, True),
        ({"RCPT": b"550 No\r\n", "LAST": HANG}, False),
        ({"MAIL": b"550 No\r\n", "RCPT": HANG, "LAST": HANG}, True),
    ],
)
async def test_cancelled(script: Mapping[str, bytes], *, begun: bool) -> None:
    """A cancelled mail may have arrived, unless all its recipients were refused."""
    async with scripted(CHUNKING) as server, a_pool(a_relay(server.port)) as pool:
        assert await sent(pool) == DELIVERED
        server.script.update(script)
        mail = a_mail()
        sending = asyncio.create_task(pool.send(mail))
        await until(partial(heard, server, "LAST", 2))
        if not begun:
            await until(partial(refused, mail))
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        server.script.update({"MAIL": b"250 OK\r\n", "RCPT": b"250 OK\r\n", "LAST": b"250 OK\r\n"})
        assert await sent(pool) == DELIVERED

    assert mail.progress.content_begun is begun


async def refused(mail: OutgoingMail) -> bool:
    """Return whether it is known that the content is not accepted."""
    return not mail.progress.content_begun


async def test_uncertain(simulator: Simulator, claims: ClaimStore) -> None:
    """A newsletter whose connection is lost after the write is reported and not sent again."""
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        await prove(simulator, pool, is_proven=True)
        command = a_command("drop-rcpt@x.example", category=Category.BULK)
        sender = a_sender(pool, claims, retries_uncertain=False)
        [event] = await sender.on_send_email(command)

    assert isinstance(event, EmailUncertain)


async def test_signed(simulator: Simulator, claims: ClaimStore, *, is_proven: bool) -> None:
    """A signature is still good when the mail has come by BDAT."""
    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        await prove(simulator, pool, is_proven=is_proven)
        sender = replace(a_sender(pool, claims), builder=SIGNING)
        await sender.on_send_email(a_command(text=".\n..\nLunch?\n" * 100))

    [mail] = simulator.mailbox.find()
    found = verifier.signatures(mail.raw)
    assert [
        verifier.verifies(mail.raw, each, key) for each, key in zip(found, PUBLIC, strict=True)
    ] == [True, True]
    assert simulator.traffic.commands["DATA"] == 0
