"""The command line as a source of settings, and the text of `--help`."""

import argparse
import textwrap
from collections.abc import Sequence
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode

from shared.config.sources import FILE, Layer, decoded, is_secret, perhaps, variable

CONFIG_FILE: Final = "CONFIG_FILE"  # the variable of --config
_NO_VALUE: Final = "\0"  # no command line can hold it: execve(2) takes strings that NUL ends
_WIDTH: Final = 96  # columns of the help
_ABOUT: Final = """\
Each setting has a default or is required. The file of --config or CONFIG_FILE, TOML or JSON,
overrides the defaults; the environment overrides the file; flags override the environment.
OTP_TRIES in the environment is --otp-tries as a flag and `tries` under [otp] in the file.
Settings of several services, such as LOG_LEVEL, stand in the file before its sections, or in
one of them for that service alone. Lists and tables are JSON in the environment and in flags."""
_SECRETS: Final = f"""\
Any user of a machine can read its command lines, so secrets have no flags. They are set in the
environment or in the file; or the variable with {FILE} at its end names a file that holds the
secret and nothing else. Only the owner of such a file may be able to read it."""


def read(
    settings: type[BaseSettings], service: str, arguments: Sequence[str]
) -> tuple[Layer, str | None]:
    """Read the flags, and return the path of --config with them.

    Raises SystemExit with code 0 after it has printed the help or the version, where asked.
    """
    parsed, others = _parser(settings, service).parse_known_args(arguments)
    given: dict[str, str] = vars(parsed)
    mistakes = []
    for name, text in [*given.items()]:
        if mistake := _flag_mistake(settings, name, text):
            mistakes.append(mistake)
            del given[name]
    mistakes += _unknown_flags(settings, others)
    path = given.pop("config", None)
    values = decoded(settings, {variable(name): text for name, text in given.items()})
    return Layer(values, {name: _flag(name) for name in values}, tuple(mistakes)), path


def _flag_mistake(settings: type[BaseSettings], name: str, text: str) -> str | None:
    if text == _NO_VALUE:
        return f"{_flag(name)}: needs a value"
    if name != "config" and is_secret(settings.model_fields[name]):
        either = f"{variable(name)} or {variable(name)}{FILE}"
        return (
            f"{_flag(name)}: command lines can be read by others; set {either},"
            " and take a new secret"
        )
    return None


def _unknown_flags(settings: type[BaseSettings], others: Sequence[str]) -> Sequence[str]:
    """Return the mistakes for unknown words; a word without a dash, perhaps a secret, is hidden."""
    fields = settings.model_fields.items()
    meant = {_flag(name): _flag(name) for name, setting in fields if not is_secret(setting)}
    flags = [word.partition("=")[0] for word in others if word.startswith("-")]
    if others and not flags:
        return ["a word on the command line belongs to no flag"]
    return [f"{flag}: there is no such flag{perhaps(flag, meant)}" for flag in flags]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Shows a value after each flag; a missing value is reported with the other mistakes."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_WIDTH)

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        return str(action.metavar or default_metavar)


def _parser(settings: type[BaseSettings], service: str) -> argparse.ArgumentParser:
    program = f"python -m services.{service}"
    parser = argparse.ArgumentParser(
        program,
        f"{program} [--config FILE] [--SETTING VALUE ...]",
        _ABOUT,
        _secrets(settings),
        formatter_class=_Formatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--version", action="version", version=f"Postrider {version('postrider')}")
    needs: Any = {"nargs": "?", "const": _NO_VALUE}
    parser.add_argument("--config", metavar="FILE", help=f"TOML or JSON [{CONFIG_FILE}]", **needs)
    own = parser.add_argument_group(f"settings of {service}")
    shared = parser.add_argument_group("settings of every service")
    for name, setting in settings.model_fields.items():
        group = own if name.startswith(f"{service}_") else shared
        about = f"{_about(setting)} [{variable(name)}]".replace("%", "%%")
        hidden = is_secret(setting)
        about = argparse.SUPPRESS if hidden else about
        group.add_argument(_flag(name), metavar=_kind(setting), help=about, **needs)
    return parser


def _kind(setting: FieldInfo) -> str:
    """Return the type of a setting for the help; of an enumeration, its values."""
    if NoDecode in setting.metadata:
        return "str"
    annotation: Any = setting.annotation
    options = [each for each in get_args(annotation) if each is not NoneType]
    kind: Any = options[0] if NoneType in get_args(annotation) else annotation
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"{{{','.join(str(member.value) for member in kind)}}}"
    if get_origin(kind) is Literal:
        return f"{{{','.join(get_args(kind))}}}"
    return "JSON" if get_origin(kind) else str(kind.__name__)


def _about(setting: FieldInfo) -> str:
    if setting.is_required():
        return f"{setting.description} (required)"
    match setting.default:
        case bool() as value:
            return f"{setting.description} (default: {str(value).lower()})"
        case float() as value:
            return f"{setting.description} (default: {value:.15g})"
        case int() | str() | Path() as value:
            return f"{setting.description} (default: {value})"
        case _:
            return str(setting.description)  # which explains what none means


def _secrets(settings: type[BaseSettings]) -> str:
    lines = (
        textwrap.fill(
            f"{variable(name):<22}{_about(setting)}",
            _WIDTH,
            initial_indent="  ",
            subsequent_indent=" " * 24,
        )
        for name, setting in settings.model_fields.items()
        if is_secret(setting)
    )
    return "\n".join(("secrets:", textwrap.indent(_SECRETS, "  "), "", *lines))
