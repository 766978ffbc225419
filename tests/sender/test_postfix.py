"""The sender and a real Postfix."""

import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from email import message_from_bytes, policy
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import trustme

from benchmarks import postfix
from benchmarks.bench import Bench, BenchError
from benchmarks.postfix import Postfix
from ops.broker import BrokerAddress, BrokerPorts
from ops.simulator.simulator import Simulator
from services.sender.outcome import FailureReason, Unsendable
from services.sender.smtp.connect import connect
from services.sender.smtp.relay import Extensions, Tls
from services.sender.store import ClaimStore
from shared.contracts import EmailBounced, EmailDeferred, EmailDelivered, ReplyClass, Stage
from shared.contracts.attachment import CalendarObject
from shared.replies.reply import classify_refusal, too_many_recipients
from shared.return_path import ReturnedMail, address_hash, mail_key
from tests.sender.commands import NOW, a_command
from tests.sender.mails import ANNA, a_mail, a_pool, a_relay, ends, of, sent
from tests.sender.senders import RETURN_PATHS, a_sender, later
from tests.waiting import until

pytestmark = pytest.mark.postfix
DELIVERED = [(Stage.DOT, 250)]
MAX_OCTETS = 20_000
MAX_RECIPIENTS = 5
BIG = b"Subject: big\r\n\r\n" + b"x" * 70 + b"\r\n" * MAX_OCTETS
HEADERS = (
    b"Date: Sat, 21 Nov 2026 12:00:00 +0000\r\nFrom: post@our.example\r\nTo: anna@x.example\r\n"
    b"Subject: dots\r\n"
)
DOTTED = HEADERS + b"\r\n.\r\n..\r\n.\r\n\r\nQUIT\r\nRSET\r\n" + b"x" * 900 + b" \r\n"
INVITATION = (
    "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//shop.example//EN\r\nMETHOD:REQUEST\r\n"
    "BEGIN:VEVENT\r\nUID:17@shop.example\r\nDTSTAMP:20261129T100000Z\r\n"
    # Servers change long lines, lone dots and spaces at an end, unless they are encoded.
    f"DTSTART:20261204T110000Z\r\nSUMMARY:{'Mittagessen für alle, ' * 60}\r\n.\r\n"
    "END:VEVENT\r\nEND:VCALENDAR\r\n"
)
# What its administrator has written for some recipients; the others of x.example do not exist.
ANSWERS = {
    "greylisted": "450 4.2.0 Greylisted, try again in 5 minutes",
    "broken": "451 4.3.0 The address book is away",
    "busy": "421 4.7.0 Too many mails from you",
    "unwanted": "554 5.7.1 Not from you",
    "closed": "550 5.2.1 This mailbox is closed",
}
KNOWN = [ANNA, *(f"{name}@x.example" for name in (*ANSWERS, *"bcdefghi"))]
SETTINGS = {
    "relay_domains": "x.example",
    "relay_transport": "discard:",
    "default_transport": "discard:",
    "relay_recipient_maps": f"inline:{{ {', '.join(f'{each}=known' for each in KNOWN)} }}",
    "smtpd_recipient_restrictions": "check_recipient_access inline:{ "
    + ", ".join(f"{{ {name}@x.example = {answer} }}" for name, answer in ANSWERS.items())
    + " }",
    "smtpd_recipient_limit": str(MAX_RECIPIENTS),
    "message_size_limit": str(MAX_OCTETS),
    "smtpd_tls_security_level": "may",
    "smtpd_error_sleep_time": "0",
}


