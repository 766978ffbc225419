"""The texts of mails: each language, all languages together, and the files that hold them."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from services.otp.mail import translations
from services.otp.mail.translations import Translation, Translations
from tests.modules import ROOT
from tests.otp.mail.texts import ENGLISH, LANGUAGES, a_translation, shipped_layouts, toml

GUIDE = ROOT / "docs" / "templates.md"
# As gettext's catalogues have it for Russian: 1 минута, 2 минуты, 5 минут.
SLAVIC = "n%10==1 && n%100!=11 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2"


@pytest.mark.parametrize(
    ("seconds", "spoken"),
    [
        (-5, "less than a minute"),
        (59.9, "less than a minute"),
        (60, "1 minute"),
        (119.9, "1 minute"),
        (120, "2 minutes"),
        (599.9, "9 minutes"),
        (600, "10 minutes"),
        (7199, "119 minutes"),
        (7200, "2 hours"),
        (86_399, "23 hours"),
        (86_400, "24 hours"),
    ],
)
def test_never_more_than_is_left(seconds: float, spoken: str) -> None:
    """A time is rounded down to minutes or, from two hours on, to hours."""
    assert a_translation().lifetime(seconds) == spoken


@pytest.mark.parametrize(
    ("language", "spoken"),
    [
        ("en", ("less than a minute", "1 minute", "10 minutes", "2 hours")),
        ("de", ("weniger als eine Minute", "1\xa0Minute", "10\xa0Minuten", "2\xa0Stunden")),
        ("fr", ("moins d\u2019une minute", "1\xa0minute", "10\xa0minutes", "2\xa0heures")),
        ("es", ("menos de un minuto", "1\xa0minuto", "10\xa0minutos", "2\xa0horas")),
        ("vi", ("chưa đầy một phút", "1\xa0phút", "10\xa0phút", "2\xa0giờ")),
        ("ja", ("1分未満の間のみ", "1分間", "10分間", "2時間")),
    ],
)
def test_plurals(language: str, spoken: tuple[str, ...]) -> None:
    """Each shipped language has its plural forms."""
    translation = translations.shipped().by_language[language]

    assert tuple(translation.lifetime(seconds) for seconds in (30, 60, 600, 7200)) == spoken


def test_plural_of_a_new_language() -> None:
    """A language brings its own rule, of as many forms as it has."""
    translation = a_translation(
        plural=SLAVIC,
        minutes=["{number} минуты", "{number} минут", "{number} минут"],
        hours=["{number} часа", "{number} часов", "{number} часов"],
    )

    assert translation.lifetime(60 * 21) == "21 минуты"
    assert translation.lifetime(60 * 11) == "11 минут"


def test_a_form_for_one_number_may_omit_it() -> None:
    """A form for one number alone needs no {number}; the others must have it."""
    translation = a_translation(minutes=["one minute", "{number} minutes"])

    assert translation.lifetime(60) == "one minute"


@pytest.mark.parametrize(
    ("wrong", "at", "mistake"),
    [
        ({"plural": "n != "}, "plural", "unexpected end"),
        ({"plural": "import os"}, "plural", "invalid token"),
        ({"plural": 1}, "plural", "must be a text"),
        ({"plural": None}, "plural", "Field required"),
        ({"plural": "n"}, "minutes", "must have a form 2, which plural asks for"),
        ({"plural": "n/0"}, "minutes", "divide by zero"),
        ({"minutes": ["{number} minutes"]}, "minutes", "must have a form 1"),
        ({"minutes": []}, "minutes", "must have a form 0"),
        ({"minutes": ["a minute", "minutes"]}, "minutes", r"must have \{number\} in form 1"),
        ({"minutes": ["a minute", "{minutes}"]}, "minutes.1", r"must not have \{minutes\}"),
        ({"hours": ["an hour", "hours"]}, "hours", r"must have \{number\} in form 1"),
        ({"direction": "up"}, "direction", "'ltr' or 'rtl'"),
        ({"warning": None}, "warning", "Field required"),
        ({"warnings": "Hush."}, "warnings", "Extra inputs are not permitted"),
        ({"warning": "Hush at www.example.com"}, "warning", "must have no link"),
        ({"validity": "Good."}, "validity", r"must have \{lifetime\}"),
        ({"origin": "Asked for."}, "origin", r"must have \{product\}"),
        ({"branded_subject": "{product}"}, "branded_subject", r"must have \{subject\}"),
        (
            {"branded_subject": "{product} {subject} {code}"},
            "branded_subject",
            r"not have \{code\}",
        ),
        ({"purposes": {}}, "purposes", "must have confirm-address, sign-in, other"),
        ({"purposes": None}, "purposes", "Field required"),
    ],
)
def test_a_wrong_translation_is_refused(wrong: dict[str, Any], at: str, mistake: str) -> None:
    """The error of a mistake names its place."""
    with pytest.raises(ValidationError, match=mistake) as caught:
        a_translation(**wrong)

    assert at in [".".join(map(str, each["loc"])) for each in caught.value.errors()]


@pytest.mark.parametrize(
    ("opening", "at", "mistake"),
    [
        ({"subject": "{code}", "intro": "A code:"}, "subject", r"must not have \{code\}"),
        ({"subject": "A code\r\nBcc: e@x.example", "intro": "A code:"}, "subject", "control char"),
        ({"subject": "A code"}, "intro", "Field required"),
        ({"subject": "A code", "intro": "http://x.example"}, "intro", "must have no link"),
    ],
)
def test_opening_refused(opening: dict[str, str], at: str, mistake: str) -> None:
    """The error of a mistake in the opening of one purpose names its place."""
    with pytest.raises(ValidationError, match=mistake) as caught:
        a_translation(purposes={**ENGLISH["purposes"], "sign-in": opening})

    assert [each["loc"] for each in caught.value.errors()] == [("purposes", "sign-in", at)]


def test_no_name_of_a_purpose() -> None:
    """A purpose that no command can name is refused."""
    with pytest.raises(ValidationError, match="should match pattern"):
        a_translation(purposes={**ENGLISH["purposes"], "Sign in": ENGLISH["purposes"]["sign-in"]})


def test_a_purpose_of_a_deployment() -> None:
    """A purpose without an opening of its own has the general one."""
    own = {"subject": "A code to pay", "intro": "To pay:"}
    translation = a_translation(purposes={**ENGLISH["purposes"], "pay": own})

    assert translation.opening("pay").subject == "A code to pay"
    assert translation.opening("fly") == translation.opening("other")


@pytest.mark.parametrize("language", LANGUAGES)
def test_languages_differ(language: str) -> None:
    """No sentence is left in English, and no two purposes have the same opening."""
    translation, english = (translations.shipped().by_language[each] for each in (language, "en"))
    openings = {opening.intro for opening in translation.purposes.values()}

    assert len(openings) == len(translation.purposes)
    assert language == "en" or not _sentences(translation) & _sentences(english)


def _sentences(translation: Translation) -> set[str]:
    purposes = translation.purposes.values()
    openings = (text for each in purposes for text in (each.subject, each.intro))
    names = ("moment", "validity", "origin", "warning", "advice")
    return {*openings, *(getattr(translation, name) for name in names)}


def some_translations(*tags: str) -> Translations:
    """Return the shipped layouts and the same text in some languages."""
    return Translations.parse({**shipped_layouts(), **{f"{tag}.toml": toml() for tag in tags}})


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
    """A locale has the language that it is a variant of, or else the deployment's own."""
    assert some_translations("de", "en", "pt-br", "zh-hant").nearest(asked, "en-GB") == given


