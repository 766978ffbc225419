"""Pure: what mails with codes say in all languages, read from files and checked whole."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Self

from pydantic import ValidationError

from services.otp.mail.template import CODE, check_layout
from services.otp.mail.wording import Translation

TEXT, HTML = "mail.txt", "mail.html"

_TAG = re.compile(r"[a-z]{2,3}(?:-[a-z0-9]{1,8})*")  # RFC 5646 2.1; lower case, so that one is one
_PARTS = frozenset({CODE, "intro", "validity", "origin", "warning", "advice"})
_LAYOUTS = {
    TEXT: (_PARTS, frozenset({"subject"})),
    HTML: (_PARTS | {"lang", "direction"}, frozenset({"subject"})),
}


@dataclass(frozen=True, slots=True)
class Translations:
    """A wording for each language tag, and the layouts that put the parts of a mail together."""

    by_language: Mapping[str, Translation]
    text: str
    html: str

    @classmethod
    def read(cls, files: Mapping[str, bytes]) -> Self:
        """Read `<language tag>.toml`, mail.txt and mail.html, by their paths.

        Raises ValueError with a line for each mistake, which begins with the path.
        """
        by_language, layouts, mistakes = dict[str, Translation](), dict[str, str](), list[str]()
        for path, octets in files.items():
            name = PurePath(path).name
            try:
                if name in _LAYOUTS:
                    layouts[name] = check_layout(_decoded(octets), *_LAYOUTS[name])
                else:
                    by_language[_tag(name)] = _wording(octets)
            except ValueError as error:
                mistakes += (f"{path}: {line}" for line in _lines(error))
        if mistakes:
            raise ValueError("\n".join(mistakes))
        return cls(by_language, layouts[TEXT], layouts[HTML])

    def nearest(self, *locales: str | None) -> str:
        """Give the language tag nearest to the first locale that has one: for de-AT it may be de.

        Locales are cut from their end until they are known (RFC 4647 3.4). Raises KeyError when
        none is.
        """
        for locale in locales:
            tag = (locale or "").replace("_", "-").lower()
            while tag and tag not in self.by_language:
                tag = tag.rpartition("-")[0]
            if tag:
                return tag
        raise KeyError(locales)


def _tag(name: str) -> str:
    tag = name.removesuffix(".toml")
    if tag == name or not _TAG.fullmatch(tag):
        raise ValueError(f"must be {TEXT}, {HTML} or <language tag in lower case>.toml")
    return tag


def _wording(octets: bytes) -> Translation:
    return Translation.model_validate(tomllib.loads(_decoded(octets)))


def _decoded(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        raise ValueError("must be UTF-8") from None


def _lines(error: ValueError) -> Iterable[str]:
    if not isinstance(error, ValidationError):
        return [str(error)]
    found = error.errors(include_input=False, include_url=False)
    return (
        f"{'.'.join(map(str, each['loc']))}: {each['msg'].removeprefix('Value error, ')}"
        for each in found
    )
