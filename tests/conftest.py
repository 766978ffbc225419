"""The parts that tests of the whole tree share."""

pytest_plugins = ["tests.brokers", "tests.clock", "tests.databases"]
