"""A program gets its user, rights and queue on each RabbitMQ in a container."""

import pytest

from tests.ops.test_program import *  # noqa: F403 -- the same tests, on the fixtures of this folder

pytestmark = pytest.mark.container
