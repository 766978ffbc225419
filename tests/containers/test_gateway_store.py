"""The gateway's state on PostgreSQL 17."""

import pytest

from tests.gateway.clients.test_store import *  # noqa: F403 -- the same tests, on the fixtures of this folder

pytestmark = pytest.mark.container
