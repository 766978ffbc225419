"""The load tools on the real stack."""

import subprocess
import sys

import pytest

from tests.journeys.stack import Stack

pytestmark = [pytest.mark.journey, pytest.mark.timeout(180)]

LOAD_SECONDS = 60.0  # more than these loads take on a busy machine


def load(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `ops load` as a user of the stack does."""
    return subprocess.run(  # noqa: S603 -- our own command
        [sys.executable, "-m", "ops", "load", *words],
        env=dict(stack.environ),
        capture_output=True,
        text=True,
        timeout=LOAD_SECONDS,
        check=False,
    )


@pytest.mark.parametrize("via", ["http", "amqp"])
@pytest.mark.parametrize("batch", ["1", "50"])
def test_every_event_is_counted_once(stack: Stack, via: str, batch: str) -> None:
    """The domain table holds what was sent, over HTTP and AMQP, singly and in batches."""
    words = ("--events", "400", "--domains", "30", "--batch", batch, "--bounced", "10")

    done = load(stack, "events", *words, "--via", via)

    assert done.returncode == 0, done
    assert "400 of 400 events sent" in done.stdout
    assert "the domain table holds exactly what was sent" in done.stdout


@pytest.mark.parametrize("via", ["http", "amqp"])
def test_every_mail_is_delivered_once(stack: Stack, via: str) -> None:
    """The mailbox has one copy of each mail, of two categories in turns."""
    words = ("--mails", "60", "--category", "bulk", "--category", "transactional")

    done = load(stack, "mail", *words, "--via", via)

    assert done.returncode == 0, done
    assert "delivered after  p50" in done.stdout
    assert "the mailbox holds exactly what was sent" in done.stdout
