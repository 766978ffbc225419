"""Pure: one thing that can be asked of the gateway."""

from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel

from services.gateway.api.body import RequestBody
from services.gateway.api.problem import ProblemType


class Access(StrEnum):
    """Whose key an operation asks for."""

    PUBLIC = "public"
    CLIENT = "client"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Success:
    """One answer that is no problem; without a model it is of another media type, or empty."""

    status: int
    description: str
    model: type[BaseModel] | None = None
    media_type: str | None = "application/json"
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """A method and a path, who may use them, what goes in and what comes out."""

    name: str
    method: str
    path: str
    summary: str
    access: Access
    answers: tuple[Success, ...]
    body: type[RequestBody] | None = None
    other_types: tuple[str, ...] = ()  # of the body, beside JSON
    bare_field: str | None = None  # of the body: its value may also be sent alone
    query: type[BaseModel] | None = None
    problems: tuple[ProblemType, ...] = ()
    description: str | None = None
    waits: bool = False  # takes `Prefer: wait`
    repeatable: bool = False  # takes `Idempotency-Key`
