"""The composers that are compared, and how."""

from collections.abc import Callable
from email import message_from_bytes, policy

import pytest

from benchmarks import drain, mail
from tests.sender import library
from tests.sender.verifier import signatures

AT_LEAST = 8  # times as many mails as the library; far below what is measured on an idle machine


@pytest.mark.parametrize("change", mail.TEXTS.values(), ids=list(mail.TEXTS))
def test_all_make_the_same_mail(change: Callable[[str], str]) -> None:
    """The mails differ in nothing but the signature."""
    command = mail.command("bench", mail.recipient(0), change)
    made = {name: composer(command) for name, composer in mail.composers().items()}

    ours, signed, theirs = made.values()
    assert library.fields(ours) == library.fields(theirs)
    assert library.parts(ours) == library.parts(signed) == library.parts(theirs)
    assert signed.endswith(ours)
    assert len(signatures(signed)) == 1
    assert message_from_bytes(ours, policy=policy.default)["Subject"] == command.subject


def test_a_large_mail_has_100_kb() -> None:
    """Within a percent, and in lines as long as those of the usual one."""
    octets = mail.ready_made(drain.LARGE_LENGTH)

    assert 99_000 < len(octets) < 101_000
    assert max(map(len, octets.splitlines())) == max(map(len, mail.ready_made().splitlines()))


def test_ours_is_the_faster_by_far() -> None:
    """The hot path of the sender stays at least eight times as fast as the library."""
    ours, signed, theirs = mail.measure(
        mail.command("bench", mail.recipient(0)), seconds=0.1, repetitions=3
    )

    assert (ours.name, signed.name, theirs.name) == (mail.OURS, mail.SIGNED, mail.LIBRARY)
    assert ours.rate > AT_LEAST * theirs.rate
