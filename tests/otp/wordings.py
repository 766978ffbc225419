"""What mails say, as tests need it."""

from collections.abc import Mapping
from typing import Any

import orjson

from services.otp.mail import folder
from services.otp.mail.wording import Translation

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


def a_wording(**more: Any) -> Translation:  # noqa: ANN401 -- fields of the wording
    """Give a wording with some parts changed; what is None is left out."""
    return Translation.model_validate(parts(**more))


def parts(**more: Any) -> dict[str, Any]:  # noqa: ANN401 -- the same
    """Give the parts of a wording, some changed; what is None is left out."""
    return {name: part for name, part in {**ENGLISH, **more}.items() if part is not None}


def toml(**more: Any) -> bytes:  # noqa: ANN401 -- the same
    """Give a file with a wording; TOML's strings and lists are those of JSON."""
    given = parts(**more)
    purposes = given.pop("purposes", {})
    lines = [f"{name} = ".encode() + orjson.dumps(part) for name, part in given.items()]
    for name, opening in purposes.items():
        lines.append(f"[purposes.{name}]".encode())
        lines += (f"{part} = ".encode() + orjson.dumps(text) for part, text in opening.items())
    return b"\n".join(lines)


def shipped_layouts() -> dict[str, bytes]:
    """Give the layouts that are shipped."""
    return {name: (folder.SHIPPED / name).read_bytes() for name in ("mail.txt", "mail.html")}
