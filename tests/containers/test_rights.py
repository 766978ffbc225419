"""Topology and rights mean the same on each RabbitMQ in a container."""

import pytest

from tests.ops.test_topology import *  # noqa: F403 -- the same tests, on the fixtures of this folder

pytestmark = pytest.mark.container
