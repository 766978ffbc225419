"""Tests of the languages together."""

import re
from collections.abc import Mapping

import pytest

from services.otp.mail.phrasebook import Translations
from tests.modules import ROOT
from tests.otp.wordings import shipped_layouts, toml

GUIDE = ROOT / "docs" / "templates.md"


def a_phrasebook(*tags: str) -> Translations:
    """Give a phrasebook with some languages."""
    return Translations.read({**shipped_layouts(), **{f"{tag}.toml": toml() for tag in tags}})


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        ("de", "de"),
        ("de-AT", "de"),
        ("de_AT", "de"),
        ("DE-at-1996", "de"),
        ("pt-BR", "pt-br"),
        ("pt", "en"),
        ("zh-Hant-TW", "zh-hant"),
        ("zh", "en"),
        ("den", "en"),
        ("", "en"),
        (None, "en"),
    ],
)
def test_nearest(asked: str | None, given: str) -> None:
    """The nearest language is one that the locale is a kind of, else the deployment's own."""
    assert a_phrasebook("de", "en", "pt-br", "zh-hant").nearest(asked, "en-GB") == given


def test_the_guide_shows_a_language() -> None:
    """What docs/templates.md shows can be taken as it is."""
    (shown,) = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    book = Translations.read({**shipped_layouts(), "nl.toml": shown.encode()})

    assert book.by_language["nl"].lifetime(600) == "10 minutes"


def test_none_is_near() -> None:
    """Where nobody speaks the deployment's own language, that is an error."""
    with pytest.raises(KeyError):
        a_phrasebook("de").nearest("fr", "en")


@pytest.mark.parametrize(
    ("files", "mistake"),
    [
        ({"x/de.toml": b"plural ="}, "x/de.toml: Invalid value (at end of document)"),
        ({"x/de.toml": b"a = 1\na = 2"}, "x/de.toml: Cannot overwrite a value"),
        ({"x/de.toml": b"# \xff"}, "x/de.toml: must be UTF-8"),
        ({"x/de.toml": toml(warning=None)}, "x/de.toml: warning: Field required"),
        ({"x/de.toml": toml(plural="n")}, "x/de.toml: minutes: must have a form 2"),
        ({"x/de.txt": toml()}, "x/de.txt: must be mail.txt, mail.html or <language tag in lower"),
        ({"x/DE.toml": toml()}, "x/DE.toml: must be mail.txt, mail.html or"),
        ({"x/de_at.toml": toml()}, "x/de_at.toml: must be mail.txt, mail.html or"),
        ({"x/german.toml": toml()}, "x/german.toml: must be mail.txt, mail.html or"),
        ({"x/mail.txt": b"{code}"}, "x/mail.txt: must have {advice}; must have {intro}"),
        ({"x/mail.html": b"\xff"}, "x/mail.html: must be UTF-8"),
    ],
)
def test_refused(files: Mapping[str, bytes], mistake: str) -> None:
    """What cannot be used is told with the path of its file."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 -- the text follows, braces and all
        Translations.read({**shipped_layouts(), **files})

    assert str(caught.value).startswith(mistake)


def test_all_mistakes_at_once() -> None:
    """All mistakes in all files are told, a line each."""
    files = {
        "de.toml": toml(warning="Hush: http://x.example", origin="Here.", minutes=[]),
        "fr.toml": toml(purposes={"other": {"subject": "A code", "intro": "A code:"}}),
        "mail.txt": b"{code}{code}",
    }
    with pytest.raises(ValueError) as caught:  # noqa: PT011 -- the same
        Translations.read({**shipped_layouts(), **files})

    assert sorted(line.partition(": must")[0] for line in str(caught.value).splitlines()) == [
        "de.toml: minutes",
        "de.toml: origin",
        "de.toml: warning",
        "fr.toml: purposes",
        "mail.txt",
    ]
