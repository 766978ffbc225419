"""Tests of what is said in one language."""

from typing import Any

import pytest
from pydantic import ValidationError

from services.otp.mail import folder
from services.otp.mail.wording import Translation
from tests.otp.wordings import ENGLISH, LANGUAGES, a_wording

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
    """The time told is what is left, rounded down to minutes or, from two hours on, to hours."""
    assert a_wording().lifetime(seconds) == spoken


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
    """Each language that is shipped has its plural forms."""
    translation = folder.shipped().by_language[language]

    assert tuple(translation.lifetime(seconds) for seconds in (30, 60, 600, 7200)) == spoken


def test_plural_of_a_new_language() -> None:
    """A language brings its own rule, of as many forms as it has."""
    translation = a_wording(
        plural=SLAVIC,
        minutes=["{number} минуты", "{number} минут", "{number} минут"],
        hours=["{number} часа", "{number} часов", "{number} часов"],
    )

    assert translation.lifetime(60 * 21) == "21 минуты"
    assert translation.lifetime(60 * 11) == "11 минут"


def test_a_form_for_one_number_need_not_tell_it() -> None:
    """A form that stands for one number alone may say it in words; the others have to tell it."""
    translation = a_wording(minutes=["one minute", "{number} minutes"])

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
def test_refused(wrong: dict[str, Any], at: str, mistake: str) -> None:
    """Each mistake is told with the place where it is."""
    with pytest.raises(ValidationError, match=mistake) as caught:
        a_wording(**wrong)

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
    """So is a mistake in what is said for one purpose."""
    with pytest.raises(ValidationError, match=mistake) as caught:
        a_wording(purposes={**ENGLISH["purposes"], "sign-in": opening})

    assert [each["loc"] for each in caught.value.errors()] == [("purposes", "sign-in", at)]


def test_no_name_of_a_purpose() -> None:
    """A purpose that no command can name is a mistake of whoever wrote it."""
    with pytest.raises(ValidationError, match="should match pattern"):
        a_wording(purposes={**ENGLISH["purposes"], "Sign in": ENGLISH["purposes"]["sign-in"]})


def test_a_purpose_of_a_deployment() -> None:
    """A purpose with words of its own has them, any other is said in general words."""
    own = {"subject": "A code to pay", "intro": "To pay:"}
    translation = a_wording(purposes={**ENGLISH["purposes"], "pay": own})

    assert translation.opening("pay").subject == "A code to pay"
    assert translation.opening("fly") == translation.opening("other")


@pytest.mark.parametrize("language", LANGUAGES)
def test_languages_differ(language: str) -> None:
    """Nothing is left in English, and no two purposes are said alike."""
    translation, english = (folder.shipped().by_language[each] for each in (language, "en"))
    openings = {opening.intro for opening in translation.purposes.values()}

    assert len(openings) == len(translation.purposes)
    assert language == "en" or not _sentences(translation) & _sentences(english)


def _sentences(translation: Translation) -> set[str]:
    openings = (
        text for each in translation.purposes.values() for text in (each.subject, each.intro)
    )
    return {
        translation.moment,
        translation.validity,
        translation.origin,
        translation.warning,
        translation.advice,
    } | {*openings}
