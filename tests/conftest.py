"""The fixtures of the whole tree."""

pytest_plugins = [
    "tests.brokers",
    "tests.certificates",
    "tests.clock",
    "tests.databases",
    "tests.shop",
    "tests.webhooks.receivers",
    "tests.world",
]
