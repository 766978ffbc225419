"""Return paths: signed, short enough for an envelope, and read in letters of any case."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.address import check_address
from shared.contracts.fields import MAX_ID_CHARS
from shared.return_path import VALID_DAYS, ReturnedMail, ReturnPaths, address_hash, mail_key

TODAY = date(2026, 11, 29)
DOMAIN = "bounce.our.example"
KEY, NEWER = "3d" * 32, "4e" * 32
PATHS = ReturnPaths.from_text(DOMAIN, KEY)
ANNA = "anna@x.example"
MAX_LOCAL_OCTETS = 64  # RFC 5321 4.5.3.1.1
FOUND = ReturnedMail(mail_key("mail-1", "shop"), address_hash(ANNA), 0)


def a_path(today: date = TODAY) -> str:
    """Return the return path of a mail."""
    return PATHS.of("mail-1", "shop", ANNA, today)


@pytest.mark.parametrize("client", [None, "shop", "c" * MAX_ID_CHARS])
def test_it_is_read_as_it_was_made(client: str | None) -> None:
    """The mail of this client and its recipient come back, and every server takes the address."""
    email_id = "m" * MAX_ID_CHARS
    path = PATHS.of(email_id, client, "ANNA@x.example", TODAY)

    found = ReturnedMail(mail_key(email_id, client), address_hash(ANNA), 0)
    assert PATHS.read(path, TODAY) == found
    assert check_address(path) == path
    assert len(path.partition("@")[0]) <= MAX_LOCAL_OCTETS


def test_letters_of_another_case_do_no_harm() -> None:
    """A server may change the case of the whole address."""
    assert PATHS.read(a_path().upper(), TODAY) == FOUND


def test_it_has_an_end() -> None:
    """A return path is read for 30 days, and by a clock that is just before its midnight."""
    oldest = PATHS.read(a_path(TODAY - timedelta(days=VALID_DAYS)), TODAY)
    assert oldest == FOUND._replace(age_days=VALID_DAYS)
    assert PATHS.read(a_path(TODAY - timedelta(days=VALID_DAYS + 1)), TODAY) is None
    assert PATHS.read(a_path(TODAY + timedelta(days=1)), TODAY) == FOUND._replace(age_days=-1)
    assert PATHS.read(a_path(TODAY + timedelta(days=2)), TODAY) is None


def test_keys_are_rotated() -> None:
    """The newest key signs, and paths that an older one has signed are still read."""
    both = ReturnPaths.from_text(DOMAIN, f"{NEWER},{KEY}")
    new = both.of("mail-1", "shop", ANNA, TODAY)

    assert both.read(a_path(), TODAY) == both.read(new, TODAY) == FOUND
    assert PATHS.read(new, TODAY) is None


@pytest.mark.parametrize(
    "address",
    [
        *("", "@", "postmaster@bounce.our.example", f"b-@{DOMAIN}", "b-x", a_path()[:-1]),
        *(f"b-{'a' * 61}@{DOMAIN}", f"b-{'1' * 61}@{DOMAIN}", f"b-{'ä' * 61}@{DOMAIN}"),
        a_path().replace(DOMAIN, "bounce.their.example"),
        a_path()[1:],
    ],
)
def test_other_addresses_are_none(address: str) -> None:
    """An address that no sender has made names no mail."""
    assert PATHS.read(address, TODAY) is None


@given(place=st.integers(2, 62), letter=st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_nobody_else_can_make_one(place: int, letter: str) -> None:
    """With another letter it is none, except in the last, which has a bit of padding."""
    path = a_path()
    forged = path[:place] + letter + path[place + 1 :]

    assert PATHS.read(forged, TODAY) in {None, *([FOUND] if path == forged or place == 62 else [])}


@given(text=st.text(max_size=200))
def test_any_text_is_harmless(text: str) -> None:
    """Any text before the domain is read as no mail, without an error."""
    assert PATHS.read(f"{text}@{DOMAIN}", TODAY) is None
    assert PATHS.read(f"b-{text}@{DOMAIN}", TODAY) is None
