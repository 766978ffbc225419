"""The environment's layer of the settings."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource

from shared.config.layer import Layer, is_secret, perhaps, reason, variable
from shared.config.private import check_private

FILE: Final = "_FILE"  # after a secret's variable: a file that holds it, as Docker's images do it
# Kubernetes gives each container of a namespace some variables for each Service in it, Docker's
# links did the same: a Service `otp` makes OTP_SERVICE_HOST, OTP_PORT=tcp://10.0.0.1:80 and
# OTP_PORT_80_TCP_ADDR. https://kubernetes.io/docs/concepts/services-networking/service/
_OF_ORCHESTRATORS: Final = re.compile(
    r"\w+_SERVICE_(HOST|PORT(_\w+)?)|\w+_PORT_\d+_(TCP|UDP|SCTP)(_\w+)?|\w+?_ENV_\w+"
)
_LINK: Final = re.compile(r"(tcp|udp|sctp)://")
# An operator creates the accounts of a service with these: `ops topology grant`, ops/roles.sql.
_OF_ACCOUNTS: Final = ("_AMQP_PASSWORD", "_DATABASE_PASSWORD")


def read(settings: type[BaseSettings], service: str, environ: Mapping[str, str]) -> Layer:
    """Read the variables of the fields; lists and tables are JSON, and an empty one is not set.

    A variable that begins with the service's name and is no setting is a mistake, unless it is
    known to be another program's.
    """
    given = {name: text for name, text in environ.items() if text and not _is_link(name, text)}
    names = {name: variable(name) for name in settings.model_fields}
    mistakes = [*_unknown(settings, service, given)]
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
    return Layer(_Variables(settings, given)(), names, tuple(mistakes), frozenset(unread))


def _is_link(name: str, text: str) -> bool:
    return name.endswith("_PORT") and _LINK.match(text) is not None


def _unknown(settings: type[BaseSettings], service: str, given: Mapping[str, str]) -> Iterator[str]:
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
