"""`ops forget` on a real broker."""

import argparse
import asyncio

import pytest

from ops import forget, topology
from shared.topology import LEDGER_COMMANDS, OTP_COMMANDS, SENDER_ADDRESSES
from tests.tap import depth

pytestmark = pytest.mark.rabbit


async def run(url: str, email: str) -> int:
    """Run the command."""
    arguments = argparse.Namespace(amqp_url=url, email=email)
    return await asyncio.to_thread(forget.run, arguments)


async def test_each_service_is_asked(vhost: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The request is kept for each service that knows addresses, and the command says for what."""
    await topology.declare(vhost)

    assert await run(vhost, "Ada@one.example") == 0
    for queue in (LEDGER_COMMANDS, SENDER_ADDRESSES, OTP_COMMANDS):
        assert await depth(vhost, queue) == 1
    assert "the broker keeps the request" in capsys.readouterr().out


async def test_mistakes(vhost: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong address, or a broker without the queues, is one line and an exit code."""
    assert await run(vhost, "ada") == 1
    assert await run(vhost, "ada@one.example") == 1
    assert len(capsys.readouterr().err.splitlines()) == 2
