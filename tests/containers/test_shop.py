"""Attacks of one program on all others fail on each RabbitMQ in a container."""

import pytest

from tests.test_shop import *  # noqa: F403 -- the same tests, on the fixtures of this folder

pytestmark = [pytest.mark.container, pytest.mark.timeout(120)]
