"""The span of a mail at each relay: the reply by its codes, and nothing of the mail."""

from collections.abc import Mapping

import pytest

from ops.simulator.simulator import Simulator
from shared.runtime import tracing
from tests.collector import recording
from tests.sender.mails import a_mail, a_pool, a_relay
from tests.sender.scripted import scripted

REFUSED = "reply-rcpt-550-5-1-1@mail.example"
OURS = "postrider.smtp."


@pytest.mark.parametrize(
    ("recipients", "failed", "about"),
    [
        (
            ("ann@mail.example", "bob@mail.example", REFUSED),
            False,
            {"stage": "dot", "reply_code": 250, "recipients": 3, "accepted": 2},
        ),
        (
            (REFUSED,),
            True,
            {"stage": "rcpt", "reply_code": 550, "enhanced_status": "5.1.1", "accepted": 0},
        ),
    ],
)
async def test_the_reply_of_most_recipients(
    simulator: Simulator,
    recipients: tuple[str, ...],
    *,
    failed: bool,
    about: Mapping[str, str | int],
) -> None:
    """A mail that any recipient got has not failed."""
    with recording() as collector:
        async with a_pool(a_relay(simulator.smtp_port)) as pool:
            await pool.send(a_mail(*recipients))
        tracing.stop()
        [span] = collector.spans

    wanted = {f"{OURS}{name}": value for name, value in about.items()}
    assert span.attributes.items() >= wanted.items()
    assert span.attributes["server.port"] == simulator.smtp_port
    assert span.failed is failed
    assert not collector.holds(b"mail.example")


async def test_a_relay_that_lacks_what_a_mail_needs() -> None:
    """The span has the reason."""
    with recording() as collector:
        async with scripted({}) as server, a_pool(a_relay(server.port)) as pool:
            await pool.send(a_mail("j\u00f6rg@mail.example", needs_smtputf8=True))
        tracing.stop()
        [span] = collector.spans

    assert (span.failed, span.attributes["error.type"]) == (True, "smtputf8_not_offered")


async def test_a_relay_that_does_not_answer() -> None:
    """A mail without a reply has no code, but the stage of the failure."""
    with recording() as collector:
        async with scripted({}) as server:
            port = server.port
        async with a_pool(a_relay(port)) as pool:
            await pool.send(a_mail())
        tracing.stop()
        [span] = collector.spans

    assert (span.failed, span.attributes["error.type"]) == (True, "no_reply")
    assert span.attributes[f"{OURS}stage"] == "connect"
