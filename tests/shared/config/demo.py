"""The settings of a service that has one of everything."""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, Field, InstanceOf, model_validator
from pydantic_settings import NoDecode

from shared.config import Port, Secret, Settings

SECRET = "s3cr3t" * 6
GOOD = {"AMQP_URL": "amqp://user:hunter2@host/", "DEMO_KEY": SECRET}


class Mood(StrEnum):
    """How it is."""

    WELL = "so-so"
    ILL = "ill"


class Read:
    """The content of a file."""

    def __init__(self, path: object) -> None:
        if not isinstance(path, str):
            raise ValueError("must be a path")  # noqa: TRY004 -- a setting's mistake
        self.text = Path(path).read_text()


class DemoSettings(Settings):
    """Settings of all kinds."""

    service: ClassVar[str] = "demo"

    demo_key: Secret = Field(description="Opens the demo")
    demo_port: Port = Field(8080, description="Where it listens")
    demo_hosts: tuple[str, ...] = Field((), description="Whom it serves")
    demo_rates: Mapping[str, float] = Field(default_factory=dict, description="100% of each")
    demo_mood: Mood = Field(Mood.WELL, description="How it is")
    demo_loud: bool = Field(default=True, description="Whether it is heard")
    demo_seal: Annotated[InstanceOf[Read] | None, NoDecode, BeforeValidator(Read)] = Field(
        None, validate_default=False, repr=False, description="The path of a seal"
    )
    demo_least: int = Field(1, ge=1, description="Of what it has")
    demo_most: int = Field(9, ge=1, description="Of the same")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.demo_least > self.demo_most:
            raise ValueError("DEMO_LEAST must not be over DEMO_MOST")
        return self
