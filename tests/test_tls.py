"""TLS to a real RabbitMQ and a real PostgreSQL that accept nothing else, and its refusals."""

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path

import aiohttp
import pytest
import sqlalchemy as sa
import structlog
import trustme
from yarl import URL

from ops import ports
from ops.__main__ import main
from ops.broker import BrokerAddress, BrokerPorts
from ops.node import RabbitNode, RabbitPrograms
from ops.postgres import FAST, PostgresAccount, PostgresPrograms, PostgresServer
from services.classifier.service import MIGRATIONS
from shared.broker import Broker
from shared.config.url import check_broker, check_database, check_management
from shared.errors import Unavailable
from shared.storage.database import Database
from shared.topology import EVIDENCE, Owner
from tests.processes import started
from tests.waiting import until

pytestmark = [pytest.mark.rabbit, pytest.mark.postgres, pytest.mark.timeout(240)]

PATIENCE = 99.0  # seconds: a refusal that was tried again would exceed the limit of the test

RABBITMQ = """\
listeners.ssl.default = 127.0.0.1:{amqp}
management.ssl.ip = 127.0.0.1
management.ssl.port = {management}
"""
RABBITMQ_FILES = """\
{0}.cacertfile = {1}/ca.pem
{0}.certfile = {1}/server.pem
{0}.keyfile = {1}/server.key
{0}.verify = verify_peer
{0}.fail_if_no_peer_cert = true
"""


class TlsNode(RabbitNode):
    """A node with further lines in its configuration."""

    settings = ""

    def _write_files(self) -> None:
        super()._write_files()
        with (self._directory / "rabbitmq.conf").open("a") as configuration:
            configuration.write(self.settings)


@dataclass(frozen=True)
class Secured:
    """Two servers whose certificate is for localhost, and the files of their clients."""

    files: Path
    broker: URL
    management: URL
    database: URL

    def amqp(self, **files: str) -> str:
        """Return the broker's address; each file is named by its parameter."""
        return str(self.broker.with_query(self._paths(files)))

    def http(self, **files: str) -> str:
        """Return the address of the management API, as `amqp` does."""
        return str(self.management.with_query(self._paths(files)))

    def sql(self, mode: str = "verify-full", **files: str) -> str:
        """Return the address of the database, as `amqp` does."""
        return str(self.database.with_query({"sslmode": mode, **self._paths(files)}))

    def _paths(self, files: dict[str, str]) -> dict[str, str]:
        return {name: str(self.files / file) for name, file in files.items()}


BROKER_FILES = {"cafile": "ca.pem", "certfile": "client.pem", "keyfile": "client.key"}
DATABASE_FILES = {"sslrootcert": "ca.pem", "sslcert": "client.pem", "sslkey": "client.key"}


@pytest.fixture(scope="module")
def files() -> Iterator[Path]:
    """Make the certificates; PostgreSQL's user must get to those of the server."""
    folder = Path(tempfile.mkdtemp(prefix="postrider-tls-"))
    folder.chmod(0o755)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other.pem")
    for name, issued in {
        "server": authority.issue_cert("localhost"),
        "client": authority.issue_cert("client.example", common_name="postrider"),
    }.items():
        (folder / f"{name}.key").touch(mode=0o600)
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def node(files: Path, run_directory: Path) -> Iterator[tuple[URL, URL]]:
    """Start a RabbitMQ; the values are the URLs of AMQP and of the management API."""
    programs = RabbitPrograms.find()
    if programs is None:
        pytest.skip("a RabbitMQ in a container cannot read the certificates")
    amqp, management, *others = ports.unused(6)
    address = BrokerAddress(BrokerPorts(*others), secrets.token_hex(16))
    broker = TlsNode(run_directory / "rabbit-tls", address, programs)
    broker.settings = "".join(
        (
            RABBITMQ.format(amqp=amqp, management=management),
            *(RABBITMQ_FILES.format(each, files) for each in ("ssl_options", "management.ssl")),
        )
    )
    try:
        broker.start()
        url = URL(address.amqp_url()).with_scheme("amqps").with_host("localhost")
        yield url.with_port(amqp), URL(f"https://localhost:{management}")
    finally:
        broker.discard()


