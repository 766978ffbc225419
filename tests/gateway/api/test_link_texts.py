"""The words of the pages behind links, and their languages."""

import pytest

from services.gateway.api.link_texts import TEXTS, accepted_languages, isolated


def test_each_language_has_all_texts() -> None:
    """No text of a page is missing in a language."""
    assert all(all(texts) for texts in TEXTS.values())
    assert all(
        "{title}" in text for each in TEXTS.values() for text in (each.unsubscribe, each.confirm)
    )


@pytest.mark.parametrize(
    ("accepted", "languages"),
    [
        ("en;q=0.1, de", ["de", "en"]),
        ("de;q=0, en;q=0.5", ["en"]),
        ("ES-419 ; q=1.000,de", ["es", "de"]),
        ("fil, frr, x-fr", []),
        ("de;q=7, fr;q=x, es", ["es"]),
        (",,;q=, *", []),
        ("fr;q=0." + "9" * 5000, ["fr"]),
        (",".join(["de"] * 5000), ["de"] * 67),
    ],
)
def test_the_most_wanted_language_is_the_first(accepted: str, languages: list[str]) -> None:
    """The weights of a reader's languages count, and no field does harm (RFC 9110 12.5.4)."""
    assert accepted_languages(accepted) == languages


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("News & more", "News & more"),
        ("\u0646\u0634\u0631\u0629", "\u2068\u0646\u0634\u0631\u0629\u2069"),
        ("a\u202ecod", "\u2068acod\u2069"),
        ("a\u2069\u202eb", "\u2068ab\u2069"),
    ],
    ids=["left", "right", "override", "end"],
)
def test_a_title_turns_no_other_text_around(title: str, shown: str) -> None:
    """A list's name from right to left keeps the question mark of the page in its place."""
    assert isolated(title) == shown
