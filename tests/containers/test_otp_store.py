"""The store of one-time codes on each PostgreSQL in a container."""

import pytest

# The same tests, on the fixtures of this folder.
from tests.otp.conftest import *  # noqa: F403
from tests.otp.test_failures import *  # noqa: F403
from tests.otp.test_guessing import *  # noqa: F403
from tests.otp.test_issuing import *  # noqa: F403
from tests.otp.test_store import *  # noqa: F403

pytestmark = pytest.mark.container
