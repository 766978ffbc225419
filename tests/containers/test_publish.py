"""The programs of docs/publish.md run with the rights it names, on each RabbitMQ."""

import pytest

from tests.test_publish import *  # noqa: F403 -- the same tests, on the fixtures of this folder

pytestmark = pytest.mark.container
