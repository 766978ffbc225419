"""The file's layer of the settings: one TOML or JSON document that all services may share."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pydantic_settings import BaseSettings, JsonConfigSettingsSource, TomlConfigSettingsSource

from shared.config.layer import Layer, is_secret, perhaps, reason
from shared.config.private import check_private
from shared.errors import ConfigError
from shared.topology import Owner

_SECTIONS: Final = {owner.value: f"the section {owner}" for owner in Owner}
_OF_SOME: Final = frozenset({"sealing_key"})  # for several services, though not for all
_READERS: Final[Mapping[str, Callable[[Path], Mapping[str, Any]]]] = {
    ".toml": lambda path: TomlConfigSettingsSource(BaseSettings, path).toml_data,
    ".json": lambda path: JsonConfigSettingsSource(BaseSettings, path).json_data,
}


def read(settings: type[BaseSettings], service: str, path: Path) -> Layer:
    """Read the settings of one service. Only its owner may read a file with secrets in it.

    Beside the sections stands what is for several services. The section of a service's name has the
    rest, without that name as a prefix, and may say otherwise what stands beside it. The sections
    of other services are theirs to check.
    """
    try:
        tree = load(path)
    except ConfigError as error:
        return Layer(mistakes=(str(error),))
    section = tree.get(service, {})
    if not isinstance(section, Mapping):
        return Layer(mistakes=(f"{path}: {service}: must be a section",))
    beside = {word: value for word, value in tree.items() if word not in {*_SECTIONS, service}}
    layer = _layer(_Words(settings, service), str(path), beside, section)
    return replace(layer, mistakes=(*_exposed(settings, path, layer), *layer.mistakes))


def _exposed(settings: type[BaseSettings], path: Path, layer: Layer) -> Iterator[str]:
    secrets = [name for name in layer.values if is_secret(settings.model_fields[name])]
    if not secrets:
        return
    try:
        check_private(path)
    except ValueError as error:
        told = ", ".join(layer.names[name].removeprefix(f"{path}: ") for name in secrets)
        yield f"{path}: {error}, since it holds {told}"


def load(path: Path) -> Mapping[str, Any]:
    """Read a file whole, whatever its words. Raises ConfigError."""
    try:
        path.open("rb").close()  # to the library, a file that is not there is an empty one
        return _READERS[path.suffix](path)
    except KeyError:
        raise ConfigError(f"{path}: its name must end in .toml or .json") from None
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: cannot be read: {reason(error)}") from error


def _layer(
    words: "_Words", path: str, beside: Mapping[str, Any], section: Mapping[str, Any]
) -> Layer:
    places = (
        (f"{path}: ", beside, words.beside, words.hints_beside),
        (f"{path}: {words.service}.", section, words.inside, words.hints_inside),
    )
    values, names, mistakes = {}, {}, []
    for place, table, fields, hints in places:
        for word, value in table.items():
            if word in fields:
                values[fields[word]] = value
                names[fields[word]] = f"{place}{word}"
            elif table is section or word not in _OF_SOME:
                mistakes.append(f"{place}{word}: there is no such setting{perhaps(word, hints)}")
    return Layer(values, names, tuple(mistakes))


class _Words:
    """The words that a file may use to one service, with their fields."""

    def __init__(self, settings: type[BaseSettings], service: str) -> None:
        prefix, names = f"{service}_", tuple(settings.model_fields)
        own = {name.removeprefix(prefix): name for name in names if name.startswith(prefix)}
        self.service = service
        self.beside = {name: name for name in names if not name.startswith(prefix)}
        self.inside = {**self.beside, **own}
        # Who writes a variable's whole name is shown where and how it is said here.
        self.hints_beside = {
            **_SECTIONS,
            **{name: f"{service}.{word}" for word, name in own.items()},
            **{word: word for word in self.beside},
        }
        self.hints_inside = {
            **{name: word for word, name in own.items()},
            **{word: word for word in self.inside},
        }
