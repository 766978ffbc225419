"""Databases are opened, migrated and written on each PostgreSQL in a container."""

import pytest

from tests.shared.storage.test_database import *  # noqa: F403 -- the same tests, on the fixtures of this folder

pytestmark = pytest.mark.container
