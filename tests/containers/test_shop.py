"""Attacks of one program on all others, on RabbitMQ 4.0: none succeeds, as on the machine's own."""

import pytest

from tests.test_shop import *  # noqa: F403 -- the same tests, on the fixtures of this folder

pytestmark = [pytest.mark.container, pytest.mark.timeout(120)]
