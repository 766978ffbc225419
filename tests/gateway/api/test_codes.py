"""One-time codes over HTTP, on a real broker with a fake otp service."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from datetime import timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.api import body as bodies
from services.gateway.api.body import RequestBody
from services.gateway.api.codes import CodeGuess, NewCode
from services.gateway.api.problem import Problem
from services.gateway.clients.idempotency import RequestStamp
from shared import contracts, topology
from shared.contracts import (
    CancelCode,
    CodeCancelled,
    CodeIssued,
    CodeRefused,
    CodeUnchecked,
    CodeVerified,
    CodeWithheld,
    Contract,
    IssueCode,
    VerifyCode,
)
from shared.contracts.codes import Withholding
from tests.gateway.api_client import ApiClient
from tests.gateway.fake_service import NOW, FakeService, running_service

ANN = {"email": "ann@example.com"}
KEY = {"Idempotency-Key": "login-17"}
STAMP = RequestStamp("m1", NOW)


def issue(command: IssueCode) -> Sequence[Contract]:
    """Return an issued code; for Bob's address a withheld one."""
    if command.email.startswith("bob"):
        return [CodeWithheld(id=command.id, reason=Withholding.COOLDOWN, retry_after=41.2)]
    return [
        CodeIssued(
            id=command.id,
            at=NOW,
            challenge_id="c1",
            email=command.email,
            expires_at=NOW + timedelta(seconds=600),
            resend_at=NOW + timedelta(seconds=60),
        )
    ]


def verify(question: VerifyCode) -> Sequence[Contract]:
    """Return that 4711 is right; for Bob's address that nothing was compared."""
    if question.email.startswith("bob"):
        return [CodeUnchecked(id=question.id, retry_after=3600.2)]
    if question.code != "4711":
        return [CodeRefused(id=question.id, at=NOW, email=question.email)]
    return [CodeVerified(id=question.id, at=NOW, email=question.email, challenge_id="c1")]


def cancel(command: CancelCode) -> Sequence[Contract]:
    """Return a cancelled code."""
    return [CodeCancelled(id=command.id, challenge_id=command.challenge_id)]


@pytest.fixture
async def issuing(vhost: str, api: ApiClient) -> AsyncIterator[FakeService]:
    """Run a service that mails and cancels codes, once its queue is there."""
    del api
    otp = FakeService(lambda it: cancel(it) if isinstance(it, CancelCode) else issue(it))
    async with running_service(vhost, topology.OTP_COMMANDS, {IssueCode: otp, CancelCode: otp}):
        yield otp


@pytest.fixture
async def verifying(vhost: str, api: ApiClient) -> AsyncIterator[FakeService]:
    """Run a service that verifies codes, once its queue is there."""
    del api
    otp = FakeService(verify)
    async with running_service(vhost, topology.OTP_QUESTIONS, {VerifyCode: otp}):
        yield otp


async def test_a_code_is_mailed(api: ApiClient, issuing: FakeService) -> None:
    """The answer has the code's expiry and the time of the next resend, not the code."""
    answer = await api.post("/v1/otp", {"email": "Ann@EXAMPLE.com"})

    assert answer.status == 202
    assert answer.json == {
        "id": "c1",
        "expires_at": "2026-11-01T00:10:00Z",
        "resend_at": "2026-11-01T00:01:00Z",
    }
    [command] = issuing.got
    assert (command.email, command.client) == ("Ann@example.com", "shop")
    assert command.ip == IPv4Address("127.0.0.1")


async def test_the_command_has_all_fields_of_the_request(
    api: ApiClient, issuing: FakeService
) -> None:
    """The command has the purpose, length, language and IP address of the request."""
    asked = {"purpose": "sign-in", "length": 8, "locale": "de-AT", "ip": "::ffff:192.0.2.7"}

    await api.post("/v1/otp", ANN | asked)

    [command] = issuing.got
    assert (command.purpose, command.length, command.locale) == ("sign-in", 8, "de-AT")
    assert command.ip == IPv4Address("192.0.2.7")


