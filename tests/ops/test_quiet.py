"""A command shows that it waits for a server, and nothing else of the log of its parts."""

import asyncio

import pytest
import structlog
from yarl import URL

from ops import ports
from ops.__main__ import main
from ops.quiet import quiet
from tests.proxy import Proxy
from tests.waiting import until


def test_nothing_else_is_logged(capfd: pytest.CaptureFixture[str]) -> None:
    """Errors that a person must know are raised or returned."""
    with quiet():
        structlog.get_logger("tests").error("connection lost", reason="x")

    assert capfd.readouterr() == ("", "")


@pytest.mark.rabbit
async def test_what_is_waited_for_is_told(vhost: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A minute of silence is not to be told from a command that hangs."""
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
