"""An outage is logged at once, then seldom, with advice."""

import asyncio
import socket
import ssl

import pytest
import structlog

from shared.runtime.outage import Outage
from tests.clock import Watch

WHERE = "amqp://ann:***@h/"


def seconds_logged(clock: Watch, outage: Outage, seconds: range) -> list[int]:
    """Fail once a second and return the seconds of the log lines."""
    logged_at = []
    for second in seconds:
        clock.now = second
        with structlog.testing.capture_logs() as logs:
            outage.log(ConnectionRefusedError(111, "Connect call failed"))
        logged_at += [second] * len(logs)
    return logged_at


def test_it_is_logged_at_once_and_then_less_and_less_often() -> None:
    """The pauses between two lines double, up to a limit."""
    clock = Watch()
    outage = Outage("the broker", WHERE, "AMQP_URL", clock)

    assert seconds_logged(clock, outage, range(300)) == [0, 2, 6, 14, 30, 62, 122, 182, 242]
    outage.end()
    assert seconds_logged(clock, outage, range(300, 306)) == [300, 302]


def test_a_line_says_where_why_and_what_to_do() -> None:
    """An outage is a warning with the address, the reason and advice."""
    with structlog.testing.capture_logs() as logs:
        Outage("the broker", WHERE, "AMQP_URL").log(ConnectionRefusedError(111, "refused"))

    assert logs == [
        {
            "event": "waiting for the broker",
            "log_level": "warning",
            "address": WHERE,
            "reason": "[Errno 111] refused",
            "advice": "start it there, or set AMQP_URL to where it listens",
        }
    ]


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (ssl.SSLCertVerificationError("x"), "check the host in AMQP_URL, and the authority"),
        (ssl.SSLError("x"), "check in AMQP_URL whether the port is one with TLS"),
        (socket.gaierror(-2, "Name or service not known"), "check the host in AMQP_URL"),
        (TimeoutError(), "check host and port in AMQP_URL, and firewalls"),
        (asyncio.IncompleteReadError(b"", 1), "look at its log, and check host, port and scheme"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_advice_is_about_what_went_wrong(error: Exception, advice: str) -> None:
    """The advice depends on the error."""
    assert Outage("the broker", WHERE, "AMQP_URL").advice(error).startswith(advice)
