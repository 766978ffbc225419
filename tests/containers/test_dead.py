"""Dead letters are looked at and sent back on RabbitMQ 4.0."""

import pytest

from tests.ops.test_dead import *  # noqa: F403 -- the same tests, on the fixtures of this folder

pytestmark = pytest.mark.container
