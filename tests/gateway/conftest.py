"""Fixtures: a running gateway, and HTTP."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from services.gateway import service
from tests.gateway.api_client import ApiClient, declare, settings


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a session whose requests end within 30 s."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
        yield session


@pytest.fixture
async def api(vhost: str, tmp_path: Path, http: aiohttp.ClientSession) -> AsyncIterator[ApiClient]:
    """Run a gateway on a broker with its queues; yield a registered client."""
    await declare(vhost)
    async with service.serving(settings(vhost, tmp_path), asyncio.Event()) as port:
        yield await ApiClient(http, f"http://127.0.0.1:{port}").registered("shop")
