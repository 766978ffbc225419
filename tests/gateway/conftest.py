"""A running gateway for each test that asks for one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from services.gateway import service
from tests.gateway.api_client import ApiClient, declare, settings


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """Give a session whose requests end within half a minute."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
        yield session


@pytest.fixture
async def api(vhost: str, tmp_path: Path, http: aiohttp.ClientSession) -> AsyncIterator[ApiClient]:
    """Run a gateway in this process, on a broker that has its queues, with one client."""
    await declare(vhost)
    async with service.serving(settings(vhost, tmp_path), asyncio.Event()) as port:
        yield await ApiClient(http, f"http://127.0.0.1:{port}").registered("shop")
