"""The check of the settings of all services, and the record of the stack."""

import io
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from ops.credentials import SecretFile
from ops.process import PidFiles
from ops.stack import supervisor
from ops.stack.child import ServiceLogs, ServiceProgram
from ops.stack.settings import StackError, StackSettings
from ops.stack.supervisor import Supervisor, client_key
from services.otp.config import OtpSettings
from shared.errors import ConfigError

KEYS = OtpSettings.model_fields["otp_key"].description


def program(name: str, **environ: str) -> ServiceProgram:
    """Return a service with these variables alone."""
    return ServiceProgram(name, (), {"AMQP_URL": "amqp://127.0.0.1/", **environ}, "")


def test_good_settings_are_passed() -> None:
    """Correct settings pass."""
    supervisor.check([program("classifier", LOG_LEVEL="INFO")])


def test_mistakes_of_all_are_reported_by_their_service() -> None:
    """All mistakes of all services are reported together."""
    with pytest.raises(ConfigError) as caught:
        supervisor.check(
            [program("classifier", CLASSIFIER_MODE="x"), program("otp", OTP_TRISE="3")]
        )

    assert str(caught.value).splitlines() == [
        "classifier: CLASSIFIER_MODE: must be 'counts' or 'evidence'",
        "otp: OTP_TRISE: there is no such setting; perhaps OTP_TRIES?",
        f"otp: OTP_KEY: is required: {KEYS}",
        f"otp: SEALING_KEY: is required: {KEYS}",
    ]


def test_a_mistake_of_all_is_one_line() -> None:
    """A setting that all services have is named once; one that some have, with these."""
    short = {"LOG_LEVEL": "loud", "LINK_KEY": "abc"}
    scheduler = program("scheduler", SCHEDULER_PUBLIC_URL="https://mail.example", **short)
    secrets = {"GATEWAY_KEY_SECRET": "5d1f" * 16, "GATEWAY_ADMIN_TOKEN": "x" * 32}
    with pytest.raises(ConfigError) as caught:
        supervisor.check([scheduler, program("gateway", **secrets, **short)])

    level, key = str(caught.value).splitlines()
    assert level.startswith("LOG_LEVEL: must be ")
    assert key.startswith("LINK_KEY: must be 64 hex digits; ")

    with pytest.raises(ConfigError, match=r"(?m)^scheduler, gateway: LINK_KEY: must be 64"):
        supervisor.check([scheduler, program("gateway", **secrets, **short), program("classifier")])


async def test_settings_are_checked_before_ports(tmp_path: Path) -> None:
    """A port that is taken hides no mistake."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        environ = {"MAILBOX_PORT": str(server.getsockname()[1]), "RUN_DIR": str(tmp_path)}
        settings, pids = StackSettings.load(environ), PidFiles(tmp_path / "pids")
        logs = ServiceLogs(tmp_path, io.StringIO())
        wrong = Supervisor(settings, {"LOG_LEVEL": "loud"}, logs, pids)
        with pytest.raises(ConfigError, match=r"^LOG_LEVEL: "):
            await wrong.run()
        with pytest.raises(StackError, match="is taken by"):
            await Supervisor(settings, {}, logs, pids).run()


async def test_a_database_that_is_away_is_one_line() -> None:
    """Nothing is started without it, and the line says what to do, without the password."""
    url = "postgresql+asyncpg://ada:hunter2@127.0.0.1:1/x"  # RFC 6335 6: nobody runs port 1
    services = supervisor.check([program("classifier", DATABASE_URL=url)])
    with pytest.raises(StackError) as caught:
        await supervisor.check_databases(services)

    (line,) = str(caught.value).splitlines()
    assert "ada:***@127.0.0.1:1/x: " in line
    assert line.endswith("; start it there, or set DATABASE_URL to where it listens")


@pytest.mark.postgres
async def test_a_database_that_is_there_is_passed(postgres_url: str) -> None:
    """A server that takes writes is no error."""
    await supervisor.check_databases(
        supervisor.check([program("classifier", DATABASE_URL=postgres_url)])
    )


class Gateway:
    """The part of the gateway that registers clients, with a new key each time."""

    def __init__(self) -> None:
        self.registered = False
        self.given = 0
        self.app = web.Application()
        self.app.router.add_post("/v1/clients", self._register)
        self.app.router.add_delete("/v1/clients/local", self._revoke)

    async def _register(self, request: web.Request) -> web.Response:
        if request.headers["Authorization"] != "Bearer admin":
            return web.Response(status=401)
        if self.registered:
            return web.Response(status=409)
        self.registered = True
        self.given += 1
        return web.json_response({"id": "local", "api_key": f"key {self.given}"}, status=201)

    async def _revoke(self, _: web.Request) -> web.Response:
        self.registered = False
        return web.Response(status=204)


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """Serve a gateway without clients."""
    async with TestServer(Gateway().app) as server:
        yield str(server.make_url("/"))


async def test_a_key_is_found_again(url: str, tmp_path: Path) -> None:
    """The client's key stays the same after a restart."""
    first = await client_key(url, "admin", SecretFile(tmp_path / "secrets.json", {}))
    second = await client_key(url, "admin", SecretFile(tmp_path / "secrets.json", {}))

    assert (first, second) == ("key 1", "key 1")


async def test_a_lost_key_is_replaced(url: str, tmp_path: Path) -> None:
    """A lost key is replaced, since the gateway shows a key once only."""
    await client_key(url, "admin", SecretFile(tmp_path / "secrets.json", {}))

    assert await client_key(url, "admin", SecretFile(tmp_path / "others.json", {})) == "key 2"


async def test_a_refusal_is_one_clear_line(url: str, tmp_path: Path) -> None:
    """A wrong token is an error in one line."""
    with pytest.raises(StackError, match="the gateway does not register a client: 401"):
        await client_key(url, "nobody", SecretFile(tmp_path / "secrets.json", {}))
