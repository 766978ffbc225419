"""The composers that are compared, and how."""

from email import message_from_bytes, policy

import pytest

from benchmarks import compose
from tests.sender import library
from tests.sender.verifier import signatures

AT_LEAST = 8  # times as many mails as the library; far below what is measured on an idle machine


@pytest.mark.parametrize("change", compose.TEXTS.values(), ids=list(compose.TEXTS))
def test_all_make_the_same_mail(change: compose.Change) -> None:
    """Who reads them finds no difference but the signature."""
    command = compose.a_command(change)
    made = {name: contender(command) for name, contender in compose.contenders().items()}

    ours, signed, theirs = made.values()
    assert library.fields(ours) == library.fields(theirs)
    assert library.parts(ours) == library.parts(signed) == library.parts(theirs)
    assert signed.endswith(ours)
    assert len(signatures(signed)) == 1
    assert message_from_bytes(ours, policy=policy.default)["Subject"] == command.subject


def test_ours_is_the_faster_by_far() -> None:
    """The hot path of the sender stays at least eight times as fast as the library."""
    ours, signed, theirs = compose.measure(compose.a_command(), seconds=0.1, repetitions=3)

    assert (ours.name, signed.name, theirs.name) == (compose.OURS, compose.SIGNED, compose.LIBRARY)
    assert ours.rate > AT_LEAST * theirs.rate
