"""A requester that trusts the authority of the tests."""

from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path

import pytest

from services.webhooks.requests import WebhookRequester
from tests.webhooks.receivers import LOOPBACK, Names

ALLOWED = (ip_network(f"{LOOPBACK}/32"),)
TRY_SECONDS = 60.0  # in tests nothing depends on how fast it is


@pytest.fixture
async def requester(ca_file: Path) -> AsyncIterator[WebhookRequester]:
    """Open a requester for which every name is this host."""
    async with WebhookRequester.opened(TRY_SECONDS, ALLOWED, ca_file, Names(LOOPBACK)) as opened:
        yield opened
