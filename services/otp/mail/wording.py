"""Pure: what a mail with a code says in one language, as a TOML file has it."""

import gettext
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationInfo,
    field_validator,
)

from services.otp.mail.template import check_sentence, fill, placeholders
from shared.contracts.codes import CONFIRM_ADDRESS
from shared.contracts.fields import Purpose

OTHER = "other"  # what is said for a purpose that has no words of its own
PURPOSES = (CONFIRM_ADDRESS, "sign-in", OTHER)
MINUTE = 60  # seconds
HOUR = 60  # minutes
DAY = 24  # hours; no code lives longer
LONG = 2 * HOUR  # in minutes: from there on a time is told in hours
NUMBERS = {"minutes": range(1, LONG), "hours": range(LONG // HOUR, DAY + 1)}
_NUMBER = frozenset({"number"})


def _with(*needed: str) -> AfterValidator:
    return AfterValidator(lambda text: check_sentence(text, frozenset(needed)))


def _plural(expression: object) -> Callable[[int], int]:
    if not isinstance(expression, str):
        raise ValueError("must be a text")  # noqa: TRY004 -- pydantic tells a ValueError
    return gettext.c2py(expression)


def _check_form(text: str) -> str:
    return check_sentence(text, placeholders(text) & _NUMBER)


Sentence = Annotated[str, _with()]
# As after `plural=` in the catalogues of gettext, which are there for every language.
Plural = Annotated[Callable[[int], int], BeforeValidator(_plural)]
Forms = tuple[Annotated[str, AfterValidator(_check_form)], ...]


class _TranslationPart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Opening(_TranslationPart):
    """How a mail with a code for one purpose begins."""

    subject: Sentence
    intro: Sentence


class Translation(_TranslationPart):
    """All that is said in one language, without HTML.

    `minutes` and `hours` are the plural forms of {number} minutes and hours, in the case that
    `validity` needs; `plural` chooses the form, counted from 0. `moment` is less than a minute.
    """

    direction: Literal["ltr", "rtl"] = "ltr"
    plural: Plural
    minutes: Forms
    hours: Forms
    moment: Sentence
    branded_subject: Annotated[str, _with("product", "subject")]
    validity: Annotated[str, _with("lifetime")]
    origin: Annotated[str, _with("product")]
    warning: Sentence
    advice: Sentence
    purposes: Mapping[Purpose, Opening]

    def opening(self, purpose: str) -> Opening:
        """Give how a mail begins, in general words for a purpose without its own."""
        return self.purposes.get(purpose) or self.purposes[OTHER]

    def lifetime(self, seconds: float) -> str:
        """Say a time in whole minutes or hours, never more than there is."""
        minutes = int(seconds // MINUTE)
        if minutes < 1:
            return self.moment
        if minutes < LONG:
            return self._counted(self.minutes, minutes)
        return self._counted(self.hours, minutes // HOUR)

    def _counted(self, forms: Sequence[str], number: int) -> str:
        return fill(forms[self.plural(number)], {"number": str(number)})

    @field_validator("minutes", "hours")
    @classmethod
    def _has_its_forms(cls, forms: Sequence[str], info: ValidationInfo) -> Sequence[str]:
        plural = info.data.get("plural")  # absent when it is wrong itself
        mistakes = list(_mistakes(forms, plural, NUMBERS[str(info.field_name)])) if plural else []
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return forms

    @field_validator("purposes")
    @classmethod
    def _has_its_purposes(cls, given: Mapping[str, Opening]) -> Mapping[str, Opening]:
        missing = [purpose for purpose in PURPOSES if purpose not in given]
        if missing:
            raise ValueError(f"must have {', '.join(missing)}")
        return given


def _mistakes(
    forms: Sequence[str], plural: Callable[[int], int], numbers: Sequence[int]
) -> Iterator[str]:
    try:
        uses = Counter(map(plural, numbers))
    except ZeroDivisionError:
        yield "must have a plural that does not divide by zero"
        return
    for form, count in sorted(uses.items()):
        if not 0 <= form < len(forms):
            yield f"must have a form {form}, which plural asks for"
        elif count > 1 and "number" not in placeholders(forms[form]):
            yield f"must have {{number}} in form {form}"