async def test_a_withheld_code_is_a_429(api: ApiClient, issuing: FakeService) -> None:
    """A withheld code is a 429 with Retry-After that is the same for every limit."""
    answer = await api.post("/v1/otp", {"email": "bob@example.com"})

    assert (answer.status, answer.json["code"]) == (429, "too-many-requests")
    assert answer.headers["Retry-After"] == "42"
    assert set(answer.json) == {"type", "title", "status", "code", "instance", "request_id"}
    assert len(issuing.got) == 1


async def test_a_withheld_code_may_be_asked_for_with_the_same_key(
    api: ApiClient, issuing: FakeService
) -> None:
    """A refused request frees its key: the next request with the key is a new one."""
    for _ in range(2):
        assert (await api.post("/v1/otp", {"email": "bob@example.com"}, KEY)).status == 429

    first, second = issuing.got
    assert first.id != second.id


async def test_a_code_asked_for_again_with_its_key_is_the_same_request(
    api: ApiClient, issuing: FakeService
) -> None:
    """A repeat with the same key has the same id, so the otp service mails nothing more."""
    answers = [await api.post("/v1/otp", ANN, KEY) for _ in range(2)]

    assert answers[0].content == answers[1].content
    assert len({command.id for command in issuing.got}) == 1


async def test_a_key_of_yesterday_is_another_request(
    api: ApiClient, issuing: FakeService, tmp_path: Path
) -> None:
    """A key is forgotten before the otp service forgets the request's id."""
    await api.post("/v1/otp", ANN, KEY)
    with closing(sqlite3.connect(tmp_path / "gateway.sqlite")) as database:
        database.execute("UPDATE uses SET requested_at = requested_at - ?", (17 * 3600 * 1000,))
        database.commit()

    answers = [await api.post("/v1/otp", ANN, KEY) for _ in range(2)]

    first, second, third = (command.id for command in issuing.got)
    assert first != second == third
    assert [answer.headers.get("Idempotent-Replayed") for answer in answers] == [None, "true"]


async def test_a_code_without_an_answer_may_be_asked_for_again(api: ApiClient, vhost: str) -> None:
    """Without an answer the response is a 503 that allows to ask again."""
    del vhost
    answer = await api.post("/v1/otp", ANN)

    assert (answer.status, answer.json["code"]) == (503, "unavailable")
    assert int(answer.headers["Retry-After"]) > 0
    assert answer.json["detail"].endswith("Asking again does no harm.")


async def test_a_code_is_verified(api: ApiClient, verifying: FakeService) -> None:
    """A right and a wrong code are both a 200; the right one has the code's id."""
    right = await api.post("/v1/otp/verify", ANN | {"code": "4711", "purpose": "sign-in"})
    wrong = await api.post("/v1/otp/verify", ANN | {"code": "0815"})

    assert (right.status, right.json) == (200, {"verified": True, "id": "c1"})
    assert (wrong.status, wrong.json) == (200, {"verified": False})
    assert [(each.client, each.purpose) for each in verifying.got] == [
        ("shop", "sign-in"),
        ("shop", "confirm-address"),
    ]


async def test_a_lost_verdict_can_be_asked_for_again(
    api: ApiClient, verifying: FakeService
) -> None:
    """A repeat with the same key is the same question, which costs no further guess."""
    for _ in range(2):
        answer = await api.post("/v1/otp/verify", ANN | {"code": "4711"}, KEY)
        assert answer.json["verified"]
    other = await api.post("/v1/otp/verify", ANN | {"code": "0815"}, KEY)

    assert (other.status, other.json["code"]) == (422, "idempotency-key-reused")
    assert len({question.id for question in verifying.got}) == 1


async def test_too_many_wrong_codes_are_a_429(api: ApiClient, verifying: FakeService) -> None:
    """Too many wrong codes are a 429 like any other, and the request frees its key."""
    guess = {"email": "bob@example.com", "code": "4711"}
    answers = [await api.post("/v1/otp/verify", guess, KEY) for _ in range(2)]

    for answer in answers:
        assert (answer.status, answer.json["code"]) == (429, "too-many-requests")
        assert answer.headers["Retry-After"] == "3601"
        assert set(answer.json) == {"type", "title", "status", "code", "instance", "request_id"}
    assert len({question.id for question in verifying.got}) == 2


