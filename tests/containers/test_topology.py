"""The topology that RabbitMQ 4.0 has read is the one that was declared."""

import pytest

from tests.shared.test_topology import TestOnABroker

__all__ = ["TestOnABroker"]

pytestmark = pytest.mark.container
