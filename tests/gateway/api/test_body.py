"""The bodies of requests: their form, their size, and the memory they take."""

import gzip
import tracemalloc
import zlib

import orjson
import pytest

from services.gateway.api import body as bodies
from services.gateway.api.body import BodyBudget
from services.gateway.api.messages import NewMessage
from services.gateway.api.problem import Problem


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"NaN",
        b'{"to": NaN}',
        b"\xff\xfe",
        b'{"subject": "\xe9"}',
        b'{"subject": "\\ud800"}',
        b"[" * 20_000,
        b'{"a":' * 2_000 + b"1" + b"}" * 2_000,
    ],
)
def test_a_body_that_is_no_json_object_is_a_400(body: bytes) -> None:
    """A body that is no strict JSON object in UTF-8, or is nested too deeply, is a 400."""
    with pytest.raises(Problem) as caught:
        bodies.read(NewMessage, body)

    assert caught.value.type.status == 400


MANY = 1_000_000


@pytest.mark.parametrize(
    "body",
    [
        b'{"attachments":[' + b"{}," * MANY + b"{}]}",
        b'{"to":[' + b"[]," * MANY + b"[]]}",
        b'{"to":[' + b'"a@x.example",' * MANY + b'""]}',
        b'{"a":' + b"[" * MANY,
        b"{" + b",".join(b'"k%d":1' % number for number in range(MANY)) + b"}",
    ],
    ids=["objects", "lists", "strings", "deep", "keys"],
)
def test_a_body_of_a_million_values_is_refused_before_they_are_made(body: bytes) -> None:
    """A million values are counted, not made, which would take gigabytes (issue 10, A2)."""
    tracemalloc.start()
    try:
        with pytest.raises(Problem) as caught:
            bodies.read(NewMessage, body)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert caught.value.type.status == 413
    assert most < 4 * len(body)


@pytest.mark.parametrize("text", ['a,[{"' * 800_000, '\\"' * 1_500_000, ",,,\\" * 800_000])
def test_characters_of_a_text_are_no_values(text: str) -> None:
    """Commas, brackets and quotes in a text do not count as values."""
    mail = {"to": "ann@example.com", "subject": "Hello", "text": text}

    assert bodies.read(NewMessage, orjson.dumps(mail)).text == text


def test_a_thousand_events_with_all_their_fields_are_few_values() -> None:
    """The largest body that the contract allows is far below the limit of values."""
    event = dict.fromkeys(("id", "domain", "kind", "at", "recipient", "email_id"), "x" * 20)

    assert len(bodies.parse(orjson.dumps([event] * 1000, option=orjson.OPT_INDENT_2))) == 1000


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b'{"to": "a@x.example", "to": "b@x.example"}', "to"),
        (b'{"subject": "x", "attachments": [{"filename": "a", "filename": "a"}]}', "filename"),
        (b'{"to": 1, "t\\u006f": 2}', "to"),
        (b'{"' + b"k" * 200 + b'": 1, "' + b"k" * 200 + b'": 1}', "k" * 100),
    ],
)
def test_a_key_that_is_there_twice_is_refused_by_its_name(body: bytes, key: str) -> None:
    """A key that is there twice is a 400: parsers differ in which of its values counts."""
    with pytest.raises(Problem) as caught:
        bodies.read(NewMessage, body)

    assert caught.value.type.status == 400
    assert f'"{key}"' in (caught.value.detail or "")


RAW = zlib.compressobj(wbits=-zlib.MAX_WBITS)


@pytest.mark.parametrize(
    ("coding", "packed"),
    [
        ("gzip", gzip.compress(b"a body", mtime=0)),
        (
            "gzip",
            gzip.compress(b"a ", mtime=0)
            + gzip.compress(b"", mtime=0)
            + gzip.compress(b"body", mtime=0),
        ),
        ("deflate", zlib.compress(b"a body")),
        ("deflate", RAW.compress(b"a body") + RAW.flush()),
    ],
)
def test_a_compressed_body_is_unpacked(coding: str, packed: bytes) -> None:
    """A body in gzip or deflate is unpacked (RFC 9110 8.4.1), with or without a zlib header."""
    assert bodies.unpack(packed, coding, 6) == b"a body"


@pytest.mark.parametrize(
    ("coding", "packed", "status"),
    [
        ("gzip", gzip.compress(b"a body!", mtime=0), 413),
        ("gzip", gzip.compress(b"a bo", mtime=0) + gzip.compress(b"dy!", mtime=0), 413),
        ("gzip", gzip.compress(b" " * 100_000_000, mtime=0), 413),
        ("gzip", gzip.compress(b"a body", mtime=0)[:-1], 400),
        ("gzip", gzip.compress(b"", mtime=0) * 20_000, 400),
        ("gzip", b"a body", 400),
        ("gzip", b"", 400),
        ("deflate", b"\xff\xff", 400),
        ("br", b"a body", 415),
        ("gzip, gzip", b"a body", 415),
    ],
)
def test_a_body_that_cannot_be_unpacked_is_refused(coding: str, packed: bytes, status: int) -> None:
    """A body is not unpacked beyond its limit: a megabyte of gzip can hold a gigabyte."""
    tracemalloc.start()
    try:
        with pytest.raises(Problem) as caught:
            bodies.unpack(packed, coding, 6)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert caught.value.type.status == status
    assert most < 2_000_000


def refused(budget: BodyBudget, client: str, size: int) -> bool:
    """Return whether the budget refuses a body; an accepted body is released at once."""
    try:
        budget.hold(client, size)()
    except Problem as problem:
        return (problem.type.status, problem.headers) == (503, {"Retry-After": "1"})
    return False


def test_a_client_has_half_and_leaves_the_rest_to_others() -> None:
    """The bodies of one client take no memory from another."""
    budget = BodyBudget(100, 10)
    budget.hold("shop", 50)

    assert refused(budget, "shop", 1)
    assert not refused(budget, "bank", 50)


def test_all_clients_together_have_the_total() -> None:
    """The bodies of all clients together stay within the total."""
    budget = BodyBudget(100, 10)
    for client in ("shop", "bank", "club"):
        budget.hold(client, 33)

    assert refused(budget, "choir", 2)
    assert not refused(budget, "choir", 1)


def test_an_answered_request_makes_room() -> None:
    """A body counts until its request is answered, and no longer."""
    budget = BodyBudget(100, 10)
    release = budget.hold("shop", 50)
    assert refused(budget, "shop", 10)

    release()

    assert not refused(budget, "shop", 50)


@pytest.mark.parametrize("total", [1, 60, 100])
def test_one_body_of_the_largest_size_always_fits(total: int) -> None:
    """A budget that is set too small still accepts a body of the largest size."""
    assert not refused(BodyBudget(total, 80), "shop", 80)
