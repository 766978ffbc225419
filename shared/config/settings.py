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

from shared.config import flags, sources, url
from shared.config.sources import Layer, check_private, variable
from shared.contracts import wording
from shared.errors import ConfigError

DRAIN_SECONDS = 25.0  # under the 30 that supervisors commonly leave before they kill

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Secret = Annotated[str, Field(min_length=32, repr=False)]  # 128 bits as hex at the least
KeyText = Annotated[str, Field(repr=False)]  # whose length another check knows
BrokerUrl = Annotated[str, AfterValidator(url.check_broker)]
DatabaseUrl = Annotated[str, AfterValidator(url.check_database)]
HttpUrl = Annotated[str, AfterValidator(url.check_http)]
SecretFile = Annotated[FilePath, AfterValidator(check_private)]
# A parentbased one records what the client, or another program, records.
Sampler = Literal[
    "always_on",
    "always_off",
    "traceidratio",
    "parentbased_always_on",
    "parentbased_always_off",
    "parentbased_traceidratio",
]
CertificateFile = Annotated[FilePath, AfterValidator(url.check_certificates)]

_NO_LIST: Final = frozenset({"tuple_type", "list_type", "set_type"})


class Settings(BaseSettings):
    """The settings of every service. A service's own settings have its name as their prefix.

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
    # By the names of OpenTelemetry's own variables, as operators know them.
    otel_exporter_otlp_endpoint: HttpUrl | None = Field(
        None, description="Where traces go by OTLP over HTTP, as http://host:4318; none if absent"
    )
    otel_exporter_otlp_headers: str | None = Field(
        None, repr=False, description="Headers of these requests: name=value,name=value"
    )
    otel_service_name: str | None = Field(
        None, description="The service in traces; postrider- and its name if absent"
    )
    otel_traces_sampler: Sampler = Field(
        "parentbased_always_on", description="Which traces are recorded"
    )
    otel_traces_sampler_arg: float = Field(
        1.0, ge=0, le=1, description="The share of traces, for the samplers by ratio"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read what the constructor is given and nothing else: no hidden reading."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @classmethod
    def load(cls, environ: Mapping[str, str], arguments: Sequence[str] = ()) -> Self:
        """Read the settings from the file that is named, `environ`, and the flags `arguments`.

        Raises ConfigError with all mistakes at once, a line each, without the values, and
        SystemExit where the flags ask for help.
        """
        layers = tuple(cls._layers(environ, arguments))
        names = {name: layer.names[name] for layer in layers for name in layer.values}
        mistakes = [line for layer in layers for line in layer.mistakes]
        good: dict[str, Any] = {}
        for name in cls.model_fields:
            mistakes += cls._field_mistakes(name, layers, good)
        loaded = cast("Self", cls.model_construct(**good))
        for name in cls.model_fields.keys() - good.keys():
            loaded.__dict__.pop(name, None)  # a default, where the value has a mistake
        mistakes += cls._contradictions(loaded, names)
        if mistakes:
            raise ConfigError("\n".join(mistakes))
        return loaded

    @classmethod
    def _layers(cls, environ: Mapping[str, str], arguments: Sequence[str]) -> Iterator[Layer]:
        """Yield the layers, the one that overrides the others last."""
        layer, named = flags.read(cls, cls.service, arguments)
        path = named or environ.get(flags.CONFIG_FILE)
        if path:
            yield sources.read_file(cls, cls.service, Path(path).expanduser())
        yield sources.read_environment(cls, cls.service, environ)
        yield layer

    @classmethod
    def _field_mistakes(
        cls, name: str, layers: Sequence[Layer], good: dict[str, Any]
    ) -> Iterator[str]:
        """Yield the mistakes in all values of a field, and put the value that counts into `good`.

        A mistake in a value that a higher layer overrides would show up later, without that layer.
        """
        setting = cls.model_fields[name]
        given = [layer for layer in layers if name in layer.values]
        for layer in given:
            good.pop(name, None)
            try:
                adapter = TypeAdapter[Any](setting.rebuild_annotation())
                good[name] = adapter.validate_python(layer.values[name])
            except ValidationError as error:
                for each in error.errors(include_input=False, include_url=False):
                    yield _line(layer.names[name], each)
        if given or any(name in layer.unread for layer in layers):
            return
        if setting.is_required():
            yield f"{variable(name)}: is required: {setting.description}"
        else:
            good[name] = setting.get_default(call_default_factory=True, validated_data={})

    @classmethod
    def _contradictions(cls, loaded: Self, names: Mapping[str, str]) -> Iterator[str]:
        """Yield the mistakes of several fields together, though others have mistakes.

        Pydantic checks fields together once each of them is right, and ends at the first mistake.
        """
        for check in cls.__pydantic_decorators__.model_validators.values():
            try:
                check.func(loaded)
            except AttributeError:
                continue  # it looks at a field that has a mistake of its own
            except ValueError as error:
                yield from (f"together: {_placed(each, names)}" for each in str(error).splitlines())


def _line(name: str, mistake: ErrorDetails) -> str:
    """Return a mistake after the place of its value."""
    if mistake["type"] == "extra_forbidden":
        text = "there is no such setting"
    else:
        text = wording.detail(mistake)
    wanted = " as JSON" if mistake["type"] in _NO_LIST and not mistake["loc"] else ""
    where = f"{name}.{wording.place(mistake['loc'])}" if mistake["loc"] else name
    return f"{where}: {text}{wanted}"


def _placed(text: str, names: Mapping[str, str]) -> str:
    """Name each variable of a text as the layer does where it is set."""
    return re.sub(r"\b[A-Z][A-Z0-9_]+\b", lambda word: names.get(word[0].lower(), word[0]), text)
