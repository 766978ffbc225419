"""Tests of opening a connection: greeting, TLS, login, and servers that refuse them."""

import ssl
from base64 import b64decode
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from ops.simulator.behaviour import Behaviour, StageRefusals
from ops.simulator.simulator import Simulator, SimulatorSettings
from services.sender.smtp.relay import Auth, Login, Timeouts, Tls
from shared.contracts import Stage
from tests.sender.mails import ANNA, a_mail, a_pool, a_relay, ends, of, sent
from tests.sender.scripted import AND_CLOSE, CUT, scripted

DELIVERED = [(Stage.DOT, 250)]
STAGES = ["mail", "rcpt", "data", "dot"]
BRIEF = Timeouts(connect=2, command=2, dot=2)


async def test_no_ehlo(simulator: Simulator) -> None:
    """A server without EHLO is greeted with HELO."""
    simulator.behaviour = Behaviour(refuse=StageRefusals(ehlo="502 5.5.1 Unknown"))

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        assert await sent(pool) == DELIVERED


async def test_no_ehlo_and_closed(simulator: Simulator) -> None:
    """A server that refuses EHLO and closes is greeted with HELO over another connection."""
    simulator.behaviour = Behaviour(refuse=StageRefusals(ehlo="502 5.5.1 Unknown", closes=True))

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        assert [await sent(pool) for _ in range(2)] == [DELIVERED] * 2

    assert simulator.traffic.total == 2


@pytest.mark.parametrize(
    ("refuse", "end"),
    [
        (StageRefusals(connect="554 5.7.1 Blocked"), (Stage.CONNECT, 554)),
        (StageRefusals(connect="421 4.3.2 Busy"), (Stage.CONNECT, 421)),
        (StageRefusals(ehlo="421 4.3.2 Busy"), (Stage.EHLO, 421)),
        (StageRefusals(ehlo="550 5.7.1 No", helo="550 5.7.1 No"), (Stage.EHLO, 550)),
        (StageRefusals(auth="535 5.7.8 Wrong"), (Stage.AUTH, 535)),
        (StageRefusals(auth="535 5.7.8 Wrong", closes=True), (Stage.AUTH, 535)),
        (StageRefusals(ehlo="501 5.5.4 No", closes=True), (Stage.EHLO, 501)),
        (StageRefusals(auth="454 4.7.0 Later"), (Stage.AUTH, 454)),
    ],
)
async def test_refused_before_mail(
    simulator: Simulator, refuse: StageRefusals, end: tuple[Stage, int]
) -> None:
    """A refusal before MAIL is reported with its stage, and the connection closed."""
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
    """One encrypted and authenticated connection serves many mails, in either TLS mode."""
    port = secure.smtp_port if tls is Tls.STARTTLS else secure.tls_port
    assert port is not None
    secure.behaviour = Behaviour(require_tls=tls is Tls.STARTTLS, require_auth=True)

    async with a_pool(a_relay(port, tls, trusting, Login("anna", "pw"))) as pool:
        assert [await sent(pool) for _ in range(5)] == [DELIVERED] * 5

    (visit,) = secure.traffic.sessions
    assert (visit.encrypted, visit.authenticated, visit.mails) == (True, True, 5)
    assert secure.traffic.commands["AUTH"] == 1


async def test_starttls_not_offered(simulator: Simulator, trusting: ssl.SSLContext) -> None:
    """Without STARTTLS neither login nor mail is sent in clear text."""
    relay = a_relay(simulator.smtp_port, Tls.STARTTLS, trusting, Login("anna", "pw"))

    async with a_pool(relay) as pool:
        assert await sent(pool) == [(Stage.TLS, 0)]

    assert set(simulator.traffic.commands) <= {"EHLO", "QUIT"}


@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.IMPLICIT])
async def test_certificate(secure: Simulator, tls: Tls) -> None:
    """A certificate of an unknown authority ends the session before the login."""
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
        Simulator(SimulatorSettings(tls=context)) as other,
        a_pool(a_relay(other.smtp_port, Tls.STARTTLS, trusting)) as pool,
    ):
        assert await sent(pool) == [(Stage.TLS, 0)]


async def test_introduction() -> None:
    """Without a configured name EHLO has our address."""
    async with scripted({"EHLO": b"250 OK\r\n"}) as server, a_pool(a_relay(server.port)) as pool:
        assert await sent(pool) == DELIVERED

    assert server.lines[0] == b"EHLO [127.0.0.1]\r\n"


