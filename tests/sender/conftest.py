"""A simulator and claims for each test, and a simulator with TLS and a login."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import trustme
import uvloop

from ops.simulator.door import Credentials
from ops.simulator.settings import Settings
from ops.simulator.simulator import Simulator
from services.sender.service import MIGRATIONS
from services.sender.store import ClaimStore
from shared.database import Database


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """Open a simulator on free ports that lets anybody log in."""
    async with Simulator() as opened:
        yield opened


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """Open the database of one test."""
    async with Database.open("sender", None, tmp_path, MIGRATIONS) as opened:
        yield opened


@pytest.fixture
def claims(database: Database) -> ClaimStore:
    """Give the claims of one sender."""
    return ClaimStore(database)


@pytest.fixture
def of_the_dead(database: Database) -> ClaimStore:
    """Give the claims of a sender that dies at once: it holds none for any time."""
    return ClaimStore(database, lease=0)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Make who has signed the certificate of `secure`."""
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Give a client's context that trusts `authority`."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
async def secure(authority: trustme.CA) -> AsyncIterator[Simulator]:
    """Open a simulator with TLS on both ports and one user, anna with the password pw.

    Its certificate is for 127.0.0.1 only.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    settings = Settings(tls=context, tls_port=0, credentials=Credentials("anna", "pw"))
    async with Simulator(settings) as opened:
        yield opened


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run the tests on the loop that the service runs on: transports differ in how they fail."""
    return {"uvloop": uvloop.new_event_loop}
