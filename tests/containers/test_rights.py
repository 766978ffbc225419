"""Topology and rights mean the same on RabbitMQ 4.0."""

import pytest

from tests.ops.test_topology import *  # noqa: F403 -- the same tests, on the fixtures of this folder

pytestmark = pytest.mark.container
