"""Settings from all layers: checked whole, before anything connects."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal, Self, cast

from pydantic import (
    AfterValidator,
    Field,
    FilePath,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shared.config import document, environment, flags, url
from shared.config.layer import Layer, variable
from shared.config.private import check_private
from shared.errors import ConfigError

DRAIN_SECONDS = 25.0  # under the 30 that supervisors commonly leave before they kill

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Secret = Annotated[str, Field(min_length=32, repr=False)]  # 128 bits as hex at the least
BrokerUrl = Annotated[str, AfterValidator(url.check_broker)]
DatabaseUrl = Annotated[str, AfterValidator(url.check_database)]
SecretFile = Annotated[FilePath, AfterValidator(check_private)]
CertificateFile = Annotated[FilePath, AfterValidator(url.check_certificates)]

_NO_JSON: Final = frozenset({"tuple_type", "list_type", "set_type", "dict_type", "mapping_type"})


class Settings(BaseSettings):
    """What every service is told. A service's own settings have its name as their prefix.

    A field is set by the variable of its name in capitals: `amqp_url` by AMQP_URL. One that is not
    shown (`repr=False`) is a secret, and has no flag.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)
    service: ClassVar[str]

    amqp_url: BrokerUrl = Field(
        repr=False, description="amqp://user:password@host/vhost of RabbitMQ"
    )
    data_dir: Path = Field(Path("data"), description="Where SQLite keeps its files")
    database_url: DatabaseUrl | None = Field(
        None, repr=False, description="postgresql+asyncpg://…; SQLite in DATA_DIR if absent"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="What is less is not logged"
    )
    health_host: str = Field(
        "127.0.0.1", description="The address of /healthz, /readyz and /metrics"
    )
    health_port: Port = Field(0, description="Their port; any that is free if 0")
    drain_seconds: Seconds = Field(DRAIN_SECONDS, description="For what is in flight at a shutdown")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what the constructor is given and nothing else: no hidden reading."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @classmethod
    def load(cls, environ: Mapping[str, str], arguments: Sequence[str] = ()) -> Self:
        """Read the settings from the file that is named, `environ`, and the flags `arguments`.

        Raises ConfigError that tells all mistakes at once, a line each, without the values, and
        SystemExit where the flags ask for help.
        """
        layers = tuple(cls._layers(environ, arguments))
        values, names = _merged(layers)
        unread = frozenset[str]().union(*(layer.unread for layer in layers))
        mistakes = [line for layer in layers for line in layer.mistakes]
        mistakes += [line for layer in layers for line in cls._hidden(layer, values)]
        try:
            loaded = cls(**values)
        except ValidationError as error:
            wrong = [each for each in _details(error) if each["loc"]]
            mistakes += [
                cls._line(each, names)
                for each in wrong
                if each["type"] != "missing" or each["loc"][0] not in unread
            ]
            mistakes += cls._contradictions(values, names, unread)
        if mistakes:
            raise ConfigError("\n".join(mistakes))
        return loaded

    @classmethod
    def _layers(cls, environ: Mapping[str, str], arguments: Sequence[str]) -> Iterator[Layer]:
        """Give the layers, the one that has the last word last."""
        said, named = flags.read(cls, cls.service, arguments)
        path = named or environ.get(flags.CONFIG_FILE)
        if path:
            yield document.read(cls, cls.service, Path(path).expanduser())
        yield environment.read(cls, cls.service, environ)
        yield said

    @classmethod
    def _contradictions(
        cls, values: Mapping[str, Any], names: Mapping[str, str], unread: frozenset[str]
    ) -> Iterator[str]:
        """Yield the mistakes of several fields together, though others have mistakes.

        Pydantic checks fields together once each of them is right, and ends at the first mistake.
        """
        partial = cls._partial(values, unread)
        for check in cls.__pydantic_decorators__.model_validators.values():
            try:
                check.func(partial)
            except AttributeError:
                continue  # it looks at a field that has a mistake of its own
            except ValueError as error:
                yield from (f"together: {_placed(each, names)}" for each in str(error).splitlines())

    @classmethod
    def _partial(cls, values: Mapping[str, Any], unread: frozenset[str]) -> Self:
        """Return settings without the fields that are missing, unread or have mistakes."""
        good = {}
        for name, setting in cls.model_fields.items():
            if name in unread:
                continue
            try:
                if name in values:
                    adapter = TypeAdapter[Any](setting.rebuild_annotation())
                    good[name] = adapter.validate_python(values[name])
                elif not setting.is_required():
                    good[name] = setting.get_default(call_default_factory=True, validated_data={})
            except ValidationError:
                continue
        partial = cast("Self", cls.model_construct(**good))
        for name in cls.model_fields.keys() - good.keys():
            partial.__dict__.pop(name, None)  # a default
        return partial

    @classmethod
    def _hidden(cls, layer: Layer, values: Mapping[str, Any]) -> Iterator[str]:
        """Tell what is wrong in a layer below a value that hides it: it would show up later."""
        hidden = {name: value for name, value in layer.values.items() if values[name] is not value}
        if not hidden:
            return
        try:
            cls(**{**values, **hidden})
        except ValidationError as error:
            yield from (
                cls._line(each, layer.names)
                for each in _details(error)
                if each["loc"] and each["loc"][0] in hidden
            )

    @classmethod
    def _line(cls, mistake: ErrorDetails, names: Mapping[str, str]) -> str:
        name, *inside = map(str, mistake["loc"])
        where = ".".join((names.get(name, variable(name)), *inside))
        if mistake["type"] == "missing" and not inside:
            return f"{where}: is required: {cls.model_fields[name].description}"
        wanted = " as JSON" if mistake["type"] in _NO_JSON and not inside else ""
        return f"{where}: {mistake['msg'].removeprefix('Value error, ')}{wanted}"


def _merged(layers: Sequence[Layer]) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    names: dict[str, str] = {}
    for layer in layers:
        values |= layer.values
        names |= {name: layer.names[name] for name in layer.values}
    return values, names


def _details(error: ValidationError) -> Sequence[ErrorDetails]:
    return error.errors(include_input=False, include_url=False)


def _placed(text: str, names: Mapping[str, str]) -> str:
    """Name each variable of a text as the layer does where it is set."""
    return re.sub(r"\b[A-Z][A-Z0-9_]+\b", lambda word: names.get(word[0].lower(), word[0]), text)
