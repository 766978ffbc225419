"""Each RabbitMQ in a container has read the topology as it was declared."""

import pytest

from tests.shared.test_topology import TestOnABroker

__all__ = ["TestOnABroker"]

pytestmark = pytest.mark.container
