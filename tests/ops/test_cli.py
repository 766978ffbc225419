"""The common parts of the commands: addresses and output."""

import asyncio
import json
from pathlib import Path

import pytest
import structlog
from yarl import URL

from ops import cli, ports
from ops.__main__ import main
from ops.broker import BrokerError
from ops.broker import RabbitServer as Node
from ops.cli import quiet
from shared.topology import Owner
from tests.proxy import Proxy
from tests.waiting import until

URLS = {"amqp_url": "amqp://stack/", "management_url": "http://stack/"}


def test_nothing_else_is_logged(capfd: pytest.CaptureFixture[str]) -> None:
    """The log of a command's parts is not shown."""
    with quiet():
        structlog.get_logger("tests").error("connection lost", reason="x")

    assert capfd.readouterr() == ("", "")


@pytest.mark.rabbit
async def test_what_is_waited_for_is_reported(
    vhost: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A command that waits for a server says so."""
    (port,) = ports.unused(1)
    url = URL(vhost)
    where = str(url.with_port(port))
    declaring = asyncio.create_task(
        asyncio.to_thread(main, ["topology", "declare", "--amqp-url", where])
    )

    lines: list[str] = []

    async def told() -> bool:
        lines.extend(capfd.readouterr().err.splitlines())
        return bool(lines)

    await until(told)
    assert lines[0].startswith(f"waiting for the broker at amqp://{url.user}:***@127.0.0.1:{port}/")
    assert lines[0].endswith("; start it there, or set AMQP_URL to where it listens")
    async with Proxy.to(url.port or 0, port=port):
        assert await declaring == 0


@pytest.fixture
def stack(tmp_path: Path) -> dict[str, str]:
    """Write the record of a running stack, and return the environment that finds it."""
    (tmp_path / "stack.json").write_text(json.dumps(URLS))
    return {"RUN_DIR": str(tmp_path)}


def test_the_nearest_name_counts(stack: dict[str, str]) -> None:
    """A flag takes precedence over a variable, a variable over the running stack."""
    named = stack | {"AMQP_URL": "amqp://v/", "RABBITMQ_MANAGEMENT_URL": "http://v/"}

    assert cli.find_amqp_url("amqp://f/", named) == "amqp://f/"
    assert cli.find_amqp_url(None, named) == "amqp://v/"
    assert cli.find_amqp_url(None, stack) == "amqp://stack/"
    assert cli.find_management_url("http://f/", named) == "http://f/"
    assert cli.find_management_url(None, named) == "http://v/"
    assert cli.find_management_url(None, stack) == "http://stack/"


def test_a_stack_on_a_given_broker_knows_no_management_address(tmp_path: Path) -> None:
    """Without a known management API its address must be given."""
    (tmp_path / "stack.json").write_text('{"amqp_url": "amqp://h/", "management_url": null}')

    with pytest.raises(BrokerError, match="no management API: give --management-url"):
        cli.find_management_url(None, {"RUN_DIR": str(tmp_path)})


@pytest.mark.rabbit
def test_the_running_stack_is_enough(
    rabbit: Node, vhost: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With a running stack no address is needed."""
    where = {"amqp_url": vhost, "management_url": rabbit.address.management_url}
    (tmp_path / "stack.json").write_text(json.dumps(where))
    monkeypatch.setenv("RUN_DIR", str(tmp_path))
    for owner in Owner:
        monkeypatch.setenv(f"{owner.upper()}_AMQP_PASSWORD", "secret" * 6)

    assert [main(["topology", act]) for act in ("declare", "grant")] == [0, 0]


@pytest.mark.parametrize("action", ["declare", "grant"])
def test_an_address_that_is_none_is_reported(
    action: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A wrong address is reported with its flag or variable, and exit code 2."""
    monkeypatch.setenv("AMQP_URL", "http://hunter2/")

    codes = [main(["topology", action, *words]) for words in (["--amqp-url", "amqp://h:x"], [])]

    assert codes == [2, 2]
    printed = capsys.readouterr().err
    assert "--amqp-url: the host or the port" in printed
    assert "AMQP_URL: must begin with amqp:// or amqps://" in printed
    assert "hunter2" not in printed
