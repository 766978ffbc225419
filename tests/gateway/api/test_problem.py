"""Problem documents."""

import orjson
import pytest

from services.gateway.api import problem
from services.gateway.api.problem import Mistake, Problem, ProblemDocument, ProblemType


def test_a_document_has_what_rfc_9457_names_and_a_stable_code() -> None:
    """The document has a code for programs, and not the reason for the log."""
    error = Problem(
        problem.INVALID, "Two of them.", errors=[Mistake("#/to/0", "is bad")], reason="inside"
    )

    document = orjson.loads(problem.document(error, "/v1/messages", "r1"))

    assert document == {
        "type": "urn:postrider:problem:invalid",
        "title": "The request has mistakes",
        "status": 422,
        "detail": "Two of them.",
        "instance": "/v1/messages",
        "code": "invalid",
        "request_id": "r1",
        "errors": [{"pointer": "#/to/0", "detail": "is bad"}],
    }
    ProblemDocument.model_validate(document)


def test_no_two_types_share_a_code() -> None:
    """A code names one type of problem."""
    codes = [each.code for each in vars(problem).values() if isinstance(each, ProblemType)]

    assert len(set(codes)) == len(codes) > 10


@pytest.mark.parametrize(
    ("status", "code"), [(404, "not-found"), (413, "too-large"), (417, "expectation-failed")]
)
def test_refusals_of_the_library_have_codes_too(status: int, code: str) -> None:
    """A refusal of the HTTP library has a code like any other problem."""
    assert problem.type_of(status).code == code
