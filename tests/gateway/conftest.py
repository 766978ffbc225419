"""Fixtures: a running gateway, and HTTP."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from tests.gateway.api_client import ApiClient, declare, running, settings


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a session whose requests end within 30 s."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
        yield session


@pytest.fixture
async def api(vhost: str, tmp_path: Path, http: aiohttp.ClientSession) -> AsyncIterator[ApiClient]:
    """Run a gateway on a broker with its queues; yield a registered client."""
    await declare(vhost)
    async with running(settings(vhost, tmp_path), http) as client:
        yield client