async def test_an_unreachable_server() -> None:
    """A name that does not resolve and a closed port are reported as replies, not raised."""
    async with scripted({}) as server:
        port = server.port
    async with a_pool(a_relay(port)) as pool:
        assert await sent(pool) == [(Stage.CONNECT, 0)]


async def test_token(tmp_path: Path) -> None:
    """A token is read at each login, because its file is renewed."""
    path = tmp_path / "token"
    relay_login = Login("anna", token_file=path)
    offered = {"EHLO": b"250-x\r\n250 AUTH XOAUTH2\r\n", "AUTH": b"235 OK\r\n"}
    async with (
        scripted(offered) as server,
        a_pool(a_relay(server.port, login=relay_login), mails=1) as pool,
    ):
        without = await sent(pool)
        for token in ("first", "second"):
            path.write_text(f"{token}\n")
            assert await sent(pool) == DELIVERED
    lines = [line.split()[-1] for line in server.lines if line.startswith(b"AUTH")]

    assert without == [(Stage.AUTH, 0)]
    assert [b64decode(each) for each in lines] == [
        b"user=anna\x01auth=Bearer first\x01\x01",
        b"user=anna\x01auth=Bearer second\x01\x01",
    ]


async def test_login_not_offered(secure: Simulator, trusting: ssl.SSLContext) -> None:
    """A login that the server does not offer is not replaced by another one."""
    login = Login("anna", "pw", Auth.CRAM_MD5)
    relay = a_relay(secure.smtp_port, Tls.STARTTLS, trusting, login)

    async with a_pool(relay) as pool:
        assert await sent(pool) == [(Stage.AUTH, 0)]

    assert secure.traffic.commands["AUTH"] == 0


@pytest.mark.parametrize("auth", [Auth.LOGIN, Auth.PLAIN])
async def test_login(secure: Simulator, trusting: ssl.SSLContext, auth: Auth) -> None:
    """The configured method is used to log in, as the server leads the exchange."""
    relay = a_relay(secure.smtp_port, Tls.STARTTLS, trusting, Login("anna", "pw", auth))

    async with a_pool(relay) as pool:
        assert await sent(pool) == DELIVERED

    (visit,) = secure.traffic.sessions
    assert visit.authenticated


NO_EHLO = b"501 5.5.4 Not like this\r\n" + AND_CLOSE
UNKNOWN = b"502 5.5.1 What is EHLO\r\n" + AND_CLOSE


@pytest.mark.parametrize("refusal", [NO_EHLO, UNKNOWN, NO_EHLO.replace(b"\r\n", b"")])
async def test_closed_after_ehlo(refusal: bytes) -> None:
    """A server that refuses EHLO and then closes gets HELO over a second connection."""
    async with scripted({"EHLO": refusal}) as server, a_pool(a_relay(server.port)) as pool:
        assert [await sent(pool) for _ in range(2)] == [DELIVERED] * 2

    assert (server.heard["EHLO"], server.heard["HELO"], server.heard["CONNECT"]) == (1, 1, 2)


@pytest.mark.parametrize(
    ("helo", "told"),
    [
        (CUT, "5.5.4 Not like this"),
        (AND_CLOSE, "5.5.4 Not like this"),
        (b"501 5.5.4 Nor like that\r\n" + AND_CLOSE, "5.5.4 Nor like that"),
        (b"501 5.5.4 Nor like that\r\n", "5.5.4 Nor like that"),
    ],
)
async def test_closed_after_both(helo: bytes, told: str) -> None:
    """When HELO does not help either, the last reply is reported."""
    script = {"EHLO": NO_EHLO, "HELO": helo}
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        reply = of(await pool.send(a_mail()))[ANNA]

    assert (reply.stage, reply.code, reply.text) == (Stage.EHLO, 501, told)
    assert server.heard["CONNECT"] == 2


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        (b"550 5.7.1 Blocked\r\n" + AND_CLOSE, 550),
        (b"550-5.7.1 Blocked\r\n" + AND_CLOSE, 550),
        (b"450 4.7.1 Later\r\n" + AND_CLOSE, 450),
        (b"421 4.3.2 Busy\r\n" + AND_CLOSE, 421),
    ],
)
async def test_refused_and_closed(refusal: bytes, code: int) -> None:
    """A server that refuses us is not asked again at once, and its reply is reported."""
    async with scripted({"EHLO": refusal}) as server, a_pool(a_relay(server.port)) as pool:
        assert await sent(pool) == [(Stage.EHLO, code)]

    assert server.heard["CONNECT"] == 1