def test_the_guide_shows_a_language() -> None:
    """The example in docs/templates.md is valid as it stands."""
    (shown,) = re.findall(r"```toml\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    parsed = Translations.parse({**shipped_layouts(), "nl.toml": shown.encode()})

    assert parsed.by_language["nl"].lifetime(600) == "10 minutes"


def test_none_is_near() -> None:
    """A deployment's own language without a translation is an error."""
    with pytest.raises(KeyError):
        some_translations("de").nearest("fr", "en")


@pytest.mark.parametrize(
    ("files", "mistake"),
    [
        ({"x/de.toml": b"plural ="}, "x/de.toml: Invalid value (at end of document)"),
        ({"x/de.toml": b"a = 1\na = 2"}, "x/de.toml: Cannot overwrite a value"),
        ({"x/de.toml": b"# \xff"}, "x/de.toml: must be UTF-8"),
        ({"x/de.toml": toml(warning=None)}, "x/de.toml: warning: is required"),
        ({"x/de.toml": toml(plural="n")}, "x/de.toml: minutes: must have a form 2"),
        ({"x/de.txt": toml()}, "x/de.txt: must be mail.txt, mail.html or <language tag in lower"),
        ({"x/DE.toml": toml()}, "x/DE.toml: must be mail.txt, mail.html or"),
        ({"x/de_at.toml": toml()}, "x/de_at.toml: must be mail.txt, mail.html or"),
        ({"x/german.toml": toml()}, "x/german.toml: must be mail.txt, mail.html or"),
        ({"x/mail.txt": b"{code}"}, "x/mail.txt: must have {advice}; must have {intro}"),
        ({"x/mail.html": b"\xff"}, "x/mail.html: must be UTF-8"),
    ],
)
def test_a_wrong_file_is_refused(files: Mapping[str, bytes], mistake: str) -> None:
    """The error of a wrong file begins with its path."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 -- the text follows, braces and all
        Translations.parse({**shipped_layouts(), **files})

    assert str(caught.value).startswith(mistake)


def test_all_mistakes_at_once() -> None:
    """Every mistake in every file has a line of its own."""
    files = {
        "de.toml": toml(warning="Hush: http://x.example", origin="Here.", minutes=[]),
        "fr.toml": toml(purposes={"other": {"subject": "A code", "intro": "A code:"}}),
        "mail.txt": b"{code}{code}",
    }
    with pytest.raises(ValueError) as caught:  # noqa: PT011 -- the same
        Translations.parse({**shipped_layouts(), **files})

    assert sorted(line.partition(": must")[0] for line in str(caught.value).splitlines()) == [
        "de.toml: minutes",
        "de.toml: origin",
        "de.toml: warning",
        "fr.toml: purposes",
        "mail.txt",
    ]


def test_six_languages_are_shipped() -> None:
    """Six languages are shipped."""
    assert sorted(translations.shipped().by_language) == sorted(LANGUAGES)


def test_in_place_of_the_shipped(tmp_path: Path) -> None:
    """A deployment's file replaces the shipped one; a new language is one file."""
    (tmp_path / "en.toml").write_bytes(toml(warning="Hush."))
    (tmp_path / "pt-br.toml").write_bytes(toml())
    (tmp_path / "mail.txt").write_text("{intro}{validity}{origin}{warning}{advice}\n{code}\n")
    (tmp_path / "..data").mkdir()

    own, shipped = translations.read(str(tmp_path)), translations.shipped()

    assert own.by_language.keys() == {*LANGUAGES, "pt-br"}
    assert own.by_language["en"].warning == "Hush."
    assert own.by_language["de"].warning == shipped.by_language["de"].warning
    assert own.text.startswith("{intro}{validity}")
    assert own.html == shipped.html


def test_mistakes_name_the_file(tmp_path: Path) -> None:
    """The error of a mistake has the whole path of its file."""
    (tmp_path / "fr.toml").write_bytes(toml(advice=None))

    with pytest.raises(ValueError, match=r"^.*/fr\.toml: advice: is required$") as caught:
        translations.read(tmp_path)

    assert str(caught.value).startswith(str(tmp_path))


def test_no_path() -> None:
    """A value that is not a path is refused."""
    with pytest.raises(ValueError, match=r"^must be the path of a directory$"):
        translations.read(5)


def test_unusable_directories(tmp_path: Path) -> None:
    """A missing or empty directory, or a folder in it, is refused."""
    with pytest.raises(ValueError, match=r"nowhere: cannot be read, No such file"):
        translations.read(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r": must hold templates$"):
        translations.read(tmp_path)
    (tmp_path / "en.toml").mkdir()
    with pytest.raises(ValueError, match=r"en\.toml: cannot be read, Is a directory"):
        translations.read(tmp_path)
