"""Sessions in cookies: signed, limited in time, of one kind."""

from dataclasses import replace
from typing import Any

import pytest

from services.console.operators import OPERATOR_NAME, LoginWay, Operators
from services.console.sessions import NOTE, NOTE_SECONDS, SESSION, Note, Sessions
from tests.clock import Watch

OLD, NEW, OTHER = "1a" * 32, "2b" * 32, "3c" * 32
SECONDS = 3600.0
OPERATORS = Operators("a token", "https://id.example", viewers=["ann"], actors=["bob"])


def sessions(keys: str, watch: Watch, operators: Operators = OPERATORS) -> Sessions:
    """Return the sessions of some keys."""
    return Sessions.from_text(keys, SECONDS, watch, lambda: "s-1", operators)


@pytest.fixture
def watch() -> Watch:
    """Return a clock that stands still."""
    found = Watch()
    found.now = 1_800_000_000.0
    return found


def test_a_cookie_is_read_until_its_session_is_over(watch: Watch) -> None:
    """A session has the name, the right to act, and an end."""
    ours = sessions(NEW, watch)
    session = ours.begin("ann", LoginWay.PROVIDER)
    cookie = ours.cookie(session)

    assert ours.read(cookie) == session
    assert (session.name, session.may_act) == ("ann", False)
    watch.now += SECONDS - 1
    assert ours.read(cookie) == session
    watch.now += 1
    assert ours.read(cookie) is None


def test_an_older_key_is_read_and_a_foreign_one_is_not(watch: Watch) -> None:
    """A new key is put before the old one, and nobody is logged out."""
    cookie = sessions(OLD, watch).cookie(sessions(OLD, watch).begin("ann", LoginWay.PROVIDER))

    assert sessions(f"{NEW},{OLD}", watch).read(cookie)
    assert sessions(NEW, watch).read(cookie) is None
    assert sessions(OTHER, watch).read("") is None
    assert sessions(OLD, watch).read(cookie[:-2]) is None


@pytest.mark.parametrize(
    ("change", "rights"),
    [
        ({}, [True, False, True]),
        ({"token": "another"}, [None, False, True]),
        ({"issuer": "https://other.example"}, [True, None, None]),
        ({"issuer": None}, [True, None, None]),
        ({"viewers": ()}, [True, None, True]),
        ({"viewers": ("bob",), "actors": ("ann",)}, [True, True, False]),
    ],
)
def test_a_session_ends_with_the_setting_that_it_rests_on(
    watch: Watch, change: dict[str, Any], rights: list[bool | None]
) -> None:
    """Another token, another provider, or a list without the operator; the right may change."""
    before, after = sessions(OLD, watch), sessions(OLD, watch, replace(OPERATORS, **change))
    begun = [
        (OPERATOR_NAME, LoginWay.TOKEN),
        ("ann", LoginWay.PROVIDER),
        ("Bob", LoginWay.PROVIDER),
    ]
    found = [after.read(before.cookie(before.begin(*each))) for each in begun]

    assert [each and each.may_act for each in found] == rights


def test_a_token_of_another_kind_is_no_session(watch: Watch) -> None:
    """A note, which is in a URL, cannot be made a cookie, nor the other way round."""
    ours = sessions(NEW, watch)
    session = ours.begin("ann", LoginWay.PROVIDER)
    claims = ours.verify(SESSION, ours.cookie(session)) or {}
    note = ours.sign(NOTE, claims, watch.now + 9)

    assert ours.read(note) is None
    assert ours.verify(SESSION, note) is None
    assert ours.read_note(session, ours.cookie(session)) is None


def test_a_form_token_is_of_one_session(watch: Watch) -> None:
    """The token of another session is refused, and that of an older key is taken."""
    ours, old = sessions(f"{NEW},{OLD}", watch), sessions(OLD, watch)
    session = ours.begin("ann", LoginWay.PROVIDER)

    assert ours.is_form_token(session, ours.form_token(session))
    assert ours.is_form_token(session, old.form_token(session))
    for token in ("", "é", ours.form_token(replace(session, id="s-2")), session.id):
        assert not ours.is_form_token(session, token)


def test_a_note_is_shown_to_its_session_for_a_minute(watch: Watch) -> None:
    """A link with the note of another session shows nothing."""
    ours = sessions(NEW, watch)
    session = ours.begin("ann", LoginWay.PROVIDER)
    note = ours.note(session, "3 dropped")

    assert ours.read_note(session, note) == Note("3 dropped", failed=False)
    assert ours.read_note(replace(session, id="s-2"), note) is None
    watch.now += NOTE_SECONDS
    assert ours.read_note(session, note) is None