@pytest.fixture
def home() -> Iterator[Path]:
    """Return a directory that Postfix can read when it has given up root."""
    with TemporaryDirectory(prefix="postrider-postfix-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@asynccontextmanager
async def serving(home: Path, settings: Mapping[str, str]) -> AsyncIterator[Postfix]:
    """Run a Postfix for the length of the block."""
    bench = Bench(home, BrokerAddress(BrokerPorts(0, 0, 0, 0), ""))
    try:
        async with postfix.serving(bench, {**SETTINGS, **settings}) as (served, _):
            yield served
    except BenchError as error:
        pytest.skip(str(error))


@pytest.fixture
async def server(home: Path, authority: trustme.CA) -> AsyncIterator[Postfix]:
    """Run a Postfix that discards all accepted mail."""
    chain = home / "chain.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(chain)
    async with serving(home, {"smtpd_tls_chain_files": str(chain)}) as opened:
        yield opened


@pytest.fixture(params=["pipelined", "in lock-step"])
def port(server: Postfix, request: pytest.FixtureRequest) -> int:
    """Return the port with PIPELINING, and so with BDAT, then the one without."""
    return server.port if request.param == "pipelined" else server.plain_port


async def test_what_it_offers(server: Postfix) -> None:
    """All extensions of Postfix that matter are read."""
    connection = await connect(a_relay(server.port), 1e12)
    connection.abort()

    assert connection.extensions == Extensions(
        pipelining=True,
        chunking=True,
        eight_bit=True,
        smtputf8=True,
        sized=True,
        dsn=True,
        size=MAX_OCTETS,
    )


async def test_reports(port: int) -> None:
    """Postfix accepts our DSN parameters."""
    mail = replace(a_mail(ANNA, "a+b=c@x.example"), envelope_id="mail_1.2-3")

    async with a_pool(a_relay(port)) as pool:
        anna, odd = ends(await pool.send(mail))

    assert [anna] == DELIVERED
    assert odd == (Stage.RCPT, 550)  # nobody has that name; 501 would be about its form


async def test_accepted(server: Postfix, port: int) -> None:
    """Each mail over one connection is queued once, without a protocol error.

    The first one by BDAT has two chunks.
    """
    by_bdat = port == server.port
    counts = "bdat=21 quit=1 commands=63" if by_bdat else "data=20 quit=1 commands=62"
    async with a_pool(a_relay(port)) as pool:
        assert [await sent(pool) for _ in range(20)] == [DELIVERED] * 20

    async def noted() -> bool:
        # The last line of a session, with what it counted; several for the cases of this test.
        return f"mail=20 rcpt=20 {counts}" in server.log.read_text()

    await until(noted)
    assert "improper command pipelining" not in server.log.read_text()


@pytest.mark.parametrize(
    ("name", "code", "reply_class"),
    [
        ("nobody", 550, ReplyClass.MAILBOX_UNKNOWN),
        ("closed", 550, ReplyClass.MAILBOX_DISABLED),
        ("unwanted", 554, ReplyClass.POLICY),
        ("greylisted", 450, ReplyClass.TEMPORARY),
        ("broken", 451, ReplyClass.TEMPORARY),
        ("busy", 421, ReplyClass.RATE),
    ],
)
async def test_refused(port: int, name: str, code: int, reply_class: ReplyClass) -> None:
    """A refusal has its stage, code and class, and does not affect the next mail."""
    recipient = f"{name}@x.example"

    async with a_pool(a_relay(port)) as pool:
        reply = of(await pool.send(a_mail(recipient)))[recipient]
        assert await sent(pool) == DELIVERED

    found = classify_refusal(reply, recipient, alone=True)
    assert (reply.stage, reply.code) == (Stage.RCPT, code)
    assert found is not None
    assert found.reply_class is reply_class


async def test_some_are_refused(port: int, claims: ClaimStore) -> None:
    """Each of several recipients has its event, and waits for as long as the server asks."""
    command = a_command(ANNA, "nobody@x.example", "greylisted@x.example", "b@x.example")

    async with a_pool(a_relay(port)) as pool:
        returned = await a_sender(pool, claims).on_send_email(command)

    kinds = {
        each.recipient.partition("@")[0]: type(each)
        for each in returned
        if isinstance(each, EmailDelivered | EmailBounced | EmailDeferred)
    }
    assert kinds == {
        "anna": EmailDelivered,
        "nobody": EmailBounced,
        "greylisted": EmailDeferred,
        "b": EmailDelivered,
    }
    [(seconds, attempt, recipients)] = later(returned)
    assert (attempt, recipients) == (2, ("greylisted@x.example",))
    assert 300 <= seconds < 400  # the five minutes that it asks for, and a little


async def test_too_many_recipients(port: int) -> None:
    """Recipients without room get such a reply, and the others get the mail."""
    everyone = [f"{name}@x.example" for name in "bcdefghi"]

    async with a_pool(a_relay(port)) as pool:
        result = of(await pool.send(a_mail(*everyone)))

    taken, others = everyone[:MAX_RECIPIENTS], everyone[MAX_RECIPIENTS:]
    assert {(result[each].stage, result[each].code) for each in taken} == {(Stage.DOT, 250)}
    assert {result[each].code for each in others} == {452}
    assert all(too_many_recipients(result[each]) for each in others)


async def test_an_invitation_arrives_unchanged(
    home: Path, claims: ClaimStore, simulator: Simulator
) -> None:
    """A calendar is still a form of the text, with its method and octets, behind a Postfix.

    Mail programs show its buttons only then (RFC 6047 2.4).
    """
    calendar = CalendarObject(method="REQUEST", content=INVITATION)
    command = a_command(text="Lunch?\n", html="<p>Lunch?</p>", calendar=calendar)
    onwards = {"relay_transport": f"smtp:[127.0.0.1]:{simulator.smtp_port}"}

    async with serving(home, onwards) as server, a_pool(a_relay(server.port)) as pool:
        await a_sender(pool, claims).on_send_email(command)
        await until(partial(arrived, simulator))

    [mail] = simulator.mailbox.find()
    message = message_from_bytes(mail.raw, policy=policy.default)
    parts = list(message.iter_parts())
    assert f"by {postfix.HOSTNAME}" in message["Received"]
    assert message.get_content_type() == "multipart/alternative"
    assert [each.get_content_type() for each in parts] == [
        "text/plain",
        "text/html",
        "text/calendar",
    ]
    assert parts[2]["Content-Type"].params == {"charset": "utf-8", "method": "REQUEST"}
    assert parts[2]["Content-Disposition"] is None
    assert parts[2].get_payload(decode=True) == INVITATION.encode()


async def test_return_paths(home: Path, claims: ClaimStore, simulator: Simulator) -> None:
    """A return path passes through a Postfix, of which each recipient gets its own."""
    onwards = {"relay_transport": f"smtp:[127.0.0.1]:{simulator.smtp_port}"}

    async with serving(home, onwards) as server, a_pool(a_relay(server.port)) as pool:
        sender = a_sender(pool, claims, return_paths=RETURN_PATHS)
        await sender.on_send_email(a_command(ANNA, "b@x.example"))
        await until(partial(arrived, simulator, 2))

    found = {mail.recipients[0]: mail.sender for mail in simulator.mailbox.find()}
    assert {each: RETURN_PATHS.read(path, NOW.date()) for each, path in found.items()} == {
        each: ReturnedMail(mail_key("mail-1", None), address_hash(each), 0)
        for each in (ANNA, "b@x.example")
    }


async def arrived(simulator: Simulator, mails: int = 1) -> bool:
    """Return whether so many mails have come through."""
    return simulator.mailbox.count() == mails


async def test_too_big_for_what_it_offers(server: Postfix) -> None:
    """A mail over the server's SIZE is not begun."""
    async with a_pool(a_relay(server.port)) as pool:
        assert await pool.send(a_mail(content=BIG)) == Unsendable(FailureReason.TOO_BIG)


async def test_too_big_without_an_offer(server: Postfix) -> None:
    """A size limit that is not announced is a refusal at the dot, and blames no recipient."""
    async with a_pool(a_relay(server.plain_port)) as pool:
        result = await pool.send(a_mail(content=BIG))
        assert await sent(pool) == DELIVERED

    reply = of(result)[ANNA]
    found = classify_refusal(reply, ANNA, alone=True)
    assert ends(result) == [(Stage.DOT, 552)]
    assert found is not None
    assert found.reply_class is ReplyClass.TOO_BIG


async def test_starttls(port: int, trusting: ssl.SSLContext) -> None:
    """The same mails are sent with encryption."""
    relay = a_relay(port, Tls.STARTTLS, trusting)

    async with a_pool(relay) as pool:
        assert [await sent(pool, ANNA, "nobody@x.example") for _ in range(3)] == [
            [(Stage.DOT, 250), (Stage.RCPT, 550)]
        ] * 3


async def test_an_unknown_authority(server: Postfix) -> None:
    """Nothing is sent to a server without a valid certificate."""
    relay = a_relay(server.port, Tls.STARTTLS, ssl.create_default_context())

    async with a_pool(relay) as pool:
        assert await sent(pool) == [(Stage.TLS, 0)]


@pytest.fixture
def in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use BDAT over connections that were idle for as long as a busy machine takes."""
    monkeypatch.setattr("services.sender.smtp.relay.MAX_JOINED_IDLE_SECONDS", 60.0)


@pytest.mark.usefixtures("in_chunks")
async def test_octets_by_bdat(home: Path, simulator: Simulator) -> None:
    """A mail by BDAT, in a trial or in one write, comes out of Postfix with the same octets."""
    mails = [
        a_mail(content=f"Message-ID: <{n}@our.example>\r\n".encode() + DOTTED) for n in range(3)
    ]
    onwards = {"relay_transport": f"smtp:[127.0.0.1]:{simulator.smtp_port}"}

    async with serving(home, onwards) as server, a_pool(a_relay(server.port)) as pool:
        for mail in mails:
            assert ends(await pool.send(mail)) == DELIVERED

        async def all_arrived() -> bool:
            return simulator.mailbox.count() == len(mails)

        await until(all_arrived)

    raws = [mail.raw for mail in simulator.mailbox.find()]
    for mail in mails:
        assert [raw for raw in raws if raw.endswith(mail.content)]


@pytest.mark.usefixtures("in_chunks")
async def test_refused_by_bdat(server: Postfix) -> None:
    """Some or all recipients may be refused when the content was written with the commands."""
    async with a_pool(a_relay(server.port)) as pool:
        for _ in range(3):
            some = await sent(pool, ANNA, "nobody@x.example", "b@x.example")
            none = await sent(pool, "nobody@x.example", "greylisted@x.example")

            assert some == [(Stage.DOT, 250), (Stage.RCPT, 550), (Stage.DOT, 250)]
            assert none == [(Stage.RCPT, 550), (Stage.RCPT, 450)]

    async def noted() -> bool:
        # Of the first mail in two chunks, and of three that no recipient wanted.
        return "bdat=4/7" in server.log.read_text()

    await until(noted)
    assert "connect from" in server.log.read_text()
