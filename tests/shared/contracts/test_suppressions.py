"""The contracts of suppressed addresses: limits, defaults and forms."""

import base64

import orjson
import pytest
from pydantic import ValidationError

from shared.contracts import (
    AddSuppressions,
    Category,
    ListSuppressions,
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


@pytest.mark.parametrize("of", [{"list_id": "news"}, {"origin": "unsubscribe"}])
def test_an_entry_of_a_list_stops_bulk_alone(of: dict[str, str]) -> None:
    """Other mail is of no list: an entry that would not stop it is refused by the contract."""
    entry = NewSuppression.model_validate({"email": "ann@example.org", **of})
    with pytest.raises(ValidationError, match="must be bulk alone"):
        NewSuppression.model_validate(
            {"email": "ann@example.org", "categories": ["transactional"], **of}
        )

    assert entry.categories == (Category.BULK,)


def test_a_key_is_a_sha256_in_hexadecimal() -> None:
    """Entries are looked up by a keyed hash, never by the plain address."""
    assert len(bytes.fromhex(SUPPRESSION.address_key)) == 32
    assert set(SuppressionOrigin) > {SuppressionOrigin.COMPLAINT, SuppressionOrigin.UNSUBSCRIBE}


@pytest.mark.parametrize(
    "content",
    [
        *([], {}, None, True, 7, "a", [1], [1, 2, 3, 4, 5], [1, "a", "b", "c"]),
        *([each, "a", "b", "c", "d"] for each in (True, None, 1.5, -1, 2**53, 2**63 - 1, "1")),
        [1, "a", "b\0", "c", "d"],
    ],
)
def test_a_cursor_is_one_of_the_list(content: object) -> None:
    """A cursor that leads to no place is refused, as is a text that is none."""
    cursor = base64.urlsafe_b64encode(orjson.dumps(content)).decode()
    for wrong in (cursor, "zz", "", "é", "W", "\0"):
        with pytest.raises(ValidationError):
            ListSuppressions(id=EVENT, after=wrong)


def test_entries_cross_the_wire_whole() -> None:
    """The events and answers carry an entry with all its fields."""
    for each in EXAMPLES:
        read = decode(each.routing_key, encode(each))
        match read:
            case SuppressionAdded() | SuppressionRemoved():
                assert read.suppression == SUPPRESSION
            case SuppressionsListed() | SuppressionsChanged():
                assert read.suppressions == (SUPPRESSION,)
