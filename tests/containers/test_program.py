"""What a program needs is made on RabbitMQ 4.0 as well."""

import pytest

from tests.ops.test_program import *  # noqa: F403 -- the same tests, on the fixtures of this folder

pytestmark = pytest.mark.container
