"""Settings from an environment: checked whole, before anything connects."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from shared.errors import ConfigError

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Secret = Annotated[str, Field(min_length=32, repr=False)]  # 128 bits as hex at the least
DatabaseUrl = Annotated[str, Field(pattern=r"^postgresql\+asyncpg://.+")]


class Settings(BaseSettings):
    """What every service is told. A service's own settings have its name as their prefix.

    A field is set by the variable of its name in capitals: `amqp_url` by AMQP_URL.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)
    service: ClassVar[str]

    amqp_url: str = Field(repr=False)
    data_dir: Path = Path("data")
    database_url: DatabaseUrl | None = Field(
        None, repr=False, description="postgresql+asyncpg://…; SQLite in DATA_DIR if absent"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    health_host: str = "127.0.0.1"
    health_port: Port = 0
    drain_seconds: Seconds = Field(25.0, description="For what is in flight at a shutdown")

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
    def load(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings from `environ`.

        Raises ConfigError that tells all mistakes at once, a line each, without the values.
        """
        try:
            return cls(**_Environment(cls, environ)())
        except ValidationError as error:
            found = error.errors(include_input=False, include_url=False)
            raise ConfigError("\n".join(map(_line, found))) from None
        except SettingsError as error:  # a list or mapping that is not JSON
            raise ConfigError(str(error)) from None


def _line(mistake: ErrorDetails) -> str:
    variable = "_".join(map(str, mistake["loc"])).upper() or "together"
    return f"{variable}: {mistake['msg'].removeprefix('Value error, ')}"


class _Environment(EnvSettingsSource):
    """The variables of a given mapping instead of the process's own; an empty one is not set."""

    def __init__(self, settings: type[BaseSettings], environ: Mapping[str, str]) -> None:
        self._environ = environ
        super().__init__(settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._environ.items() if value}

    def __call__(self) -> dict[str, Any]:
        return dict(super().__call__())
