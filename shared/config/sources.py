"""The sources of settings: a file and the environment, each read whole; and files of secrets."""

import json
import os
import re
import stat
import tomllib
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode

from shared.errors import ConfigError
from shared.topology import Owner

FILE: Final = "_FILE"  # after a secret's variable: a file that holds it, as Docker's images do it
_READERS: Final[Mapping[str, Callable[[str], object]]] = {
    ".toml": tomllib.loads,
    ".json": json.loads,
}
_SECTIONS: Final = {owner.value: f"the section {owner}" for owner in Owner}
# For several services, though not for all.
_OF_SOME: Final = frozenset({"sealing_key", "suppression_key"})
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
# Kubernetes gives each container of a namespace some variables for each Service in it, Docker's
# links did the same: a Service `otp` makes OTP_SERVICE_HOST, OTP_PORT=tcp://10.0.0.1:80 and
# OTP_PORT_80_TCP_ADDR. https://kubernetes.io/docs/concepts/services-networking/service/
_OF_ORCHESTRATORS: Final = re.compile(
    r"\w+_SERVICE_(HOST|PORT(_\w+)?)|\w+_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?|\w+?_ENV_\w+"
)
_LINK: Final = re.compile(r"(tcp|udp|sctp)://")
# An operator creates the accounts of a service with these: `ops topology grant`, ops/roles.sql.
_OF_ACCOUNTS: Final = ("_AMQP_PASSWORD", "_DATABASE_PASSWORD")


