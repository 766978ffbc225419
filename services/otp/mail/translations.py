"""The texts of mails with codes in every language, read from files and checked as a whole.

Texts have placeholders like {lifetime}; a deployment may write them itself.
"""

import gettext
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from shared.contracts import address, wording
from shared.contracts.codes import CONFIRM_ADDRESS
from shared.contracts.fields import Purpose

CODE = "code"
MAX_SENTENCE_CHARS = 300

_PLACEHOLDER = re.compile(r"\{([a-z]+)\}")
# Texts that a mail program turns into a link, or loads. A code is typed where it was requested:
# recipients used to links in such mails follow the link of a forged one.
_LINK = re.compile(
    r"://|\bwww\.|\b(?:mailto|tel|javascript):|\b(?:href|src|srcset|action|background)\s*="
    r"|\burl\s*\(|@import\b|<\s*(?:a|area|base|form|img|iframe|link|object|embed|script|svg)\b",
    re.IGNORECASE,
)


SHIPPED = Path(__file__).parent / "templates"
TEXT_LAYOUT, HTML_LAYOUT = "mail.txt", "mail.html"
OTHER = "other"  # its texts serve every purpose without texts of its own
REQUIRED_PURPOSES = (CONFIRM_ADDRESS, "sign-in", OTHER)

