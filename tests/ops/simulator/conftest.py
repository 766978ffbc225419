"""A simulator for each test, with a clock that only the test moves."""

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import trustme

from ops.simulator.door import Credentials
from ops.simulator.settings import Settings
from ops.simulator.simulator import Simulator


@dataclass
class Clock:
    """Seconds, moved by hand."""

    now: float = 1000.0

    def __call__(self) -> float:
        """Read it."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return the clock of `simulator`."""
    return Clock()


@pytest.fixture
async def simulator(clock: Clock) -> AsyncIterator[Simulator]:
    """Open a simulator on free ports that lets anybody log in."""
    async with Simulator(clock=clock) as opened:
        yield opened


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Return who has signed the certificate of `secure`."""
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Return a client's context that trusts `authority`."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
async def secure(authority: trustme.CA) -> AsyncIterator[Simulator]:
    """Open a simulator with TLS on both ports and one user, anna with the password pw."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    settings = Settings(tls=context, tls_port=0, credentials=Credentials("anna", "pw"))
    async with Simulator(settings) as opened:
        yield opened
