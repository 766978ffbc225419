"""Tests of how a connection is opened: greeting, TLS, login, and servers that want none of it."""

import ssl

import pytest
import trustme

from ops.simulator.behaviour import Behaviour, Refusals
from ops.simulator.settings import Settings
from ops.simulator.simulator import Simulator
from services.sender.relay import Login, Patience, Tls
from shared.contracts import Stage
from tests.sender.mails import ANNA, a_mail, a_pool, a_relay, ends, of, sent
from tests.sender.scripted import scripted

DELIVERED = [(Stage.DOT, 250)]
STAGES = ["mail", "rcpt", "data", "dot"]
BRIEF = Patience(connect=0.3, command=0.3, dot=0.3)


async def test_no_ehlo(simulator: Simulator) -> None:
    """A server without EHLO is greeted with HELO."""
    simulator.behaviour = Behaviour(refuse=Refusals(ehlo="502 5.5.1 Unknown"))

    async with a_pool(a_relay(simulator.smtp_port)) as pool:
        assert await sent(pool) == DELIVERED


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


async def test_nobody_there() -> None:
    """A name that does not resolve, a port that is closed: told, not raised."""
    async with scripted({}) as server:
        port = server.port
    async with a_pool(a_relay(port)) as pool:
        assert await sent(pool) == [(Stage.CONNECT, 0)]