MINUTE_SECONDS = 60
HOUR_MINUTES = 60
MIN_MINUTES_IN_HOURS = 2 * HOUR_MINUTES  # a longer time is shown in hours
MAX_HOURS = 24  # no code lives longer
_NUMBERS = {
    "minutes": range(1, MIN_MINUTES_IN_HOURS),
    "hours": range(MIN_MINUTES_IN_HOURS // HOUR_MINUTES, MAX_HOURS + 1),
}
_NUMBER = frozenset({"number"})
_TAG = re.compile(r"[a-z]{2,3}(?:-[a-z0-9]{1,8})*")  # RFC 5646 2.1, one spelling of each
_PARTS = frozenset({CODE, "intro", "validity", "origin", "warning", "advice"})
_LAYOUTS = {
    TEXT_LAYOUT: (_PARTS, frozenset({"subject"})),
    HTML_LAYOUT: (_PARTS | {"lang", "direction"}, frozenset({"subject"})),
}


def placeholders(text: str) -> frozenset[str]:
    """Return the names of the placeholders in a text."""
    return frozenset(_PLACEHOLDER.findall(text))


def fill(text: str, values: Mapping[str, str]) -> str:
    """Replace placeholders by values; a placeholder inside a value stays as it is."""
    return _PLACEHOLDER.sub(lambda found: values[found[1]], text)


def fill_lines(text: str, values: Mapping[str, str]) -> str:
    """Replace placeholders by values, and drop each line with an empty value."""
    lines = text.splitlines()
    kept = (line for line in lines if all(values[name] for name in placeholders(line)))
    return "".join(f"{fill(line, values)}\n" for line in kept)


def check_sentence(text: str, needed: frozenset[str] = frozenset()) -> str:
    """Return a line of text that has each of `needed` and no other placeholder.

    Raises ValueError that names all mistakes.
    """
    return _checked(text, [*_line_mistakes(text), *_text_mistakes(text, needed, needed)])


def check_layout(text: str, needed: frozenset[str], allowed: frozenset[str]) -> str:
    """Return a layout that has all of `needed`, the code alone on its line.

    Braces around anything but one word are the layout's own, as in CSS. Raises ValueError that
    names all mistakes.
    """
    mistakes = list(_text_mistakes(text, needed, needed | allowed))
    lines = [line.strip() for line in text.splitlines() if f"{{{CODE}}}" in line]
    if any(line != f"{{{CODE}}}" for line in lines):
        mistakes.append("must have {code} alone on its line")
    return _checked(text, mistakes)


def check_no_link(text: str) -> str:
    """Return a text that no mail program turns into a link. Raises ValueError."""
    if _LINK.search(text):
        raise ValueError("must have no link")
    return text


def _line_mistakes(text: str) -> Iterator[str]:
    if not text.strip() or text != text.strip() or len(text) > MAX_SENTENCE_CHARS:
        yield f"must have 1 to {MAX_SENTENCE_CHARS} characters without outer spaces"
    try:
        address.check_header_text(text)
    except ValueError as error:
        yield str(error)
    if set(_PLACEHOLDER.sub("", text)) & {"{", "}"}:
        yield "must have no braces but those of placeholders"


def _text_mistakes(text: str, needed: frozenset[str], allowed: frozenset[str]) -> Iterator[str]:
    found = placeholders(text)
    if CODE in found - allowed:
        # Relays log subjects, and locked screens show them.
        yield "must not have {code}, whose place is in the layouts"
    yield from (f"must not have {{{name}}}" for name in sorted(found - allowed - {CODE}))
    yield from (f"must have {{{name}}}" for name in sorted(needed - found))
    if _LINK.search(text):
        yield "must have no link"


def _checked(text: str, mistakes: list[str]) -> str:
    if mistakes:
        raise ValueError("; ".join(mistakes))
    return text


def _with(*needed: str) -> AfterValidator:
    return AfterValidator(lambda text: check_sentence(text, frozenset(needed)))


def _plural(expression: object) -> Callable[[int], int]:
    if not isinstance(expression, str):
        raise ValueError("must be a text")  # noqa: TRY004 -- pydantic reports a ValueError
    return gettext.c2py(expression)


def _check_form(text: str) -> str:
    return check_sentence(text, placeholders(text) & _NUMBER)


Sentence = Annotated[str, _with()]
# As after `plural=` in the catalogues of gettext, which exist for every language.
Plural = Annotated[Callable[[int], int], BeforeValidator(_plural)]
Forms = tuple[Annotated[str, AfterValidator(_check_form)], ...]


class Opening(BaseModel):
    """The beginning of a mail with a code for one purpose."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: Sentence
    intro: Sentence


class Translation(BaseModel):
    """All texts in one language, without HTML.

    `minutes` and `hours` are the plural forms of {number} minutes and hours, in the case that
    `validity` needs; `plural` chooses the form, counted from 0. `moment` is less than a minute.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

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
        """Return the beginning of a mail, in general words for a purpose without its own."""
        return self.purposes.get(purpose) or self.purposes[OTHER]

    def lifetime(self, seconds: float) -> str:
        """Return the text of a time, rounded down to whole minutes or hours."""
        minutes = int(seconds // MINUTE_SECONDS)
        if minutes < 1:
            return self.moment
        if minutes < MIN_MINUTES_IN_HOURS:
            return self._counted(self.minutes, minutes)
        return self._counted(self.hours, minutes // HOUR_MINUTES)

    def _counted(self, forms: Sequence[str], number: int) -> str:
        return fill(forms[self.plural(number)], {"number": str(number)})

    @field_validator("minutes", "hours")
    @classmethod
    def _has_its_forms(cls, forms: Sequence[str], info: ValidationInfo) -> Sequence[str]:
        plural = info.data.get("plural")  # absent when it is wrong itself
        mistakes = list(_form_mistakes(forms, plural, str(info.field_name))) if plural else []
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return forms

    @field_validator("purposes")
    @classmethod
    def _has_its_purposes(cls, given: Mapping[str, Opening]) -> Mapping[str, Opening]:
        missing = [purpose for purpose in REQUIRED_PURPOSES if purpose not in given]
        if missing:
            raise ValueError(f"must have {', '.join(missing)}")
        return given


@dataclass(frozen=True, slots=True)
class Translations:
    """A translation for each language tag, and the layouts that join the parts of a mail."""

    by_language: Mapping[str, Translation]
    text: str
    html: str

    @classmethod
    def parse(cls, files: Mapping[str, bytes]) -> Self:
        """Parse `<language tag>.toml`, mail.txt and mail.html, by their paths.

        Raises ValueError with a line for each mistake, which begins with the path.
        """
        by_language, layouts, mistakes = dict[str, Translation](), dict[str, str](), list[str]()
        for path, octets in files.items():
            name = Path(path).name
            try:
                if name in _LAYOUTS:
                    layouts[name] = check_layout(_decode(octets), *_LAYOUTS[name])
                else:
                    content = tomllib.loads(_decode(octets))
                    by_language[_language_tag(name)] = Translation.model_validate(content)
            except ValueError as error:
                mistakes += (f"{path}: {line}" for line in _lines(error))
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return cls(by_language, layouts[TEXT_LAYOUT], layouts[HTML_LAYOUT])

    def nearest(self, *locales: str | None) -> str:
        """Return the language tag nearest to the first locale that has one: for de-AT perhaps de.

        Locales are cut from their end until they are known (RFC 4647 3.4). Raises KeyError when
        none of them is.
        """
        for locale in locales:
            tag = (locale or "").replace("_", "-").lower()
            while tag and tag not in self.by_language:
                tag = tag.rpartition("-")[0]
            if tag:
                return tag
        raise KeyError(locales)


@cache
def shipped() -> Translations:
    """Read the shipped files."""
    return _read(SHIPPED)


def read(directory: object) -> Translations:
    """Read the shipped files, each replaced by the file of its name in `directory`, if any.

    Names that begin with a dot are skipped: orchestrators keep their own links there. Raises
    ValueError with a line for each mistake, which names the file.
    """
    if not isinstance(directory, str | Path):
        raise ValueError("must be the path of a directory")  # noqa: TRY004 -- a setting's mistake
    return _read(SHIPPED, Path(directory))


def _read(*folders: Path) -> Translations:
    try:
        files = {file.name: file for folder in folders for file in _files(folder)}
        return Translations.parse({str(file): file.read_bytes() for file in files.values()})
    except OSError as error:
        raise ValueError(f"{error.filename}: cannot be read, {error.strerror}") from None


def _files(folder: Path) -> Iterable[Path]:
    files = [each for each in sorted(folder.iterdir()) if not each.name.startswith(".")]
    if not files:
        raise ValueError(f"{folder}: must hold templates")
    return files


def _language_tag(name: str) -> str:
    tag = name.removesuffix(".toml")
    if tag == name or not _TAG.fullmatch(tag):
        layouts = f"{TEXT_LAYOUT}, {HTML_LAYOUT}"
        raise ValueError(f"must be {layouts} or <language tag in lower case>.toml")
    return tag


def _decode(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise ValueError("must be UTF-8") from None


def _lines(error: ValueError) -> Iterable[str]:
    if not isinstance(error, ValidationError):
        return [str(error)]
    return (
        f"{wording.place(each['loc'])}: {wording.detail(each)}"
        for each in error.errors(include_input=False, include_url=False)
    )


def _form_mistakes(forms: Sequence[str], plural: Callable[[int], int], unit: str) -> Iterator[str]:
    try:
        uses = Counter(map(plural, _NUMBERS[unit]))
    except ZeroDivisionError:
        yield "must have a plural that does not divide by zero"
        return
    for form, count in sorted(uses.items()):
        if not 0 <= form < len(forms):
            yield f"must have a form {form}, which plural asks for"
        elif count > 1 and "number" not in placeholders(forms[form]):
            yield f"must have {{number}} in form {form}"
