"""The three routes for an orchestrator."""

import socket
from collections.abc import Mapping

import aiohttp
import pytest

from shared.runtime import health, metrics


async def yes() -> bool:
    """Be ready."""
    return True


async def no() -> bool:
    """Be not ready."""
    return False


async def get(checks: Mapping[str, health.Check], path: str) -> tuple[int, str]:
    """Ask an endpoint with `checks` for `path`."""
    async with (
        health.endpoint("127.0.0.1", 0, checks) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session,
        session.get(path) as response,
    ):
        return response.status, await response.text()


async def test_alive_is_not_ready() -> None:
    """A process whose broker is away is alive, though not ready."""
    assert await get({"broker": no}, "/healthz") == (200, '{"status": "ok"}')
    assert await get({"broker": no}, "/readyz") == (
        503,
        '{"status": "not ready", "checks": {"broker": false}}',
    )


async def test_ready_means_every_check() -> None:
    """A service is not ready if one check fails, and the answer names it."""
    assert await get({"broker": yes, "store": yes}, "/readyz") == (
        200,
        '{"status": "ok", "checks": {"broker": true, "store": true}}',
    )
    assert await get({"broker": yes, "store": no}, "/readyz") == (
        503,
        '{"status": "not ready", "checks": {"broker": true, "store": false}}',
    )


async def test_metrics_are_in_prometheus_format() -> None:
    """The metrics of the consumer can be scraped."""
    metrics.DELIVERIES.labels("demo.queue", "done").inc()

    status, text = await get({}, "/metrics")

    assert status == 200
    assert 'postrider_deliveries_total{end="done",queue="demo.queue"} 1.0' in text


async def test_nothing_else_is_served() -> None:
    """There is no fourth route."""
    assert (await get({}, "/"))[0] == 404


async def test_the_port_is_free_again() -> None:
    """After the block nothing listens on the port."""
    async with health.endpoint("127.0.0.1", 0, {}) as port:
        pass

    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port), 1):
        pass


async def test_a_port_that_is_taken_is_an_os_error() -> None:
    """A port in use raises OSError."""
    async with health.endpoint("127.0.0.1", 0, {}) as port:
        with pytest.raises(OSError, match=f"^127.0.0.1:{port} .+: Address already in use$"):
            async with health.endpoint("127.0.0.1", port, {}):
                pass