async def test_a_guess_has_the_ip_address_of_the_body(
    api: ApiClient, verifying: FakeService
) -> None:
    """A guess has the IP address of the body, never the caller's, who serves many users."""
    await api.post("/v1/otp/verify", ANN | {"code": "4711"})
    await api.post("/v1/otp/verify", ANN | {"code": "4711", "ip": "::ffff:192.0.2.7"})
    wrong = await api.post("/v1/otp/verify", ANN | {"code": "4711", "ip": "here"})

    assert wrong.status == 422
    assert [question.ip for question in verifying.got] == [None, IPv4Address("192.0.2.7")]


async def test_a_code_is_cancelled(api: ApiClient, issuing: FakeService) -> None:
    """Cancelling is a 204, also for a code that never was."""
    for identifier in ("c1", "c1", "x" * 101, "a%2Fb", "%C3%A9"):
        answer = await api.call("DELETE", f"/v1/otp/{identifier}")
        assert (answer.status, answer.content) == (204, b"")

    assert [(each.challenge_id, each.client) for each in issuing.got] == [("c1", "shop")] * 2


def refusal(model: type[RequestBody], fields: object) -> Problem:
    """Return the problem of a wrong body."""
    with pytest.raises(Problem) as caught:
        bodies.read(model, orjson.dumps(fields))
    return caught.value


def test_values_are_not_repeated() -> None:
    """A mistake never repeats a value, which may be a secret."""
    problem = refusal(CodeGuess, ANN | {"code": "4711-geheim" * 10})

    assert "4711" not in f"{problem!r} {problem} {problem.errors}"
    assert "4711" not in repr(bodies.read(CodeGuess, b'{"email": "a@x.example", "code": "4711"}'))


def test_codes_and_guesses_name_one_address() -> None:
    """A code and a guess have one bare address in its canonical form."""
    new = bodies.read(NewCode, b'{"email": "ann@EXAMPLE.com"}').command(STAMP, "shop", None)
    guess = bodies.read(CodeGuess, b'{"email": "ann@EXAMPLE.com", "code": "1"}')

    assert (new.email, new.client) == ("ann@example.com", "shop")
    assert guess.question(STAMP, "shop").email == "ann@example.com"
    for email in ("Ann <ann@example.com>", ["ann@example.com"], "", None):
        assert refusal(NewCode, {"email": email}).type.status == 422


@pytest.mark.parametrize("code", ["", "1" * 65, 123456, None])
def test_a_code_is_a_string_of_a_sane_length(code: object) -> None:
    """A code is a string of 1 to 64 characters; a number would lose its leading zeros."""
    assert refusal(CodeGuess, ANN | {"code": code}).type.status == 422


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("purpose", "Sign In"),
        ("purpose", ""),
        ("length", 3),
        ("length", 9),
        ("length", "6"),
        ("length", True),
        ("locale", "english!"),
        ("ip", 1),
        ("ip", "localhost"),
        ("ip", "fe80::1%eth0"),
        ("ip", "192.0.2.7/24"),
        ("code", "123456"),
    ],
)
def test_a_wrong_field_of_a_code_is_named(field: str, value: object) -> None:
    """A wrong or unknown field of a code's request is a 422 that names the field."""
    problem = refusal(NewCode, {"email": "ann@example.com", field: value})

    assert {each.pointer.split("/")[1] for each in problem.errors} == {field}


@given(
    purpose=st.sampled_from(["confirm-address", "sign-in"]),
    length=st.none() | st.integers(4, 8),
    locale=st.sampled_from([None, "de", "pt-BR"]),
    ip=st.none() | st.ip_addresses().map(str),
)
def test_an_accepted_request_can_be_read_by_the_otp_service(**fields: Any) -> None:  # noqa: ANN401 -- drawn
    """The contract accepts every command that the schema makes."""
    body = orjson.dumps({"email": "ann@example.com"} | fields)
    made = bodies.read(NewCode, body).command(STAMP, "shop", None)

    assert contracts.decode(made.routing_key, contracts.encode(made)) == made
