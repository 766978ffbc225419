"""Consuming on each RabbitMQ in a container, as on the machine's own."""

import pytest

from tests.shared.conftest import url  # noqa: F401 -- a fixture
from tests.shared.test_consumer import *  # noqa: F403 -- the same tests, on the fixtures of this folder

pytestmark = pytest.mark.container
