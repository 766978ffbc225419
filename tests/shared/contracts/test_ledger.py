"""The contracts of the ledger: statuses, sums and forms."""

from shared.contracts import EmailCounts, EmailsCounted, EmailsListed, EmailStatus, decode, encode
from tests.shared.golden.examples import EXAMPLES
from tests.shared.golden.ledger_examples import AT, COUNTS, RECORD


def test_a_status_ends_unless_another_attempt_follows() -> None:
    """Only a waiting or deferred mail has another outcome."""
    ended = {each for each in EmailStatus if each.ended}

    assert ended == {
        EmailStatus.DELIVERED,
        EmailStatus.BOUNCED,
        EmailStatus.FAILED,
        EmailStatus.EXPIRED,
        EmailStatus.SUPPRESSED,
        EmailStatus.CANCELLED,
        EmailStatus.UNCERTAIN,
    }
    assert not EmailStatus.DEFERRED.ended


def total(counts: EmailCounts) -> int:
    """Return the sum of all that became of accepted mails."""
    bounced = counts.bounced_permanent + counts.bounced_transient + counts.bounced_undetermined
    ended = counts.delivered + counts.failed + counts.expired + counts.uncertain
    return counts.waiting + bounced + ended + counts.suppressed + counts.cancelled


def test_the_example_of_sums_adds_up() -> None:
    """Accepted is the sum of all others."""
    assert total(COUNTS) == COUNTS.accepted


def test_records_cross_the_wire_whole() -> None:
    """The answers carry mails and sums with all their fields."""
    for each in EXAMPLES:
        read = decode(each.routing_key, encode(each))
        match read:
            case EmailsListed():
                assert read.emails == (RECORD,)
                assert read.emails[0].size_bytes > 0
                assert read.emails[0].accepted_at == AT
            case EmailsCounted():
                assert read.periods == (COUNTS,)
