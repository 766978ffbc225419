"""The classifier's store on each PostgreSQL in a container."""

import pytest

from tests.classifier.conftest import *  # noqa: F403 -- the same fixtures, on those of this folder
from tests.classifier.store.test_counting import *  # noqa: F403 -- the same tests
from tests.classifier.store.test_sql import *  # noqa: F403 -- the same tests

pytestmark = pytest.mark.container
