"""Pure: texts with placeholders like {lifetime}, as a deployment may write them itself."""

import re
from collections.abc import Iterator, Mapping

from shared.contracts import address

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
