"""The parts that tests of the whole tree share."""

pytest_plugins = [
    "tests.brokers",
    "tests.certificates",
    "tests.clock",
    "tests.databases",
    "tests.shop",
    "tests.world",
]
