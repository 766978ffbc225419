"""Dead letters filtered, counted and formatted, without content and control characters."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ops import dead_letters
from ops.dead_letters import DeadLetterFilter, DeadLetterGroup, DeadLetterTally
from shared import dead_letter, topology
from shared.dead_letter import DeadLetter
from shared.delivery import Delivery

MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LAIN = Delivery(
    queue="sender.bulk.dead",
    type="email.send.bulk",
    body=b'{"id":"m-1","to":["ada@example.com"],"text":"hidden","sealed":"hidden"}',
    message_id="m-1",
    correlation_id="c-1",
    reply_to=None,
    attempt=3,
    trace={"traceparent": "00-1-2-01"},
)
LETTER = DeadLetter(LAIN, "rejected", "No such class", "sender.bulk", MOMENT)


def with_body(body: bytes) -> DeadLetter:
    """Return the dead letter with another body."""
    return replace(LETTER, delivery=replace(LAIN, body=body))


def lying_in(queue: str) -> DeadLetter:
    """Return the dead letter in another queue."""
    return replace(LETTER, delivery=replace(LAIN, queue=queue))


@pytest.mark.parametrize(
    ("selection", "taken"),
    [
        (DeadLetterFilter(), False),
        (DeadLetterFilter(everything=True), True),
        (DeadLetterFilter(["m-0", "m-1"]), True),
        (DeadLetterFilter(["m-10"]), False),
        (DeadLetterFilter(text="no SUCH"), True),
        (DeadLetterFilter(text="reject"), True),
        (DeadLetterFilter(text="exhausted"), False),
    ],
)
def test_the_filter_selects_dead_letters(selection: DeadLetterFilter, *, taken: bool) -> None:
    """An id matches as a whole, a text in any part of the cause or the reason."""
    assert selection.matches(LETTER) is taken


def test_letters_that_died_alike_are_one_group() -> None:
    """A group is a queue, a cause and a reason; the largest of a queue is first."""
    tally = DeadLetterTally()
    later = MOMENT + timedelta(hours=1)
    for each in (
        LETTER,
        replace(LETTER, cause="exhausted"),
        replace(LETTER, cause="exhausted", died_at=later),
        replace(LETTER, cause="unknown", died_at=None),
    ):
        tally.add(each)

    queue, reason = LAIN.queue, LETTER.reason
    assert tally.groups() == [
        DeadLetterGroup(queue, "exhausted", reason, 2, MOMENT, later),
        DeadLetterGroup(queue, "rejected", reason, 1, MOMENT, MOMENT),
        DeadLetterGroup(queue, "unknown", reason, 1, None, None),
    ]


def test_a_table_and_a_json_say_the_same() -> None:
    """Table and JSON have the same facts."""
    groups = [DeadLetterGroup("sender.bulk.dead", "rejected", "No such class", 12, MOMENT, None)]

    head, row = dead_letters.table(groups).splitlines()
    (parsed,) = json.loads(dead_letters.as_json(groups))

    assert head.split() == ["QUEUE", "CAUSE", "REASON", "COUNT", "OLDEST", "NEWEST"]
    assert row.endswith("12     2026-01-02 03:04:05+00:00  ?")
    assert parsed["count"] == 12
    assert (parsed["oldest"], parsed["newest"]) == ("2026-01-02T03:04:05+00:00", None)


def test_every_dead_queue_is_known() -> None:
    """Every queue of dead letters in the topology is listed, and the unrouted one."""
    assert set(dead_letter.dead_queues()) == {
        "sender.otp.dead",
        "sender.transactional.dead",
        "sender.bulk.dead",
        "otp.commands.dead",
        "classifier.evidence.dead",
        "sender.addresses.dead",
        "ledger.mail.dead",
        "ledger.commands.dead",
        "scheduler.mail.dead",
        "scheduler.addresses.dead",
        "webhooks.events.dead",
        "webhooks.commands.dead",
        topology.UNROUTED,
    }


@pytest.mark.parametrize(
    ("letter", "able"),
    [
        (LETTER, True),
        (lying_in(topology.UNROUTED), True),
        (lying_in("otp.commands.dead"), False),
        (replace(LETTER, origin="sender.bulk.7"), True),
        (replace(LETTER, origin="sender.transactional.7"), False),
        (replace(LETTER, origin="sender.bulk.16"), False),
        (replace(LETTER, origin=None), False),
        (replace(LETTER, origin="delay.5s"), False),
        (replace(LETTER, origin="sender.bulk.dead"), False),
        (replace(LETTER, origin="amq.rabbitmq.reply-to"), False),
    ],
)
def test_only_to_a_queue_whose_letters_lie_here(letter: DeadLetter, *, able: bool) -> None:
    """A forged origin cannot move a message into another service's queue."""
    assert dead_letter.can_return(letter) is able


def test_a_page_withholds_what_a_mail_says() -> None:
    """A page has addresses, and no texts, codes or sealed content."""
    page = dead_letters.page(LETTER, body=False)

    assert "ada@example.com" in page
    assert "00-1-2-01" in page
    assert "hidden" not in page


def test_a_page_shows_the_body_on_request() -> None:
    """`--body` shows the whole body."""
    assert "hidden" in dead_letters.page(LETTER, body=True)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":[{"text":"hidden"}]}',
        b'{"TEXT":"hidden","Code":"hidden"}',
        b'{"html":{"deep":"hidden"}}',
        b'"hidden"',
        b'["hidden"]',
        b"hidden",
        b'{"text":"hidden"',
        b"\xff hidden",
        b"[" * 100_000 + b'"hidden"' + b"]" * 100_000,
    ],
)
def test_nothing_slips_through(body: bytes) -> None:
    """Content is withheld at any depth, in any case, and without a known contract."""
    assert "hidden" not in dead_letters.page(with_body(body), body=False)


@pytest.mark.parametrize("body", [b"\x1b[2J\x9b", b'{"to":"\\u001b[2J\\u009b\\ud800"}'])
def test_a_letter_does_not_command_the_terminal(body: bytes) -> None:
    """Control characters are escaped, in headers and bodies."""
    letter = replace(with_body(body), reason="\x1b]0;owned\x07\r\n\u202e")

    page = dead_letters.page(letter, body=True)

    assert all(char.isprintable() or char == "\n" for char in page)
    assert "\\x1b]0;owned" in page


def test_withheld_fields_are_those_of_the_contracts() -> None:
    """The withheld fields are those that contracts keep out of their repr."""
    assert {"text", "html", "sealed", "code"} <= dead_letter.WITHHELD
    assert not {"to", "cc", "bcc", "from", "subject", "email", "id"} & dead_letter.WITHHELD
