"""Dead letters are listed and sent back on each RabbitMQ in a container."""

import pytest

from tests.ops.test_dead import *  # noqa: F403 -- the same tests, on the fixtures of this folder

pytestmark = pytest.mark.container