@pytest.fixture(scope="module")
def server(files: Path, run_directory: Path) -> Iterator[URL]:
    """Start a PostgreSQL; the value is its administrator's URL."""
    programs = PostgresPrograms.find()
    if programs is None:
        pytest.skip("a PostgreSQL in a container cannot read the certificates")
    logins = files / "pg_hba.conf"
    logins.write_text("hostssl all all all password clientcert=verify-ca\n")
    if programs.user is not None:
        shutil.copy(files / "server.key", files / "postgres.key")
        shutil.chown(files / "postgres.key", programs.user)
    key = files / ("server.key" if programs.user is None else "postgres.key")
    settings = {
        "hba_file": logins,
        "ssl": "on",
        "ssl_ca_file": files / "ca.pem",
        "ssl_cert_file": files / "server.pem",
        "ssl_key_file": key,
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    account = PostgresAccount(ports.unused(1)[0])
    server = PostgresServer(run_directory / "postgres-tls", account, programs, (*FAST, *options))
    server.start()
    yield URL(account.url()).with_host("localhost")
    server.discard()


@pytest.fixture
def secured(files: Path, node: tuple[URL, URL], server: URL) -> Secured:
    """Return the way to both servers."""
    return Secured(files, *node, server)


async def is_ready(port: int) -> bool:
    """Return whether a service has its broker and its database."""
    try:
        async with aiohttp.request("GET", f"http://127.0.0.1:{port}/readyz") as response:
            return response.status == HTTPStatus.OK
    except aiohttp.ClientError:
        return False


async def test_a_service_works_by_tls(
    secured: Secured, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commands of ops, and then a service, reach both servers with a client's certificate."""
    (port,) = ports.unused(1)
    monkeypatch.setenv("AMQP_URL", check_broker(secured.amqp(**BROKER_FILES)))
    monkeypatch.setenv("RABBITMQ_MANAGEMENT_URL", check_management(secured.http(**BROKER_FILES)))
    for owner in Owner:
        monkeypatch.setenv(f"{owner.upper()}_AMQP_PASSWORD", f"of-{owner}")
    for words in ("topology declare", "topology grant"):
        assert await asyncio.to_thread(main, words.split()) == 0
    assert "rights granted to gateway, sender" in capsys.readouterr().out
    own = URL(secured.amqp(**BROKER_FILES)).with_user("classifier").with_password("of-classifier")
    environment = {
        "PATH": os.defpath,
        "AMQP_URL": str(own),
        "DATABASE_URL": secured.sql(**DATABASE_FILES),
        "HEALTH_PORT": str(port),
    }

    async with started("-m", "services.classifier", env=environment):
        await until(partial(is_ready, port))
        async with Broker.connect(secured.amqp(**BROKER_FILES), "tests", 0) as broker:
            assert await broker.count_waiting(EVIDENCE) == 0


@pytest.mark.parametrize(
    ("host", "cafile"), [("localhost", "other.pem"), ("127.0.0.1", "ca.pem")], ids=["ca", "name"]
)
async def test_a_broker_by_wrong_tls_is_refused_at_once(
    secured: Secured, host: str, cafile: str
) -> None:
    """One try, one error that says why and what to look at."""
    url = URL(secured.amqp(**{**BROKER_FILES, "cafile": cafile})).with_host(host)
    with structlog.testing.capture_logs() as logs, pytest.raises(Unavailable) as caught:
        async with Broker.connect(str(url), "tests", PATIENCE):
            pass

    assert not logs
    assert f"{host}:{url.port}/%2F has no valid TLS: " in str(caught.value)
    assert "certificate verify failed" in str(caught.value)
    assert str(caught.value).endswith(
        "; check the host in AMQP_URL, and the authority that it trusts"
    )


async def test_a_broker_refuses_a_client_without_a_certificate(secured: Secured) -> None:
    """By an alert or by a reset, whichever comes first, so it is waited for like any outage."""
    with pytest.raises(Unavailable, match="; "):
        async with Broker.connect(secured.amqp(cafile="ca.pem"), "tests", 0):
            pass


@pytest.mark.parametrize(
    ("host", "cafile"), [("localhost", "other.pem"), ("127.0.0.1", "ca.pem")], ids=["ca", "name"]
)
def test_a_management_api_by_wrong_tls_is_refused_at_once(
    secured: Secured,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    host: str,
    cafile: str,
) -> None:
    """`ops topology grant` ends with one line, though it waits for one that is starting."""
    url = URL(secured.http(cafile=cafile)).with_host(host)
    for owner in Owner:
        monkeypatch.setenv(f"{owner.upper()}_AMQP_PASSWORD", f"of-{owner}")
    words = ["topology", "grant", "--wait", f"{PATIENCE:g}", "--management-url", str(url)]

    assert main([*words, "--amqp-url", secured.amqp(**BROKER_FILES)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"https://{host}:{url.port}/ has no valid TLS: ")
    assert "certificate verify failed" in line
    assert "in RABBITMQ_MANAGEMENT_URL" in line


async def test_a_database_by_tls(secured: Secured, tmp_path: Path) -> None:
    """The connection is encrypted, by each mode that asks for it, and by the older name `ssl`."""
    urls = [secured.sql(mode, **DATABASE_FILES) for mode in ("require", "verify-ca", "verify-full")]
    urls.append(urls[-1].replace("sslmode=", "ssl="))
    encrypted = sa.text("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    for url in urls:
        async with Database.open("classifier", check_database(url), tmp_path, MIGRATIONS) as opened:
            assert await opened.read(lambda connection: connection.scalar(encrypted))


@pytest.mark.parametrize(
    ("host", "given", "reason"),
    [
        ("localhost", {**DATABASE_FILES, "sslrootcert": "other.pem"}, "certificate verify failed"),
        ("127.0.0.1", DATABASE_FILES, "certificate verify failed: IP address mismatch"),
        ("localhost", {"sslrootcert": "ca.pem"}, "requires a valid client certificate"),
    ],
    ids=["authority", "name", "no certificate of ours"],
)
async def test_a_database_by_wrong_tls_is_refused_at_once(
    secured: Secured, tmp_path: Path, host: str, given: dict[str, str], reason: str
) -> None:
    """One try, one error that says why and what to look at."""
    url = str(URL(secured.sql(**given)).with_host(host))
    with structlog.testing.capture_logs() as logs, pytest.raises(OSError, match=reason) as caught:
        async with Database.open("classifier", url, tmp_path, MIGRATIONS):
            pass

    assert not logs
    assert str(caught.value).startswith(f"the database of classifier, {secured.database.scheme}")
    assert "; check " in str(caught.value)
    assert "in DATABASE_URL" in str(caught.value)
