"""The contracts of suppressed addresses: limits, defaults and forms."""

import pytest
from pydantic import ValidationError

from shared.contracts import (
    AddSuppressions,
    Category,
    NewSuppression,
    RemoveSuppressions,
    SuppressionAdded,
    SuppressionOrigin,
    SuppressionRemoved,
    SuppressionsChanged,
    SuppressionsListed,
    decode,
    encode,
)
from shared.contracts.suppressions import MAX_CHANGES
from tests.shared.golden.examples import EXAMPLES
from tests.shared.golden.ledger_examples import EVENT, SUPPRESSION


def test_an_entry_by_hand_leaves_codes_alone() -> None:
    """An address that is suppressed by hand still gets codes, unless the class otp is named."""
    entry = NewSuppression(email="Ann@Example.ORG")

    assert entry.email == "Ann@example.org"
    assert entry.origin is SuppressionOrigin.MANUAL
    assert set(entry.categories) == {Category.TRANSACTIONAL, Category.BULK}


def test_a_change_is_bounded() -> None:
    """A change names at least one address and at most MAX_CHANGES."""
    entry = NewSuppression(email="ann@example.org")
    for entries in ((), (entry,) * (MAX_CHANGES + 1)):
        with pytest.raises(ValidationError):
            AddSuppressions(id=EVENT, suppressions=entries)
        with pytest.raises(ValidationError):
            RemoveSuppressions(id=EVENT, emails=tuple(each.email for each in entries))

    assert len(AddSuppressions(id=EVENT, suppressions=(entry,) * 2).suppressions) == 2


def test_an_entry_stops_something() -> None:
    """An entry that stops no class of mail is refused."""
    with pytest.raises(ValidationError):
        NewSuppression(email="ann@example.org", categories=())


def test_a_key_is_a_sha256_in_hexadecimal() -> None:
    """Entries are looked up by a keyed hash, never by the plain address."""
    assert len(bytes.fromhex(SUPPRESSION.address_key)) == 32
    assert set(SuppressionOrigin) > {SuppressionOrigin.COMPLAINT, SuppressionOrigin.UNSUBSCRIBE}


def test_entries_cross_the_wire_whole() -> None:
    """The events and answers carry an entry with all its fields."""
    for each in EXAMPLES:
        read = decode(each.routing_key, encode(each))
        match read:
            case SuppressionAdded() | SuppressionRemoved():
                assert read.suppression == SUPPRESSION
            case SuppressionsListed() | SuppressionsChanged():
                assert read.suppressions == (SUPPRESSION,)
