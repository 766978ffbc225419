"""The command line's layer of the settings, and what `--help` tells."""

import argparse
import textwrap
from collections.abc import Callable, Sequence
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, get_args

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, CliSettingsSource, NoDecode, SettingsError

from shared.config.environment import FILE
from shared.config.layer import Layer, is_secret, perhaps, variable

CONFIG_FILE: Final = "CONFIG_FILE"  # the variable that says what --config says
_NO_VALUE: Final = "\0"  # no command line can hold it: execve(2) takes strings that NUL ends
_MALFORMED: Final = object()  # which no field takes
_WIDTH: Final = 96  # columns
_ABOUT: Final = """\
Each setting has a default or is required. Over the defaults goes the file of --config or
CONFIG_FILE, TOML or JSON; over the file the environment; over that the flags. OTP_TRIES in the
environment is --otp-tries as a flag and `tries` under [otp] in the file; what several services
have, as LOG_LEVEL, stands in the file before its sections, or in one of them for that service
alone. Lists and tables are JSON in the environment and in flags."""
_SECRETS: Final = f"""\
Any user of a machine can read its command lines, so secrets have no flags. They are set in the
environment or in the file; or the variable with {FILE} at its end names a file that holds the
secret and nothing else. Nobody but its owner may be able to read such a file."""


def read(
    settings: type[BaseSettings], service: str, arguments: Sequence[str]
) -> tuple[Layer, str | None]:
    """Read the flags, and the file that they name.

    Raises SystemExit with code 0 after it has printed the help or the version, where that is asked.
    """
    parser = _parser(settings, service)
    source = CliSettingsSource[argparse.ArgumentParser](
        settings,
        root_parser=parser,
        add_argument_method=_adder(settings, service, parser),
        cli_kebab_case=True,
        cli_hide_none_type=True,
    )
    parsed, others = parser.parse_known_args(arguments)
    given: dict[str, Any] = vars(parsed)
    mistakes = [*_bare(given), *_refused(settings, given), *_unknown(settings, others)]
    path = given.pop("config", None)
    values = {name: _decoded(source, name, text) for name, text in given.items()}
    return Layer(values, {name: _flag(name) for name in values}, tuple(mistakes)), path


def _bare(given: dict[str, Any]) -> Sequence[str]:
    """Take out what came without a value, and tell it."""
    bare = [name for name, text in given.items() if _NO_VALUE in text]
    for name in bare:
        del given[name]
    return [f"{_flag(name)}: needs a value" for name in bare]


def _refused(settings: type[BaseSettings], given: dict[str, Any]) -> Sequence[str]:
    """Take out the secrets, and tell that they are no secrets any more."""
    refused = [
        name for name in given if name != "config" and is_secret(settings.model_fields[name])
    ]
    for name in refused:
        del given[name]
    return [
        f"{_flag(name)}: command lines can be read by others; set {variable(name)} or"
        f" {variable(name)}{FILE}, and take a new secret"
        for name in refused
    ]


def _unknown(settings: type[BaseSettings], others: Sequence[str]) -> Sequence[str]:
    """Tell flags that are none. A word between them, which may be a secret, is not repeated."""
    fields = settings.model_fields.items()
    meant = {_flag(name): _flag(name) for name, setting in fields if not is_secret(setting)}
    flags = [word.partition("=")[0] for word in others if word.startswith("-")]
    if others and not flags:
        return ["a word on the command line belongs to no flag"]
    return [f"{flag}: there is no such flag{perhaps(flag, meant)}" for flag in flags]


def _decoded(source: CliSettingsSource[Any], name: str, text: object) -> object:
    """Read one flag's value: lists and tables out of their texts."""
    try:
        return source(parsed_args={name: text})()[name]
    except SettingsError:
        return _MALFORMED


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _parser(settings: type[BaseSettings], service: str) -> argparse.ArgumentParser:
    program = f"python -m services.{service}"
    parser = argparse.ArgumentParser(
        program,
        f"{program} [--config FILE] [--SETTING VALUE ...]",
        _ABOUT,
        _secrets(settings),
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"Postrider {version('postrider')}")
    parser.add_argument(
        "--config",
        nargs="?",
        const=_NO_VALUE,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help=f"TOML or JSON [{CONFIG_FILE}]",
    )
    return parser


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Shows every value as needed: that it may be missing is for us to tell it with the rest."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_WIDTH)

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        return str(action.metavar or default_metavar)


def _adder(
    settings: type[BaseSettings], service: str, parser: argparse.ArgumentParser
) -> Callable[..., object]:
    """Give what adds a flag: to its group, with our words, and never failing before the others."""
    own = parser.add_argument_group(f"settings of {service}")
    shared = parser.add_argument_group("settings of every service")

    def add(_parser: argparse.ArgumentParser, flag: str, **how: Any) -> object:  # noqa: ANN401 -- argparse's own
        name = how["dest"]
        setting = settings.model_fields[name]
        how |= {"nargs": "?", "const": _NO_VALUE, "metavar": _kind(setting, how["metavar"])}
        how["help"] = argparse.SUPPRESS if is_secret(setting) else _about(name, setting)
        group = own if name.startswith(f"{service}_") else shared
        return group.add_argument(flag, **how)

    return add


def _kind(setting: FieldInfo, metavar: str) -> str:
    """Name the type; of an enumeration the values, since they are what is written everywhere."""
    if NoDecode in setting.metadata:
        return "str"
    for each in (setting.annotation, *get_args(setting.annotation)):
        if isinstance(each, type) and issubclass(each, Enum):
            return f"{{{','.join(str(member.value) for member in each)}}}"
    return metavar


def _about(name: str, setting: FieldInfo) -> str:
    told = f"{setting.description} ({_default(setting)}) [{variable(name)}]"
    return told.replace(" ()", "").replace("%", "%%")


def _default(setting: FieldInfo) -> str:
    if setting.is_required():
        return "required"
    match setting.default:
        case bool() as value:
            return f"default: {str(value).lower()}"
        case float() as value:
            return f"default: {value:.15g}"
        case int() | str() | Path() as value:
            return f"default: {value}"
        case _:
            return ""  # none, which the description explains


def _secrets(settings: type[BaseSettings]) -> str:
    lines = (
        textwrap.fill(
            f"{variable(name):<22}{setting.description} ({_default(setting)})".replace(" ()", ""),
            _WIDTH,
            initial_indent="  ",
            subsequent_indent=" " * 24,
        )
        for name, setting in settings.model_fields.items()
        if is_secret(setting)
    )
    return "\n".join(("secrets:", textwrap.indent(_SECRETS, "  "), "", *lines))
