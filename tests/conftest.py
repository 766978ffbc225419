"""The fixtures of the whole tree."""

import os
from collections.abc import Iterator

import pytest

pytest_plugins = [
    "tests.brokers",
    "tests.browser",
    "tests.certificates",
    "tests.clock",
    "tests.databases",
    "tests.shop",
    "tests.webhooks.receivers",
    "tests.world",
]


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """Reset the mode of new files: servers under users of their own read those of tests.

    A test may run in its own process what sets another one, as `ops up` does.
    """
    os.umask(0o022)
    yield
    os.umask(0o022)
