"""The gateway's stores on each PostgreSQL in a container."""

import pytest

from tests.gateway.clients.conftest import *  # noqa: F403 -- the same fixtures, on those of this folder
from tests.gateway.clients.test_idempotency_store import *  # noqa: F403 -- the same tests, on the fixtures of this folder
from tests.gateway.clients.test_store import *  # noqa: F403 -- the same tests, on the fixtures of this folder
from tests.gateway.clients.test_tables import *  # noqa: F403 -- the same tests, on the fixtures of this folder

pytestmark = pytest.mark.container
