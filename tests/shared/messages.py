"""A command and an event, by their ids, for the tests of the seam."""

from datetime import UTC, datetime

from shared.contracts import DomainClassified, SendEmail, Verdict

KIND = "email.send.transactional"
QUEUE = "sender.transactional"  # where the commands go


def mail(name: str) -> SendEmail:
    """Give a command with the given id."""
    return SendEmail(id=name, to=("ada@example.com",), subject="s", text="t")


def fact(name: str) -> DomainClassified:
    """Give an event with the given id."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return DomainClassified(id=name, at=moment, domain="example.com", status=Verdict.UNKNOWN)