async def test_ehlo_is_needed(trusting: ssl.SSLContext) -> None:
    """Where STARTTLS or a login is needed HELO is not tried: the refusal is reported."""
    async with scripted({"EHLO": b"502 5.5.1 What is EHLO\r\n"}) as server:
        for relay in (
            a_relay(server.port, Tls.STARTTLS, trusting),
            a_relay(server.port, login=Login("anna", "pw")),
        ):
            async with a_pool(relay) as pool:
                assert await sent(pool) == [(Stage.EHLO, 502)]

    assert server.heard["HELO"] == 0


@pytest.mark.parametrize(
    ("verb", "said", "end"),
    [
        ("CONNECT", b"554 5.7.1 Blocked\r\n", (Stage.CONNECT, 554)),
        ("CONNECT", b"554 5.7.1 Blocked", (Stage.CONNECT, 554)),
        ("CONNECT", b"554-5.7.1 Blocked\r\nsee our page\r\n", (Stage.CONNECT, 554)),
        ("STARTTLS", b"454 4.7.0 Not now\r\n", (Stage.TLS, 454)),
        ("STARTTLS", b"554 5.7.3 Never", (Stage.TLS, 554)),
    ],
)
async def test_said_before_the_end(
    verb: str, said: bytes, end: tuple[Stage, int], trusting: ssl.SSLContext
) -> None:
    """The reply before a close is reported, not the close."""
    script = {"EHLO": b"250-x\r\n250 STARTTLS\r\n", verb: said + AND_CLOSE}
    async with (
        scripted(script) as server,
        a_pool(a_relay(server.port, Tls.STARTTLS, trusting)) as pool,
    ):
        assert await sent(pool) == [end]

    assert server.heard["CONNECT"] == 1


async def test_replies_too_many() -> None:
    """A reply without a command is not read as the reply to the next command."""
    script = {"EHLO": b"250 OK\r\n250 OK\r\n", "MAIL": b"550 5.7.1 No\r\n"}
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        assert await sent(pool) == [(Stage.EHLO, 0)]

    assert server.heard["MAIL"] == 0


@pytest.mark.parametrize(
    "ehlo",
    [
        b"\r\n250-x\r\n\r\n250-SIZE 9999\r\n250 PIPELINING\r\n\r\n",
        b"250-x\r\nwelcome\r\n250-SIZE 9999\r\n250-" + b"x" * 9000 + b"\r\n250 PIPELINING\r\n",
        b"250-x\r\n250-SIZE 9999\r\n250-PIPELINING\r\n" + b"250-X-MORE\r\n" * 9000 + b"250 X\r\n",
    ],
)
async def test_greetings_out_of_form(ehlo: bytes) -> None:
    """Extensions are read from a reply that has malformed lines."""
    script = {"CONNECT": b"220-x\r\n\r\n220 y\r\n \r\n", "EHLO": ehlo}
    async with scripted(script) as server, a_pool(a_relay(server.port)) as pool:
        assert await sent(pool) == DELIVERED

    assert b" SIZE=" in server.lines[1]


async def test_broken_starttls(trusting: ssl.SSLContext) -> None:
    """A server that continues in clear text after STARTTLS gets neither login nor mail."""
    script = {
        "EHLO": b"250-x\r\n250 STARTTLS\r\n",
        "STARTTLS": b"220 Go ahead\r\n250 in the clear\r\n",
    }
    async with scripted(script) as server:
        relay = a_relay(server.port, Tls.STARTTLS, trusting, Login("anna", "pw"), BRIEF)
        async with a_pool(relay) as pool:
            assert await sent(pool) == [(Stage.TLS, 0)]

    assert server.heard["AUTH"] == server.heard["MAIL"] == 0


async def test_expired_certificate(authority: trustme.CA, trusting: ssl.SSLContext) -> None:
    """An expired certificate is refused."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    past = datetime(2020, 1, 1, tzinfo=UTC)
    authority.issue_cert("127.0.0.1", not_after=past).configure_cert(context)

    async with (
        Simulator(SimulatorSettings(tls=context)) as other,
        a_pool(a_relay(other.smtp_port, Tls.STARTTLS, trusting)) as pool,
    ):
        assert await sent(pool) == [(Stage.TLS, 0)]


async def test_slow_greeting(simulator: Simulator) -> None:
    """The greeting has another limit than TCP: a server may be slow (RFC 5321 4.5.3.2.1)."""
    simulator.behaviour = Behaviour(latency_ms=1500)
    patience = Timeouts(connect=1, command=60)

    async with a_pool(a_relay(simulator.smtp_port, timeouts=patience)) as pool:
        assert await sent(pool) == DELIVERED
