"""The environment's layer of the settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource

from shared.config.layer import Layer, is_secret, reason, variable

FILE: Final = "_FILE"  # after a secret's variable: a file that holds it, as Docker's images do it


def read(settings: type[BaseSettings], environ: Mapping[str, str]) -> Layer:
    """Read the variables of the fields; lists and tables are JSON, and what is empty is not set."""
    given = {name: text for name, text in environ.items() if text}
    names = {name: variable(name) for name in settings.model_fields}
    mistakes = []
    for name, pointer in _pointers(settings).items():
        if pointer not in given:
            continue
        names[name] = pointer
        try:
            given[variable(name)] = _held(given, name, pointer)
        except (OSError, ValueError) as error:
            mistakes.append(f"{pointer}: {reason(error)}")
    return Layer(_Variables(settings, given)(), names, tuple(mistakes))


def _pointers(settings: type[BaseSettings]) -> Mapping[str, str]:
    fields = settings.model_fields.items()
    return {name: f"{variable(name)}{FILE}" for name, setting in fields if is_secret(setting)}


def _held(given: Mapping[str, str], name: str, pointer: str) -> str:
    if variable(name) in given:
        raise ValueError(f"{variable(name)} is set as well, and which one counts is not to be seen")
    return Path(given[pointer]).read_text(encoding="utf-8").rstrip("\r\n")


class _Variables(EnvSettingsSource):
    """The variables of a given mapping instead of the process's own."""

    def __init__(self, settings: type[BaseSettings], given: Mapping[str, str]) -> None:
        self._given = given
        super().__init__(settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): text for name, text in self._given.items()}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:  # noqa: ANN401 -- as the library has it
        """Read JSON; what is none stays as it is, for the field's own check to be told."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value

    def __call__(self) -> dict[str, Any]:
        return dict(super().__call__())
