"""Fixtures: a certificate, and a submission door."""

import ssl
from collections.abc import AsyncIterator

import aiohttp
import pytest
import trustme

from tests.inbound.doors import Door, opened


@pytest.fixture
def certified(authority: trustme.CA) -> ssl.SSLContext:
    """Return a server's TLS context with a certificate for 127.0.0.1."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
async def door(certified: ssl.SSLContext, trusting: ssl.SSLContext) -> AsyncIterator[Door]:
    """Open a submission door."""
    async with opened(certified, trusting) as made:
        yield made


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a session whose requests end within 30 s."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
        yield session
