"""Publishing and asking on each RabbitMQ in a container, as on the machine's own."""

import pytest

from tests.shared.test_broker import *  # noqa: F403 -- the same tests, on the fixtures of this folder

pytestmark = pytest.mark.container