@dataclass(frozen=True, slots=True)
class Layer:
    """The values of one source by their fields, the user's names of the fields, and the mistakes.

    The mistakes are those of reading; whether a value is valid is checked when all layers are
    there. The fields that are `unread` were set, by a file that cannot be used.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    mistakes: tuple[str, ...] = ()
    unread: frozenset[str] = frozenset()


class SettingsWarning(UserWarning):
    """A risk in the settings that an operator should see; the service starts all the same."""


def is_secret(setting: FieldInfo) -> bool:
    """Return whether a value may be neither in a log nor in a command line.

    With NoDecode the value is a path, and `repr` is off for what was read there.
    """
    return setting.repr is False and NoDecode not in setting.metadata


def variable(field_name: str) -> str:
    """Return the environment variable of a field."""
    return field_name.upper()


def perhaps(word: str, meant: Mapping[str, str]) -> str:
    """Return a hint at the nearest of the words that are `meant`, as its value shows it."""
    near = get_close_matches(word.lower(), meant, n=1)
    return f"; perhaps {meant[near[0]]}?" if near else ""


def reason(error: Exception) -> str:
    """Return the text of an error, without the path that an OSError repeats."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def check_private(path: Path) -> Path:
    """Return the path of a file that only its owner can read. Raise ValueError for another one.

    Docker and Kubernetes mount secrets as root's, for all users of a container to read (0444 or
    0644), in a file system that is read-only there. Its user cannot change that, and nobody else
    is in the container. Such a file is a SettingsWarning where all users can read it; Kubernetes
    lets a group alone read it where `fsGroup` is set. Raises OSError.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or not status.st_mode & _OTHERS:
        return path
    mode = f"{stat.S_IMODE(status.st_mode):04o}"
    owns = os.geteuid() in {0, status.st_uid}
    if owns and not os.statvfs(path).f_flag & os.ST_RDONLY:
        raise ValueError(f"others can read {path} (mode {mode}): chmod 600 {path}")
    if status.st_mode & stat.S_IRWXO:
        warnings.warn(f"all users can read {path} (mode {mode})", SettingsWarning, stacklevel=2)
    return path


def load_file(path: Path) -> Mapping[str, Any]:
    """Return all that a TOML or JSON file holds. Raises ConfigError."""
    if path.suffix not in _READERS:
        raise ConfigError(f"{path}: its name must end in .toml or .json")
    try:
        tree = _READERS[path.suffix](path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {reason(error)}") from error
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{path}: cannot be read: must be an object")
    return tree


def read_file(settings: type[BaseSettings], service: str, path: Path) -> Layer:
    """Read the settings of one service. Only its owner may read a file with secrets in it.

    Beside the sections stand the settings of several services. The section of a service's name has
    the rest, without that name as a prefix, and may override what stands beside it. The sections
    of other services are theirs to check.
    """
    try:
        tree = load_file(path)
    except ConfigError as error:
        return Layer(mistakes=(str(error),))
    section = tree.get(service, {})
    if not isinstance(section, Mapping):
        return Layer(mistakes=(f"{path}: {service}: must be a section",))
    layer = _from_tables(settings, service, path, tree, section)
    return replace(layer, mistakes=(*_exposed(settings, path, layer), *layer.mistakes))


def _from_tables(
    settings: type[BaseSettings],
    service: str,
    path: Path,
    tree: Mapping[str, Any],
    section: Mapping[str, Any],
) -> Layer:
    prefix = f"{service}_"
    shared = {name: name for name in settings.model_fields if not name.startswith(prefix)}
    own = {name.removeprefix(prefix): name for name in settings.model_fields.keys() - shared}
    # A variable's whole name is answered with its place and its name in the file.
    hints = {**_SECTIONS, **{name: f"{service}.{word}" for word, name in own.items()}, **shared}
    words_inside = {**{name: word for word, name in own.items()}, **{word: word for word in own}}
    others = {*_SECTIONS, service} | (_OF_SOME - shared.keys())
    beside = {word: value for word, value in tree.items() if word not in others}
    values, names, mistakes = {}, {}, []
    for place, table, fields, meant in (
        (f"{path}: ", beside, shared, hints),
        (f"{path}: {service}.", section, shared | own, shared | words_inside),
    ):
        for word, value in table.items():
            if word in fields:
                values[fields[word]], names[fields[word]] = value, f"{place}{word}"
            else:
                mistakes.append(f"{place}{word}: there is no such setting{perhaps(word, meant)}")
    return Layer(values, names, tuple(mistakes))


def _exposed(settings: type[BaseSettings], path: Path, layer: Layer) -> Iterator[str]:
    secrets = [name for name in layer.values if is_secret(settings.model_fields[name])]
    if not secrets:
        return
    try:
        check_private(path)
    except ValueError as error:
        held = ", ".join(layer.names[name].removeprefix(f"{path}: ") for name in secrets)
        yield f"{path}: {error}, since it holds {held}"


def read_environment(
    settings: type[BaseSettings], service: str, environ: Mapping[str, str]
) -> Layer:
    """Read the variables of the fields; lists and tables are JSON, and an empty one is not set.

    A variable that begins with the service's name and is no setting is a mistake, unless it is
    known to be another program's.
    """
    given = {name: text for name, text in environ.items() if text and not _is_link(name, text)}
    names = {name: variable(name) for name in settings.model_fields}
    mistakes = [*_unknown_variables(settings, service, given)]
    unread = set()
    for name, pointer in _pointers(settings).items():
        if pointer not in given:
            continue
        names[name] = pointer
        try:
            given[variable(name)] = _held(given, name, pointer)
        except (OSError, ValueError) as error:
            mistakes.append(f"{pointer}: {reason(error)}")
            unread.add(name)
    return Layer(decoded(settings, given), names, tuple(mistakes), frozenset(unread))


def _is_link(name: str, text: str) -> bool:
    return name.endswith("_PORT") and _LINK.match(text) is not None


def _unknown_variables(
    settings: type[BaseSettings], service: str, given: Mapping[str, str]
) -> Iterator[str]:
    prefix = f"{service.upper()}_"
    known = {*map(variable, settings.model_fields), *_pointers(settings).values()}
    # Compared without the prefix, which would make all of them alike.
    meant = {name.removeprefix(prefix).lower(): name for name in known}
    for name in sorted(given):
        word = name.upper()
        ours = word.startswith(prefix) and not word.endswith(_OF_ACCOUNTS)
        if ours and word not in known and not _OF_ORCHESTRATORS.fullmatch(word):
            hint = perhaps(word.removeprefix(prefix), meant)
            yield f"{name}: there is no such setting{hint}"


def _pointers(settings: type[BaseSettings]) -> Mapping[str, str]:
    fields = settings.model_fields.items()
    return {name: f"{variable(name)}{FILE}" for name, setting in fields if is_secret(setting)}


def _held(given: Mapping[str, str], name: str, pointer: str) -> str:
    if variable(name) in given:
        raise ValueError(f"{variable(name)} is set as well, and which one counts is not to be seen")
    check_private(Path(given[pointer]))
    return Path(given[pointer]).read_text(encoding="utf-8").rstrip("\r\n")


def decoded(settings: type[BaseSettings], texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of fields out of the texts of their variables."""
    return dict(_Variables(settings, texts)())


class _Variables(EnvSettingsSource):
    """The variables of a given mapping instead of the process's own."""

    def __init__(self, settings: type[BaseSettings], given: Mapping[str, str]) -> None:
        self._given = given
        super().__init__(settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): text for name, text in self._given.items()}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:  # noqa: ANN401 -- as the library has it
        """Read JSON; a text that is no JSON stays a text, which the field's own check refuses."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value
