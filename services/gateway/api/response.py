"""Responses: JSON bodies, problem documents, and the answers of services that they are made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from services.gateway.api import problem
from services.gateway.api.problem import Problem
from services.gateway.api.request import RequestReader
from shared.broker import Broker
from shared.contracts import Answer, Contract
from shared.errors import NoAnswer

# A response is not cached, its type not guessed, and the HTTP library not named.
COMMON_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Server": "postrider",
}


A = TypeVar("A", bound=Answer)


class ResponseBody(BaseModel):
    """A body of a response; absent fields are left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    @classmethod
    def copied_from(cls, contract: object) -> Self:
        """Return the body with the fields that `contract` has too, checked where it was read."""
        return super().model_construct(
            **{name: getattr(contract, name) for name in cls.model_fields}
        )

    def encode(self) -> bytes:
        """Return the JSON and a line end, so that a terminal's prompt has a line of its own."""
        return f"{self.model_dump_json(by_alias=True, exclude_none=True)}\n".encode()


class Accepted(ResponseBody):
    """The broker has stored the message, which is processed whatever fails from now on."""

    id: str
    status: Literal["accepted"] = "accepted"


def respond(
    status: int, content: ResponseBody, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return a response with a JSON body."""
    return web.Response(
        body=content.encode(), status=status, headers=headers, content_type="application/json"
    )


def accepted(identifier: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return the response to a request whose message the broker has stored."""
    return respond(202, Accepted(id=identifier), headers)


def problem_response(
    error: Problem, path: str, request_id: str, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return the problem document of a request to `path`."""
    return web.Response(
        body=problem.document(error, path, request_id),
        status=error.type.status,
        headers={**error.headers, **(headers or {})},
        content_type=problem.CONTENT_TYPE,
    )


@dataclass(frozen=True, slots=True)
class AskingViews:
    """Views that ask another service, for `answer_seconds` at most."""

    reader: RequestReader
    broker: Broker
    answer_seconds: float

    def new_id(self) -> str:
        """Return an id for a question."""
        return self.reader.new_stamp().id

    async def ask(self, question: Contract, kind: type[A]) -> A:
        """Return the answer, which is of one kind. Raises Unavailable or NoAnswer."""
        answer = await self.broker.ask(question, self.answer_seconds)
        if not isinstance(answer, kind):
            raise unexpected(answer)
        return answer


def unexpected(answer: Contract) -> NoAnswer:
    """Return the error of an answer that does not fit the question."""
    return NoAnswer(f"an answer of the wrong type, {answer.routing_key}")
