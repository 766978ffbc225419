"""Problem documents."""

import orjson
import pytest

from services.gateway.api import problem
from services.gateway.api.problem import Mistake, Problem, ProblemDocument


def test_a_document_has_what_rfc_9457_names_and_a_stable_code() -> None:
    """Programs read the code; the log's reason stays out."""
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


def test_no_two_kinds_share_a_code() -> None:
    """A code names one kind of problem."""
    codes = [kind.code for kind in problem.KINDS]

    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize(
    ("status", "code"), [(404, "not-found"), (413, "too-large"), (417, "expectation-failed")]
)
def test_the_servers_own_refusals_have_codes_too(status: int, code: str) -> None:
    """What the HTTP library refuses is told like everything else."""
    assert problem.kind_of(status).code == code
