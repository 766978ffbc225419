"""The programs of docs/publish.md, with no more rights than it says, on RabbitMQ 4.0."""

import pytest

from tests.test_publish import *  # noqa: F403 -- the same tests, on the fixtures of this folder

pytestmark = pytest.mark.container
