"""A certificate authority, a receiver, and a requester that trusts it."""

from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path

import pytest
import trustme

from services.webhooks.requests import WebhookRequester
from tests.webhooks.receivers import LOOPBACK, Names, Receiver, receiving

ALLOWED = (ip_network(f"{LOOPBACK}/32"),)
TRY_SECONDS = 60.0  # in tests nothing depends on how fast it is


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    """Write the authority's certificate into a file."""
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
async def receiver(authority: trustme.CA) -> AsyncIterator[Receiver]:
    """Run a receiver."""
    async with receiving(authority) as running:
        yield running


@pytest.fixture
async def requester(ca_file: Path) -> AsyncIterator[WebhookRequester]:
    """Open a requester for which every name is this host."""
    async with WebhookRequester.opened(TRY_SECONDS, ALLOWED, ca_file, Names(LOOPBACK)) as opened:
        yield opened
