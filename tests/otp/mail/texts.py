"""Texts of mails for tests."""

from collections.abc import Mapping
from typing import Any

import orjson

from services.otp.mail import translations
from services.otp.mail.translations import Translation

ENGLISH: Mapping[str, Any] = {
    "plural": "n != 1",
    "minutes": ["{number} minute", "{number} minutes"],
    "hours": ["{number} hour", "{number} hours"],
    "moment": "less than a minute",
    "branded_subject": "{product}: {subject}",
    "validity": "Good for {lifetime}.",
    "origin": "Asked for at {product}.",
    "warning": "Tell nobody.",
    "advice": "Or ignore it.",
    "purposes": {
        name: {"subject": f"Code, {name}", "intro": f"A code to {name}:"}
        for name in ("confirm-address", "sign-in", "other")
    },
}
LANGUAGES = ("de", "en", "es", "fr", "ja", "vi")


def a_translation(**more: Any) -> Translation:  # noqa: ANN401 -- fields of the translation
    """Return a translation with some parts changed; a part of None is left out."""
    return Translation.model_validate(parts(**more))


def parts(**more: Any) -> dict[str, Any]:  # noqa: ANN401 -- the same
    """Return the parts of a translation, some changed; a part of None is left out."""
    return {name: part for name, part in {**ENGLISH, **more}.items() if part is not None}


def toml(**more: Any) -> bytes:  # noqa: ANN401 -- the same
    """Return the file of a translation; TOML writes strings and lists as JSON does."""
    given = parts(**more)
    purposes = given.pop("purposes", {})
    lines = [f"{name} = ".encode() + orjson.dumps(part) for name, part in given.items()]
    for name, opening in purposes.items():
        lines.append(f"[purposes.{name}]".encode())
        lines += (f"{part} = ".encode() + orjson.dumps(text) for part, text in opening.items())
    return b"\n".join(lines)


def shipped_layouts() -> dict[str, bytes]:
    """Return the shipped layouts."""
    return {name: (translations.SHIPPED / name).read_bytes() for name in ("mail.txt", "mail.html")}
