"""Fixtures: a simulator with TLS and a login, and its certificate authority."""

import ssl
from collections.abc import AsyncIterator

import pytest
import trustme

from ops.simulator.simulator import Simulator, SimulatorSettings
from ops.simulator.smtp import Credentials


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """Make the certificate authority of `secure`."""
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Return a client's TLS context that trusts `authority`."""
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
    settings = SimulatorSettings(tls=context, tls_port=0, credentials=Credentials("anna", "pw"))
    async with Simulator(settings) as opened:
        yield opened
