"""One layer of settings, and the words in which it is told what is wrong there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import NoDecode


@dataclass(frozen=True, slots=True)
class Layer:
    """Values by their fields, how the user names those fields, and a line for each mistake.

    The mistakes are those of reading; whether a value can be used is seen when all layers are
    there. The fields that are `unread` were set, by a file that cannot be used.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    mistakes: tuple[str, ...] = ()
    unread: frozenset[str] = frozenset()


def is_secret(setting: FieldInfo) -> bool:
    """Tell whether what is given is for nobody's eyes: neither in a log nor in a command line.

    With NoDecode, what is given is a path, and what is not shown is what was read there.
    """
    return setting.repr is False and NoDecode not in setting.metadata


def variable(field_name: str) -> str:
    """Name the environment variable of a field."""
    return field_name.upper()


def perhaps(word: str, meant: Mapping[str, str]) -> str:
    """Return a hint at the nearest of the words that are `meant`, as its value shows it."""
    near = get_close_matches(word.lower(), meant, n=1)
    return f"; perhaps {meant[near[0]]}?" if near else ""


def reason(error: Exception) -> str:
    """Return the words of an error, without the path that an OSError repeats."""
    return (isinstance(error, OSError) and error.strerror) or str(error)
